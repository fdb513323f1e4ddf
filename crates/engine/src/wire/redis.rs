//! The commands of Redis clients, and of the command line. Keys are `group:key`.
//!
//! What memory answers is answered at once; the rest is asked of the node's Python, and the connection waits for it.
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use super::{
    clients::{Answered, ClientReply, ClientRequest, KEY},
    commands::{Arguments, Groups, Next, Output, Pending, Session, shown},
    grpc::{Incoming, Refusal},
    resp,
};
use crate::{events::Events, memory::Memory};

/// Bytes of the values that one MGET answers.
const REPLY: usize = 64 << 20;

/// A command as `COMMAND` tells of it.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// With the name; negative: at least so many.
    pub arity: i64,
    /// Positions of the first and last key, and the step between.
    keys: [i64; 3],
    flag: &'static str,
    summary: &'static str,
}

const fn command(name: &'static str, arity: i64, last: i64, flag: &'static str, summary: &'static str) -> Command {
    let keys = if last == 0 { [0, 0, 0] } else { [1, last, 1] };
    Command {
        name,
        arity,
        keys,
        flag,
        summary,
    }
}

/// Everything understood here.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("get", 2, 1, "readonly", "The value of group:key, loaded where it is not in memory"),
    command("mget", -2, -1, "readonly", "The values of several group:key"),
    command("set", -3, 1, "write", "Set group:key for the whole cluster, with EX seconds or PX milliseconds"),
    command("del", -2, -1, "write", "Delete group:key everywhere; answers how many keys were named"),
    command("exists", -2, -1, "readonly", "How many of these group:key are in their owners' memory"),
    command("ttl", 2, 1, "readonly", "Seconds left to group:key in its owner's memory"),
    command("pttl", 2, 1, "readonly", "Milliseconds left to group:key in its owner's memory"),
    command("ping", -1, 0, "fast", "Whether the engine answers"),
    command("echo", 2, 0, "fast", "Give back the text"),
    command("hello", -1, 0, "fast", "Choose version 2 or 3 of the protocol"),
    command("auth", -2, 0, "fast", "Give the password"),
    command("info", -1, 0, "readonly", "This node, as text"),
    command("client", -2, 0, "fast", "SETINFO, SETNAME, GETNAME, ID, INFO: this connection"),
    command("command", -1, 0, "fast", "COUNT, LIST, INFO, DOCS: the commands understood here"),
    command("select", 2, 0, "fast", "Database 0, the only one"),
    command("quit", -1, 0, "fast", "End the connection"),
    command("kc.get", -3, 0, "readonly", "A key's copy in this node's memory, for other nodes"),
    command("kc.mget", -3, 0, "readonly", "Several copies in this node's memory, for other nodes"),
    command("kc.mpeek", -3, 0, "readonly", "KC.MGET, also for what this node no longer owns"),
    command("kc.ping", 1, 0, "fast", "Whether the engine answers"),
    command("kc.info", 1, 0, "admin", "This node, as JSON"),
    command("kc.members", 1, 0, "admin", "The members as this node sees them, as JSON"),
    command("kc.owner", 3, 0, "admin", "The owner and the candidates of a group's key, as JSON"),
    command("kc.stats", -1, 0, "admin", "The counters of all groups here, or of one, as JSON"),
    command("kc.clear", 2, 0, "admin", "Clear a group on every node; answers JSON: whether all confirmed"),
];

/// How an answer that came later is written.
#[derive(Debug)]
pub enum Then {
    Value,
    /// What memory had (Some(None): absent); the answer fills the gaps.
    Values(Vec<Option<Option<Bytes>>>),
    Ok,
    Number,
    Seconds,
}

impl Output {
    fn simple(&mut self, text: &str) -> Next {
        self.bytes.extend_from_slice(format!("+{text}\r\n").as_bytes());
        Next::Done
    }

    fn refuse(&mut self, text: &str) -> Next {
        self.error(text);
        Next::Done
    }

    fn text(&mut self, text: &str) {
        resp::put(&mut self.bytes, text.as_bytes());
    }

    fn number(&mut self, number: i64) -> Next {
        resp::line(&mut self.bytes, b':', number);
        Next::Done
    }

    fn array(&mut self, length: usize) {
        resp::line(&mut self.bytes, b'*', length as i64);
    }
}

/// Whether a command is to be executed; else it was answered. There is no password: who gives one is told so, in the
/// words of Redis.
pub fn admits(arguments: Arguments<'_>, out: &mut Output) -> bool {
    let is = |n, word: &[u8]| arguments.get(n).is_some_and(|given| given.eq_ignore_ascii_case(word));
    let gives = is(0, b"AUTH") || is(0, b"HELLO") && (2..arguments.count()).any(|n| is(n, b"AUTH"));
    if gives {
        out.error(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?",
        );
    }
    !gives
}

/// The group and the key that `group:key` names.
fn find<'a>(name: &'a [u8], groups: &Groups) -> Result<(Arc<dyn Memory>, &'a str), String> {
    let (group, key) = match name.iter().position(|&byte| byte == b':') {
        Some(colon) => (&name[..colon], &name[colon + 1..]),
        None => return Err(format!("NOGROUP '{}' names no group: keys are group:key", shown(name))),
    };
    let memory = std::str::from_utf8(group)
        .ok()
        .and_then(|group| groups.lock().get(group).cloned());
    let Some(memory) = memory else {
        return Err(format!("NOGROUP no group '{}' here", shown(group)));
    };
    match std::str::from_utf8(key) {
        Ok(key) if (1..=KEY).contains(&key.len()) => Ok((memory, key)),
        _ => Err("ERR InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8".into()),
    }
}

/// What a client asks of this node, and where it goes.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub arguments: Arguments<'a>,
    pub groups: &'a Groups,
    pub events: &'a Events,
}

impl<'a> Asking<'a> {
    fn later(&self, then: Then, request: ClientRequest) -> Next {
        let (incoming, answer) = Incoming::client(request);
        self.events.call(incoming);
        Next::Wait(Pending { answer, then })
    }

    /// All arguments from `first` on as names of keys.
    fn keys(&self, first: usize) -> Result<Vec<(Arc<dyn Memory>, &'a str)>, String> {
        self.arguments.from(first).map(|name| find(name, self.groups)).collect()
    }

    fn keys_later(&self, command: &'static str, then: Then, out: &mut Output) -> Next {
        match self.keys(1) {
            Err(text) => out.refuse(&text),
            Ok(keys) => {
                let keys = keys.into_iter().map(owned).collect();
                self.later(
                    then,
                    ClientRequest {
                        command,
                        keys,
                        ..ClientRequest::default()
                    },
                )
            }
        }
    }
}

fn owned((memory, key): (Arc<dyn Memory>, &str)) -> (String, String) {
    (memory.name().to_owned(), key.to_owned())
}

impl Session {
    /// Answers a command of the table above, its number of arguments checked.
    pub(super) fn client_command(&mut self, command: &'static Command, asking: Asking<'_>, out: &mut Output) -> Next {
        let arguments = asking.arguments;
        match command.name {
            "get" => self.client_get(asking, out),
            "mget" => self.client_get_many(asking, out),
            "set" => set(asking, out),
            "del" => asking.keys_later("del", Then::Number, out),
            "exists" => asking.keys_later("exists", Then::Number, out),
            "ttl" => asking.keys_later("ttl", Then::Seconds, out),
            "pttl" => asking.keys_later("ttl", Then::Number, out),
            "ping" if arguments.count() > 2 => wrong_number(command, out),
            "ping" | "echo" => match arguments.get(1) {
                None => out.simple("PONG"),
                Some(text) => {
                    resp::put(&mut out.bytes, text);
                    Next::Done
                }
            },
            "kc.ping" => out.simple("PONG"),
            "hello" => self.hello(arguments, out),
            "info" => {
                out.text(&info(asking.groups));
                Next::Done
            }
            "client" => self.client(arguments, out),
            "command" => self.command(arguments, out),
            "select" if arguments.get(1) == Some(b"0") => out.simple("OK"),
            "select" => out.refuse("ERR DB index is out of range: there is database 0 alone"),
            "quit" => {
                out.simple("OK");
                Next::Close
            }
            "kc.stats" if arguments.count() > 2 => wrong_number(command, out),
            name if name.starts_with("kc.") => match arguments.texts(1) {
                Err(_) => out.refuse("ERR arguments are UTF-8"),
                Ok(arguments) => {
                    let request = ClientRequest {
                        command: name,
                        arguments,
                        ..ClientRequest::default()
                    };
                    asking.later(Then::Value, request)
                }
            },
            name => out.refuse(&format!("ERR unknown command '{name}'")), // AUTH: see admits
        }
    }

    /// Writes an answer that came later.
    pub fn answer(&self, then: Then, answered: Answered, out: &mut Output) {
        let ClientReply { values, number } = match answered {
            Ok(reply) => reply,
            Err(refused) => return out.error(&format!("{} {}", code(refused.refusal), refused.text)),
        };
        let mut values = values.into_iter();
        match then {
            Then::Value => self.value(values.next().flatten(), out),
            Then::Values(found) => {
                let all = found
                    .into_iter()
                    .map(|value| value.unwrap_or_else(|| values.next().flatten()));
                self.values(all.collect(), out);
            }
            Then::Ok => drop(out.simple("OK")),
            Then::Number => drop(out.number(number)),
            Then::Seconds if number < 0 => drop(out.number(number)),
            Then::Seconds => drop(out.number(number.saturating_add(500) / 1000)), // as Redis rounds
        }
    }

    fn nil(&self, out: &mut Output) {
        out.bytes
            .extend_from_slice(if self.protocol == 3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    fn value(&self, value: Option<Bytes>, out: &mut Output) {
        match value {
            None => self.nil(out),
            Some(value) => out.bulk(&value, || value.clone()),
        }
    }

    fn values(&self, values: Vec<Option<Bytes>>, out: &mut Output) {
        if values.iter().flatten().map(Bytes::len).sum::<usize>() > REPLY {
            return out.error("ERR these values are over 64 MiB: ask for fewer keys at a time");
        }
        out.array(values.len());
        for value in values {
            self.value(value, out);
        }
    }

    fn map(&self, entries: usize, out: &mut Output) {
        if self.protocol == 3 {
            resp::line(&mut out.bytes, b'%', entries as i64);
        } else {
            out.array(2 * entries);
        }
    }

    fn client_get(&mut self, asking: Asking<'_>, out: &mut Output) -> Next {
        let (memory, key) = match asking.arguments.get(1).map(|name| find(name, asking.groups)) {
            Some(Ok(found)) => found,
            Some(Err(text)) => return out.refuse(&text),
            None => return Next::Done,
        };
        let mut here = true;
        memory.get(key, &mut |found| match found {
            Some(Some(value)) => out.bulk(value.bytes(), || value.keep()),
            Some(None) => self.nil(out),
            None => here = false,
        });
        if here {
            return Next::Done;
        }
        let keys = vec![owned((memory, key))];
        asking.later(
            Then::Value,
            ClientRequest {
                command: "get",
                keys,
                ..ClientRequest::default()
            },
        )
    }

    fn client_get_many(&mut self, asking: Asking<'_>, out: &mut Output) -> Next {
        let keys = match asking.keys(1) {
            Ok(keys) => keys,
            Err(text) => return out.refuse(&text),
        };
        let (mut found, mut missing) = (Vec::with_capacity(keys.len()), Vec::new());
        for (memory, key) in keys {
            let mut value = None;
            memory.get(key, &mut |here| value = here.map(|here| here.map(|held| held.keep())));
            if value.is_none() {
                missing.push(owned((memory, key)));
            }
            found.push(value);
        }
        if missing.is_empty() {
            self.values(found.into_iter().flatten().collect(), out);
            return Next::Done;
        }
        let request = ClientRequest {
            command: "get",
            keys: missing,
            ..ClientRequest::default()
        };
        asking.later(Then::Values(found), request)
    }

    fn hello(&mut self, arguments: Arguments<'_>, out: &mut Output) -> Next {
        let protocol = match arguments.get(1) {
            None => self.protocol,
            Some(b"2") => 2,
            Some(b"3") => 3,
            Some(_) => return out.refuse("NOPROTO unsupported protocol version"),
        };
        let (mut at, mut name) = (2, None);
        while let Some(option) = arguments.get(at) {
            if option.eq_ignore_ascii_case(b"AUTH") && arguments.get(at + 2).is_some() {
                at += 3; // taken in by `admits`
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

    fn client(&mut self, arguments: Arguments<'_>, out: &mut Output) -> Next {
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

    fn command(&self, arguments: Arguments<'_>, out: &mut Output) -> Next {
        let asked = arguments.get(1).unwrap_or_default().to_ascii_uppercase();
        let named = || -> Vec<_> {
            let names: Vec<_> = arguments.from(2).collect();
            let find = |name: &&[u8]| COMMANDS.iter().find(|command| command.is(name));
            if names.is_empty() {
                COMMANDS.iter().map(Some).collect()
            } else {
                names.iter().map(find).collect()
            }
        };
        match asked.as_slice() {
            b"" | b"INFO" => {
                let commands = named();
                out.array(commands.len());
                for command in commands {
                    match command {
                        None => self.nil(out),
                        Some(command) => command.tell(out),
                    }
                }
                Next::Done
            }
            b"COUNT" => out.number(COMMANDS.len() as i64),
            b"LIST" => {
                out.array(COMMANDS.len());
                COMMANDS.iter().for_each(|command| out.text(command.name));
                Next::Done
            }
            b"DOCS" => {
                let commands: Vec<_> = named().into_iter().flatten().collect();
                self.map(commands.len(), out);
                for command in commands {
                    out.text(command.name);
                    self.map(2, out);
                    for text in ["summary", command.summary, "group", "kamacache"] {
                        out.text(text);
                    }
                }
                Next::Done
            }
            asked => out.refuse(&format!("ERR COMMAND {} is not supported here", shown(asked))),
        }
    }
}

impl Command {
    pub(super) fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
    }

    pub(super) fn takes(&self, given: usize) -> bool {
        if self.arity < 0 {
            given as i64 >= -self.arity
        } else {
            given as i64 == self.arity
        }
    }

    fn tell(&self, out: &mut Output) {
        out.array(10);
        out.text(self.name);
        out.number(self.arity);
        out.array(1);
        out.simple(self.flag);
        for position in self.keys {
            out.number(position);
        }
        for _ in ["categories", "tips", "key specifications", "subcommands"] {
            out.array(0);
        }
    }
}

pub(super) fn wrong_number(command: &Command, out: &mut Output) -> Next {
    out.refuse(&format!("ERR wrong number of arguments for '{}' command", command.name))
}

fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Overloaded => "OVERLOADED",
        Refusal::UnknownGroup => "NOGROUP",
        Refusal::Closed => "CLOSED",
        Refusal::Load => "LOADERR",
        Refusal::Internal | Refusal::Invalid => "ERR",
    }
}

fn set(asking: Asking<'_>, out: &mut Output) -> Next {
    let arguments = asking.arguments;
    let (Some(name), Some(value)) = (arguments.get(1), arguments.get(2)) else {
        return Next::Done;
    };
    let (mut at, mut ttl_ms) = (3, None);
    while let Some(option) = arguments.get(at) {
        let factor = match option.to_ascii_uppercase().as_slice() {
            b"EX" => 1000,
            b"PX" => 1,
            _ => return out.refuse(&format!("ERR SET with '{}' is not supported here", shown(option))),
        };
        let Some(time) = arguments.get(at + 1) else {
            return out.refuse("ERR syntax error");
        };
        let Some(time) = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok()) else {
            return out.refuse("ERR value is not an integer or out of range");
        };
        match time.checked_mul(factor) {
            Some(ms) if ms > 0 && ttl_ms.is_none() => ttl_ms = Some(ms),
            Some(ms) if ms > 0 => return out.refuse("ERR syntax error"),
            _ => return out.refuse("ERR invalid expire time in 'set' command"),
        }
        at += 2;
    }
    match find(name, asking.groups) {
        Err(text) => out.refuse(&text),
        Ok(found) => {
            let request = ClientRequest {
                command: "set",
                keys: vec![owned(found)],
                value: Some(Bytes::copy_from_slice(value)),
                ttl_ms,
                arguments: Vec::new(),
            };
            asking.later(Then::Ok, request)
        }
    }
}

fn info(groups: &Groups) -> String {
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
