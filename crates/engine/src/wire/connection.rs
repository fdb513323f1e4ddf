//! What Redis clients say and ask of a connection: HELLO, CLIENT, MULTI; and INFO.
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    commands::{Arguments, Groups, Next, Output, Session, shown},
    resp,
    table::Command,
};

impl Session {
    /// Answers MULTI, EXEC and DISCARD, and whatever stands between them. Keys of one transaction may have several
    /// owners, so there are none; but half of one would be worse than an error: clients send it in one go, and EXEC
    /// is refused as Redis does it after a command that cannot be queued.
    pub(super) fn transaction(&mut self, command: &Command, out: &mut Output) -> Option<Next> {
        Some(match (command.name, self.transaction) {
            ("multi", false) => {
                self.transaction = true;
                out.simple("OK")
            }
            ("multi", true) => out.refuse("ERR MULTI calls can not be nested"),
            ("exec" | "discard", false) => out.refuse(&format!("ERR {} without MULTI", command.name.to_uppercase())),
            ("exec", true) => {
                self.transaction = false;
                out.refuse("EXECABORT transactions are not supported here: nothing of this one was executed")
            }
            ("discard", true) => {
                self.transaction = false;
                out.simple("OK")
            }
            ("quit", _) | (_, false) => return None,
            (_, true) => out.refuse("ERR transactions are not supported here: use a pipeline without MULTI"),
        })
    }

    pub(super) fn hello(&mut self, arguments: Arguments<'_>, out: &mut Output) -> Next {
        let protocol = match arguments.get(1) {
            None => self.protocol,
            Some(b"2") => 2,
            Some(b"3") => 3,
            Some(_) => return out.refuse("NOPROTO unsupported protocol version"),
        };
        let (mut at, mut name) = (2, None);
        while let Some(option) = arguments.get(at) {
            if option.eq_ignore_ascii_case(b"AUTH") && arguments.get(at + 2).is_some() {
                at += 3; // taken in by the guard
            } else if option.eq_ignore_ascii_case(b"SETNAME") && arguments.get(at + 1).is_some() {
                name = arguments.get(at + 1);
                at += 2;
            } else {
                return out.refuse(&format!("ERR Syntax error in HELLO option '{}'", shown(option)));
            }
        }
        if let Some(name) = name
            && let Err(text) = self.set_name(name)
        {
            return out.refuse(text);
        }
        self.protocol = protocol;
        self.map(7, out);
        for (field, value) in [("server", "kamacache"), ("version", env!("CARGO_PKG_VERSION"))] {
            out.text(field);
            out.text(value);
        }
        out.text("proto");
        out.number(i64::from(protocol));
        out.text("id");
        out.number(self.id());
        for (field, value) in [("mode", "standalone"), ("role", "master")] {
            out.text(field);
            out.text(value);
        }
        out.text("modules");
        out.array(0);
        Next::Done
    }

    fn id(&mut self) -> i64 {
        static IDS: AtomicU64 = AtomicU64::new(1);
        if self.id == 0 {
            self.id = IDS.fetch_add(1, Ordering::Relaxed);
        }
        self.id as i64
    }

    fn set_name(&mut self, name: &[u8]) -> Result<(), &'static str> {
        if name.len() > 256 || !name.iter().all(u8::is_ascii_graphic) {
            return Err("ERR Client names are at most 256 bytes, without spaces, newlines or special characters");
        }
        self.name = name.to_vec();
        Ok(())
    }

    pub(super) fn client(&mut self, arguments: Arguments<'_>, out: &mut Output) -> Next {
        let asked = arguments.get(1).unwrap_or_default();
        match (asked.to_ascii_uppercase().as_slice(), arguments.count()) {
            (b"SETINFO", 4) => out.simple("OK"),
            (b"SETNAME", 3) => match self.set_name(arguments.get(2).unwrap_or_default()) {
                Ok(()) => out.simple("OK"),
                Err(text) => out.refuse(text),
            },
            (b"GETNAME", 2) => {
                if self.name.is_empty() {
                    self.nil(out);
                } else {
                    resp::put(&mut out.bytes, &self.name);
                }
                Next::Done
            }
            (b"ID", 2) => {
                let id = self.id();
                out.number(id)
            }
            (b"INFO", 2) => {
                let (id, name) = (self.id(), String::from_utf8_lossy(&self.name));
                out.text(&format!("id={id} name={name} db=0 resp={}\n", self.protocol));
                Next::Done
            }
            _ => out.refuse(&format!(
                "ERR CLIENT {} with {} arguments is not supported here",
                shown(asked),
                arguments.count() - 2
            )),
        }
    }
}

pub(super) fn info(groups: &Groups) -> String {
    let mut names: Vec<_> = groups.lock().keys().cloned().collect();
    names.sort();
    format!(
        "# Server\r\nkamacache_version:{}\r\nredis_mode:standalone\r\nprocess_id:{}\r\n\
         # Groups\r\ngroups:{}\r\nnames:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        names.len(),
        names.join(",")
    )
}
