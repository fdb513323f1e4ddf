//! RESP, the Redis serialization protocol: requests (arrays of bulk strings) and the replies that peers give.
//!
//! Both parsers hold nothing but positions: a claimed length is checked against its cap and then waited for, memory is
//! taken only by bytes that have arrived, and no byte is looked at twice however a message is split.
use std::ops::Range;

/// Bytes that cannot be RESP, or exceed a cap. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolError(pub &'static str);

/// The alert of a port with TLS.
pub const ENCRYPTED: ProtocolError = ProtocolError("this port wants TLS, and this node was given none");

/// What a request may claim.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Arguments of one command.
    pub arguments: usize,
    /// Bytes of one argument.
    pub argument: usize,
    /// Bytes of one command.
    pub command: usize,
}

/// The longest `<type><number>\r\n` accepted.
const LINE: usize = 32;

/// `-?digits\r\n` from `at` on: the number and where the line ends; None while it has not arrived.
fn number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &input[at.min(input.len())..];
    let Some(end) = rest.iter().take(LINE).position(|&byte| byte == b'\r') else {
        return if rest.len() >= LINE {
            Err(ProtocolError("too long a number"))
        } else {
            Ok(None)
        };
    };
    let (negative, digits) = match rest[..end].split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, &rest[..end]),
    };
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ProtocolError("not a number"));
    }
    let value = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    match rest.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((if negative { -value } else { value }, at + end + 2))),
        Some(_) => Err(ProtocolError("a line ends with CR LF")),
    }
}

/// Reads commands out of a growing buffer.
#[derive(Debug)]
pub struct Parser {
    limits: Limits,
    /// Everything before this position is understood.
    at: usize,
    /// Arguments still to come; None before the array's header.
    left: Option<usize>,
    arguments: Vec<Range<usize>>,
}

impl Parser {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: 0,
            left: None,
            arguments: Vec::new(),
        }
    }

    /// Other limits, from the next command on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Looks for a whole command at the start of `input`, which since the last call may only have grown; on true
    /// `arguments` are it. Then call `finish` and drop as many bytes from the front of the input.
    pub fn parse(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                match input.first() {
                    None => return Ok(false),
                    Some(b'*') => {}
                    Some(_) => return Err(ProtocolError("expected an array")),
                }
                let Some((count, at)) = number(input, 1)? else {
                    return Ok(false);
                };
                if !(0..=self.limits.arguments as i64).contains(&count) {
                    return Err(ProtocolError("too many arguments"));
                }
                self.at = at;
                *self.left.insert(count as usize)
            }
        };
        while left > 0 {
            match input.get(self.at) {
                None => return Ok(false),
                Some(b'$') => {}
                Some(_) => return Err(ProtocolError("expected a bulk string")),
            }
            let Some((length, start)) = number(input, self.at + 1)? else {
                return Ok(false);
            };
            if !(0..=self.limits.argument as i64).contains(&length) {
                return Err(ProtocolError("too long an argument"));
            }
            let end = start + length as usize;
            if end + 2 > self.limits.command {
                return Err(ProtocolError("too long a command"));
            }
            match input.get(end..end + 2) {
                None => return Ok(false),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError("a bulk string ends with CR LF")),
            }
            self.arguments.push(start..end);
            self.at = end + 2;
            left -= 1;
            self.left = Some(left);
        }
        Ok(true)
    }

    /// The arguments of the command found, as positions in the input.
    pub fn arguments(&self) -> &[Range<usize>] {
        &self.arguments
    }

    /// Makes ready for the next command: how many bytes the last one had.
    pub fn finish(&mut self) -> usize {
        self.left = None;
        self.arguments.clear();
        std::mem::take(&mut self.at)
    }
}

/// The copy of a key in a peer's memory: positions of its bytes in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// None: known to be absent.
    pub value: Option<Range<usize>>,
    pub version: u128,
    /// -1: never expires.
    pub remaining_ms: i64,
    /// `HOT`, `ABSENT`.
    pub flags: u8,
}

pub const HOT: u8 = 1;
pub const ABSENT: u8 = 2;
/// In a packed answer: something is here.
const FOUND: u8 = 4;

/// What a peer replied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Nothing,
    Simple(Range<usize>),
    Error(Range<usize>),
    Found(Answer),
    Packed(Range<usize>),
}

/// The longest simple string or error accepted.
const TEXT: usize = 512;

/// A whole reply at the start of `input` and its length, or (Err) the bytes that are needed to go on.
pub type Parsed = Result<(Reply, usize), usize>;

/// Looks for a whole reply of at most `cap` bytes at the start of `input`.
pub fn reply(input: &[u8], cap: usize) -> Result<Parsed, ProtocolError> {
    let more = Ok(Err(input.len() + 1));
    match input.first() {
        None => more,
        Some(b'+' | b'-') => match input.iter().take(TEXT).position(|&byte| byte == b'\r') {
            Some(end) if input.get(end + 1) == Some(&b'\n') => {
                let text = if input[0] == b'+' {
                    Reply::Simple(1..end)
                } else {
                    Reply::Error(1..end)
                };
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

/// The four elements of a KC.GET's answer.
fn answer(input: &[u8], at: usize, cap: usize) -> Result<Parsed, ProtocolError> {
    let (value, at) = match bulk(input, at, cap)? {
        Ok(found) => found,
        Err(need) => return Ok(Err(need)),
    };
    let (version, at) = match bulk(input, at, 16)? {
        Ok((version, at)) => (&input[version.unwrap_or(0..0)], at),
        Err(need) => return Ok(Err(need)),
    };
    let version = u128::from_be_bytes(
        version
            .try_into()
            .map_err(|_| ProtocolError("a version has 16 bytes"))?,
    );
    let Some((remaining_ms, at)) = integer(input, at)? else {
        return Ok(Err(input.len() + 1));
    };
    let Some((flags, end)) = integer(input, at)? else {
        return Ok(Err(input.len() + 1));
    };
    let flags = (flags & 0xff) as u8;
    Ok(Ok((
        Reply::Found(Answer {
            value,
            version,
            remaining_ms,
            flags,
        }),
        end,
    )))
}

/// Reads the answers packed in a KC.MGET's bulk string, in the order asked; positions count from the start of `packed`.
#[derive(Debug)]
pub struct Unpack<'a> {
    packed: &'a [u8],
    at: usize,
}

impl<'a> Unpack<'a> {
    pub fn new(packed: &'a [u8]) -> Self {
        Self { packed, at: 0 }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let bytes = self
            .packed
            .get(self.at..self.at + N)
            .ok_or(ProtocolError("a packed answer is cut"))?;
        self.at += N;
        Ok(bytes.try_into().expect("as long as asked"))
    }

    /// The next answer; None: nothing there.
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
        Ok(Some(Answer {
            value,
            version,
            remaining_ms,
            flags: state & !FOUND,
        }))
    }

    /// Whether everything was read.
    pub fn is_done(&self) -> bool {
        self.at == self.packed.len()
    }
}

/// A packed answer up to its value: its state, version, remaining time and the value's length.
pub fn pack(out: &mut Vec<u8>, version: u128, remaining_ms: i64, flags: u8, length: Option<usize>) {
    out.push(FOUND | flags);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&remaining_ms.to_be_bytes());
    if let Some(length) = length {
        out.extend_from_slice(&(length as u32).to_be_bytes());
    }
}

/// A packed "nothing here".
pub fn pack_nothing(out: &mut Vec<u8>) {
    out.push(0);
}

/// `<kind><number>\r\n`.
pub fn line(out: &mut Vec<u8>, kind: u8, number: i64) {
    use std::io::Write;
    out.push(kind);
    if (0..10).contains(&number) {
        out.push(b'0' + number as u8);
    } else {
        let _ = write!(out, "{number}"); // a Vec takes every byte
    }
    out.extend_from_slice(b"\r\n");
}

/// A bulk string.
pub fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A peer's question: KC.GET for one key, else KC.MGET; with `former` also for what is no longer owned.
pub fn ask<'k>(out: &mut Vec<u8>, group: &str, keys: impl ExactSizeIterator<Item = &'k str>, former: bool) {
    let single = keys.len() == 1;
    line(out, b'*', (keys.len() + 2 + usize::from(single && former)) as i64);
    put(
        out,
        if single {
            b"KC.GET"
        } else if former {
            b"KC.MPEEK"
        } else {
            b"KC.MGET"
        },
    );
    put(out, group.as_bytes());
    for key in keys {
        put(out, key.as_bytes());
    }
    if single && former {
        put(out, b"PEEK");
    }
}

/// Says the password.
pub fn auth(out: &mut Vec<u8>, password: &str) {
    line(out, b'*', 2);
    put(out, b"AUTH");
    put(out, password.as_bytes());
}

/// Asks whether the engine answers; the reply is `PONG`.
pub const PING: &[u8] = b"*1\r\n$7\r\nKC.PING\r\n";
