//! What RESP commands do. Those of peers answer from memory, at once; those of clients are in redis.rs.
use std::{collections::HashMap, ops::Range, sync::Arc};

use crate::sync::Mutex;
use bytes::Bytes;

use tokio::sync::oneshot;

use super::{
    clients::Answered,
    redis::{Asking, Then},
    resp::{self, ABSENT, HOT},
    table,
};
use crate::{
    events::Events,
    memory::{Found, Memory},
};

/// The groups served here, by name.
pub type Groups = Mutex<HashMap<String, Arc<dyn Memory>>>;

/// From this size on a value is sent from where it lies instead of being copied into the buffer.
const LARGE: usize = 16 * 1024;
/// A packed reply says "nothing here" of the rest once it has grown to this size.
const PACKED: usize = 64 << 20;

/// Replies that wait to be written: bytes, with large values between them.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// Large values, each with its position in `bytes`.
    pub large: Vec<(usize, Bytes)>,
    large_size: usize,
}

impl Output {
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large_size
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.large.clear();
        self.large_size = 0;
    }

    /// Bytes, copied unless they are many; then `keep` holds them.
    fn value(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) {
        if bytes.len() < LARGE {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.large_size += bytes.len();
            self.large.push((self.bytes.len(), keep()));
        }
    }

    pub(super) fn bulk(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) {
        resp::line(&mut self.bytes, b'$', bytes.len() as i64);
        self.value(bytes, keep);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub(super) fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.large
            .extend(other.large.drain(..).map(|(at, value)| (base + at, value)));
        self.large_size += other.large_size;
        other.clear();
    }

    pub(super) fn simple(&mut self, text: &str) -> Next {
        self.bytes.extend_from_slice(format!("+{text}\r\n").as_bytes());
        Next::Done
    }

    pub(super) fn refuse(&mut self, text: &str) -> Next {
        self.error(text);
        Next::Done
    }

    pub(super) fn text(&mut self, text: &str) {
        resp::put(&mut self.bytes, text.as_bytes());
    }

    pub(super) fn number(&mut self, number: i64) -> Next {
        resp::line(&mut self.bytes, b':', number);
        Next::Done
    }

    pub(super) fn array(&mut self, length: usize) {
        resp::line(&mut self.bytes, b'*', length as i64);
    }

    pub fn error(&mut self, text: &str) {
        self.bytes.push(b'-');
        self.bytes.extend(
            text.bytes()
                .map(|byte| if byte.is_ascii_control() { b' ' } else { byte }),
        );
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// What a connection remembers between commands.
#[derive(Debug)]
pub struct Session {
    packed: Output,
    /// Version 2 or 3 of the protocol, for answers to clients; peers speak 2.
    pub(super) protocol: u8,
    pub(super) name: Vec<u8>,
    /// 0: nobody has asked for it.
    pub(super) id: u64,
    /// Between MULTI and EXEC, where nothing is executed.
    pub(super) transaction: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            packed: Output::default(),
            protocol: 2,
            name: Vec::new(),
            id: 0,
            transaction: false,
        }
    }
}

/// How a connection goes on after a command.
#[derive(Debug)]
pub enum Next {
    Done,
    /// Its answer is the last one.
    Close,
    /// Its answer comes later. Nothing after it is answered before.
    Wait(Pending),
}

/// An answer to come, and how it is written.
#[derive(Debug)]
pub struct Pending {
    pub answer: oneshot::Receiver<Answered>,
    pub then: Then,
}

/// A command's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    pub input: &'a [u8],
    pub ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub(super) fn get(&self, n: usize) -> Option<&'a [u8]> {
        self.ranges.get(n).map(|range| &self.input[range.clone()])
    }

    /// The name included.
    pub(super) fn count(&self) -> usize {
        self.ranges.len()
    }

    pub(super) fn texts(&self, n: usize) -> Result<Vec<String>, std::str::Utf8Error> {
        self.from(n)
            .map(|text| std::str::from_utf8(text).map(str::to_owned))
            .collect()
    }

    pub(super) fn from(&self, n: usize) -> impl Iterator<Item = &'a [u8]> {
        let input = self.input;
        self.ranges.iter().skip(n).map(move |range| &input[range.clone()])
    }
}

impl Session {
    /// Answers one command, or says how it goes on.
    pub fn execute(&mut self, arguments: Arguments<'_>, groups: &Groups, events: &Events, out: &mut Output) -> Next {
        let Some(name) = arguments.get(0) else {
            return Next::Done;
        }; // an empty array asks nothing
        let Some(command) = table::COMMANDS.iter().find(|command| command.is(name)) else {
            out.error(&format!("ERR unknown command '{}'", shown(name)));
            return Next::Done;
        };
        if !command.takes(arguments.ranges.len()) {
            return table::wrong_number(command, out);
        }
        if let Some(next) = self.transaction(command, out) {
            return next;
        }
        match command.name {
            "kc.get" => {
                let former = match (arguments.get(3), arguments.get(4)) {
                    (None, _) => false,
                    (Some(flag), None) if flag.eq_ignore_ascii_case(b"PEEK") => true,
                    _ => {
                        out.error("ERR syntax error");
                        return Next::Done;
                    }
                };
                if let Some(memory) = group(arguments, groups, out) {
                    get(&*memory, arguments.input, &arguments.ranges[2], former, out);
                }
            }
            "kc.mget" => self.get_many(arguments, groups, false, out),
            "kc.mpeek" => self.get_many(arguments, groups, true, out),
            _ => {
                let asking = Asking {
                    arguments,
                    groups,
                    events,
                };
                return self.client_command(command, asking, out);
            }
        }
        Next::Done
    }

    pub(super) fn nil(&self, out: &mut Output) {
        out.bytes
            .extend_from_slice(if self.protocol == 3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub(super) fn map(&self, entries: usize, out: &mut Output) {
        if self.protocol == 3 {
            resp::line(&mut out.bytes, b'%', entries as i64);
        } else {
            out.array(2 * entries);
        }
    }

    fn get_many(&mut self, arguments: Arguments<'_>, groups: &Groups, former: bool, out: &mut Output) {
        let Some(memory) = group(arguments, groups, out) else {
            return;
        };
        let packed = &mut self.packed;
        for key in &arguments.ranges[2..] {
            let mut visit = |found: Option<Found<'_>>| match found {
                Some(found) if packed.len() + found.value.map_or(0, |value| value.bytes().len()) < PACKED => {
                    let length = found.value.map(|value| value.bytes().len());
                    resp::pack(
                        &mut packed.bytes,
                        found.version,
                        remaining(&found),
                        flags(&found),
                        length,
                    );
                    if let Some(value) = found.value {
                        packed.value(value.bytes(), || value.keep());
                    }
                }
                _ => resp::pack_nothing(&mut packed.bytes),
            };
            match std::str::from_utf8(&arguments.input[key.clone()]) {
                Ok(key) => memory.read(key, former, &mut visit),
                Err(_) => visit(None), // no key
            }
        }
        resp::line(&mut out.bytes, b'$', packed.len() as i64);
        out.append(packed);
        out.bytes.extend_from_slice(b"\r\n");
        if self.packed.bytes.capacity() > 1 << 20 {
            self.packed = Output::default();
        }
    }
}

/// A foreign name, short enough for an error's line.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(64)]).into_owned()
}

fn group(arguments: Arguments<'_>, groups: &Groups, out: &mut Output) -> Option<Arc<dyn Memory>> {
    let name = arguments.get(1)?;
    let found = std::str::from_utf8(name)
        .ok()
        .and_then(|name| groups.lock().get(name).cloned());
    if found.is_none() {
        out.error(&format!("NOGROUP no group '{}' here", shown(name)));
    }
    found
}

fn get(memory: &dyn Memory, input: &[u8], key: &Range<usize>, former: bool, out: &mut Output) {
    let Ok(key) = std::str::from_utf8(&input[key.clone()]) else {
        out.bytes.extend_from_slice(b"*-1\r\n");
        return;
    };
    memory.read(key, former, &mut |found| {
        let Some(found) = found else {
            out.bytes.extend_from_slice(b"*-1\r\n");
            return;
        };
        out.bytes.extend_from_slice(b"*4\r\n");
        match found.value {
            None => out.bytes.extend_from_slice(b"$-1\r\n"),
            Some(value) => out.bulk(value.bytes(), || value.keep()),
        }
        resp::put(&mut out.bytes, &found.version.to_be_bytes());
        resp::line(&mut out.bytes, b':', remaining(&found));
        resp::line(&mut out.bytes, b':', i64::from(flags(&found)));
    });
}

fn remaining(found: &Found<'_>) -> i64 {
    found.remaining_ms.map_or(-1, |ms| ms.min(i64::MAX as u64) as i64)
}

fn flags(found: &Found<'_>) -> u8 {
    (if found.hot { HOT } else { 0 }) | (if found.value.is_none() { ABSENT } else { 0 })
}
