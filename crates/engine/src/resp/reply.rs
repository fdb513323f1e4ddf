//! Requests of nodes to each other over RESP (proto/RESP.md), and the replies.
use std::ops::Range;

use super::codec::{ENCRYPTED, ProtocolError, line, number, put};

/// The copy of a key in a peer's memory: positions of its bytes in the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// None: known to be absent.
    pub value: Option<Range<usize>>,
    pub version: u128,
    /// -1: never expires.
    pub remaining_ms: i64,
    /// `HOT`, `ABSENT`.
    pub flags: u8,
    /// Milliseconds, if an entry was asked for.
    pub age_ms: u64,
}

pub const HOT: u8 = 1;
pub const ABSENT: u8 = 2;
/// In a packed answer: something is here.
const FOUND: u8 = 4;

/// What a peer replied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    Nothing,
    Simple(Range<usize>),
    Error(Range<usize>),
    Found(Answer),
    Packed(Range<usize>),
}

/// The longest simple string or error accepted.
const TEXT: usize = 512;

/// A whole reply at the start of the input and its length, or (Err) how many bytes the input needs to go on.
pub type Parsed = Result<(Reply, usize), usize>;

/// Looks for a whole reply of at most `cap` bytes at the start of `input`.
pub fn reply(input: &[u8], cap: usize) -> Result<Parsed, ProtocolError> {
    let more = Ok(Err(input.len() + 1));
    match input.first() {
        None => more,
        Some(b'+' | b'-') => match input.iter().take(TEXT).position(|&byte| byte == b'\r') {
            Some(end) if input.get(end + 1) == Some(&b'\n') => {
                let text = if input[0] == b'+' { Reply::Simple(1..end) } else { Reply::Error(1..end) };
                Ok(Ok((text, end + 2)))
            }
            Some(end) if end + 1 < input.len() => Err(ProtocolError("a line ends with CR LF")),
            None if input.len() >= TEXT => Err(ProtocolError("too long a line")),
            _ => more,
        },
        Some(b'$') => match bulk(input, 0, cap)? {
            Ok((Some(packed), end)) => Ok(Ok((Reply::Packed(packed), end))),
            Ok((None, _)) => Err(ProtocolError("unexpected nil")),
            Err(need) => Ok(Err(need)),
        },
        Some(b'*') => match number(input, 1)? {
            None => more,
            Some((-1, end)) => Ok(Ok((Reply::Nothing, end))),
            Some((4, at)) => answer(input, at, cap),
            Some(_) => Err(ProtocolError("unexpected array")),
        },
        Some(0x15) => Err(ENCRYPTED),
        Some(_) => Err(ProtocolError("unexpected reply")),
    }
}

/// A bulk string or nil at `at`, and where it ends.
type Bulk = Result<(Option<Range<usize>>, usize), usize>;

fn bulk(input: &[u8], at: usize, cap: usize) -> Result<Bulk, ProtocolError> {
    match input.get(at) {
        None => return Ok(Err(at + 1)),
        Some(b'$') => {}
        Some(_) => return Err(ProtocolError("expected a bulk string")),
    }
    match number(input, at + 1)? {
        None => Ok(Err(input.len() + 1)),
        Some((-1, start)) => Ok(Ok((None, start))),
        Some((length, start)) => {
            if !(0..=cap as i64).contains(&length) {
                return Err(ProtocolError("too long a bulk string"));
            }
            let end = start + length as usize;
            match input.get(end..end + 2) {
                None => Ok(Err(end + 2)),
                Some(b"\r\n") => Ok(Ok((Some(start..end), end + 2))),
                Some(_) => Err(ProtocolError("a bulk string ends with CR LF")),
            }
        }
    }
}

fn integer(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    match input.get(at) {
        None => Ok(None),
        Some(b':') => number(input, at + 1),
        Some(_) => Err(ProtocolError("expected an integer")),
    }
}

/// Reads the four elements of the answer to KC.GET.
fn answer(input: &[u8], at: usize, cap: usize) -> Result<Parsed, ProtocolError> {
    let (value, at) = match bulk(input, at, cap)? {
        Ok(found) => found,
        Err(need) => return Ok(Err(need)),
    };
    let (version, at) = match bulk(input, at, 16)? {
        Ok((version, at)) => (&input[version.unwrap_or(0..0)], at),
        Err(need) => return Ok(Err(need)),
    };
    let version = u128::from_be_bytes(version.try_into().map_err(|_| ProtocolError("a version has 16 bytes"))?);
    let Some((remaining_ms, at)) = integer(input, at)? else {
        return Ok(Err(input.len() + 1));
    };
    let Some((flags, end)) = integer(input, at)? else {
        return Ok(Err(input.len() + 1));
    };
    let (flags, age_ms) = ((flags & 0xff) as u8, flags as u64 >> 8);
    Ok(Ok((Reply::Found(Answer { value, version, remaining_ms, flags, age_ms }), end)))
}

/// Reads the answers packed in a KC.MGET's bulk string, in the order asked; positions count from the start of `packed`.
pub struct Unpack<'a> {
    packed: &'a [u8],
    at: usize,
}

impl<'a> Unpack<'a> {
    pub fn new(packed: &'a [u8]) -> Self {
        Self { packed, at: 0 }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let bytes = self.packed.get(self.at..self.at + N).ok_or(ProtocolError("a packed answer is cut"))?;
        self.at += N;
        Ok(bytes.try_into().expect("as long as asked"))
    }

    /// Returns the next answer; None: the key is not there.
    pub fn answer(&mut self) -> Result<Option<Answer>, ProtocolError> {
        let [state] = self.take()?;
        if state & FOUND == 0 {
            return Ok(None);
        }
        let version = u128::from_be_bytes(self.take()?);
        let remaining_ms = i64::from_be_bytes(self.take()?);
        let value = if state & ABSENT == 0 {
            let length = u32::from_be_bytes(self.take()?) as usize;
            let start = self.at;
            if length > self.packed.len() - start {
                return Err(ProtocolError("a packed answer is cut"));
            }
            self.at += length;
            Some(start..self.at)
        } else {
            None
        };
        Ok(Some(Answer { value, version, remaining_ms, flags: state & !FOUND, age_ms: 0 }))
    }

    /// Returns whether everything was read.
    pub fn is_done(&self) -> bool {
        self.at == self.packed.len()
    }
}

/// Writes a packed answer up to its value: state, version, remaining time and the value's length.
pub fn pack(out: &mut Vec<u8>, version: u128, remaining_ms: i64, flags: u8, length: Option<usize>) {
    out.push(FOUND | flags);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&remaining_ms.to_be_bytes());
    if let Some(length) = length {
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

/// Writes the packed answer that a key is not here.
pub fn pack_nothing(out: &mut Vec<u8>) {
    out.push(0);
}

/// The answers that a node may want of a key in a peer's memory.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Look {
    /// The copy that is as good as new.
    #[default]
    Copy = 0,
    /// The same, also if the peer no longer owns the key.
    Former = 1,
    /// The entry with its age, also if it is stale. One key only.
    Entry = 2,
    /// The same without its value, which is empty.
    Traits = 3,
}

impl Look {
    /// All of them, each in the place of its number.
    pub const ALL: [Self; 4] = [Self::Copy, Self::Former, Self::Entry, Self::Traits];

    /// Returns the last argument of KC.GET.
    pub fn word(self) -> Option<&'static str> {
        match self {
            Self::Copy => None,
            Self::Former => Some("PEEK"),
            Self::Entry => Some("ENTRY"),
            Self::Traits => Some("TRAITS"),
        }
    }
}

/// Writes the request to a peer's memory: KC.GET for one key, else KC.MGET or KC.MPEEK.
pub fn ask<'k>(out: &mut Vec<u8>, group: &str, keys: impl ExactSizeIterator<Item = &'k str>, look: Look) {
    let (command, word): (&[u8], _) = match (keys.len(), look) {
        (1, _) => (b"KC.GET", look.word()),
        (_, Look::Copy) => (b"KC.MGET", None),
        _ => (b"KC.MPEEK", None),
    };
    line(out, b'*', (keys.len() + 2 + usize::from(word.is_some())) as i64);
    put(out, command);
    put(out, group.as_bytes());
    for key in keys {
        put(out, key.as_bytes());
    }
    if let Some(word) = word {
        put(out, word.as_bytes());
    }
}

/// Writes a command with one argument.
pub fn send(out: &mut Vec<u8>, command: &str, message: &[u8]) {
    out.reserve(message.len() + 64);
    line(out, b'*', 2);
    put(out, command.as_bytes());
    put(out, message);
}

/// Writes what a node says first on a connection: the password, and the service that it believes to reach. Returns how
/// many replies come to that.
pub fn greet(out: &mut Vec<u8>, password: Option<&str>, service: &str) -> usize {
    let service = (!service.is_empty()).then_some(service);
    let said = [("AUTH", password), ("KC.SERVICE", service)].into_iter().filter_map(|(name, text)| Some((name, text?)));
    said.map(|(name, text)| send(out, name, text.as_bytes())).count()
}

/// Asks whether the engine answers. The reply is `PONG`.
pub const PING: &[u8] = b"*1\r\n$7\r\nKC.PING\r\n";
