//! What RESP commands do. Those of peers answer from memory, at once.
use std::{collections::HashMap, ops::Range, sync::Arc};

use crate::sync::Mutex;
use bytes::Bytes;

use super::resp::{self, ABSENT, HOT};
use crate::memory::{Found, Memory};

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

    fn value(&mut self, held: &dyn crate::memory::Held) {
        let bytes = held.bytes();
        if bytes.len() < LARGE {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.large_size += bytes.len();
            self.large.push((self.bytes.len(), held.keep()));
        }
    }

    fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.large
            .extend(other.large.drain(..).map(|(at, value)| (base + at, value)));
        self.large_size += other.large_size;
        other.clear();
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

/// A connection's scratch, kept between commands.
#[derive(Debug, Default)]
pub struct Session {
    packed: Output,
}

/// A command's arguments.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    pub input: &'a [u8],
    pub ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub fn get(&self, n: usize) -> Option<&'a [u8]> {
        self.ranges.get(n).map(|range| &self.input[range.clone()])
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

impl Session {
    /// Answers one command; false: the connection ends.
    pub fn execute(&mut self, arguments: Arguments<'_>, groups: &Groups, out: &mut Output) -> bool {
        let Some(name) = arguments.get(0) else { return true }; // an empty array asks nothing
        let given = arguments.ranges.len();
        if name.eq_ignore_ascii_case(b"KC.GET") && (3..=4).contains(&given) {
            let former = match arguments.get(3) {
                None => false,
                Some(flag) if flag.eq_ignore_ascii_case(b"PEEK") => true,
                Some(_) => {
                    out.error("ERR syntax error");
                    return true;
                }
            };
            if let Some(memory) = group(arguments, groups, out) {
                get(&*memory, arguments.input, &arguments.ranges[2], former, out);
            }
        } else if name.eq_ignore_ascii_case(b"KC.MGET") && given >= 3 {
            self.get_many(arguments, groups, false, out);
        } else if name.eq_ignore_ascii_case(b"KC.MPEEK") && given >= 3 {
            self.get_many(arguments, groups, true, out);
        } else if (name.eq_ignore_ascii_case(b"KC.PING") || name.eq_ignore_ascii_case(b"PING")) && given == 1 {
            out.bytes.extend_from_slice(b"+PONG\r\n");
        } else if name.eq_ignore_ascii_case(b"PING") && given == 2 {
            resp::put(&mut out.bytes, &arguments.input[arguments.ranges[1].clone()]);
        } else if name.eq_ignore_ascii_case(b"QUIT") {
            out.bytes.extend_from_slice(b"+OK\r\n");
            return false;
        } else if [&b"KC.GET"[..], b"KC.MGET", b"KC.MPEEK", b"KC.PING", b"PING"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            out.error(&format!(
                "ERR wrong number of arguments for '{}' command",
                shown(name).to_lowercase()
            ));
        } else {
            out.error(&format!("ERR unknown command '{}'", shown(name)));
        }
        true
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
                        packed.value(value);
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
fn shown(name: &[u8]) -> String {
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
            Some(value) => {
                resp::line(&mut out.bytes, b'$', value.bytes().len() as i64);
                out.value(value);
                out.bytes.extend_from_slice(b"\r\n");
            }
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
