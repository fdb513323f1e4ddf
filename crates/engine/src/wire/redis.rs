//! The commands of Redis clients, and of the command line. Keys are `group:key`.
//!
//! What memory answers is answered at once; the rest is asked of the node's Python, and waits in the connection's queue.
use std::sync::Arc;

use bytes::Bytes;

use super::{
    clients::{Answered, ClientReply, ClientRequest, KEY},
    commands::{Arguments, Groups, Next, Output, Pending, Session, shown},
    connection,
    grpc::{Incoming, Refusal},
    resp,
    table::{Command, wrong_number},
};
use crate::{events::Events, memory::Memory};

/// Bytes of the values that one MGET answers.
const REPLY: usize = 64 << 20;

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

type Key<'a> = (Arc<dyn Memory>, &'a str);

/// The group and the key that `group:key` names.
fn find<'a>(name: &'a [u8], groups: &Groups) -> Result<Key<'a>, String> {
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
    fn keys(&self, first: usize) -> Result<Vec<Key<'a>>, String> {
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

fn owned((memory, key): Key<'_>) -> (String, String) {
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
                out.text(&connection::info(asking.groups));
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
