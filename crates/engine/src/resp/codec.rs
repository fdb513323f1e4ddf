//! RESP, the Redis serialization protocol: its lines, and requests (arrays of bulk strings).
//!
//! The parsers hold only positions. A claimed length is checked against its cap and then awaited, only bytes that have
//! arrived take memory, and no byte is read twice however a message is split.
use std::ops::Range;

/// Bytes that are not RESP or exceed a cap. The connection cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolError(pub &'static str);

/// A port with TLS sent an alert.
pub const ENCRYPTED: ProtocolError = ProtocolError("this port wants TLS, and this node was given none");

/// The sizes that a request may claim.
#[derive(Clone, Copy)]
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
/// A parser keeps room for the positions of this many arguments.
const KEPT: usize = 1000;

/// Reads `-?digits\r\n` at `at`: the number, and where the line ends. None while it has not arrived.
pub(super) fn number(input: &[u8], at: usize) -> Result<Option<(i64, usize)>, ProtocolError> {
    let rest = &input[at.min(input.len())..];
    let Some(end) = rest.iter().take(LINE).position(|&byte| byte == b'\r') else {
        return if rest.len() >= LINE { Err(ProtocolError("too long a number")) } else { Ok(None) };
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
pub struct Parser {
    limits: Limits,
    /// Everything before this position has been read.
    at: usize,
    /// Arguments still to come; None before the array's header.
    left: Option<usize>,
    arguments: Vec<Range<usize>>,
}

impl Parser {
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: 0, left: None, arguments: Vec::new() }
    }

    /// Sets other limits, from the next command on.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Looks for a whole command at the start of `input`, which may only have grown since the last call. On true
    /// `arguments` has it: then call `finish`, and drop as many bytes from the front of the input.
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

    /// Returns the arguments of the command found, as positions in the input.
    pub fn arguments(&self) -> &[Range<usize>] {
        &self.arguments
    }

    /// Returns how many bytes the command found has.
    pub fn length(&self) -> usize {
        self.at
    }

    /// Prepares for the next command, and returns how many bytes the last one had.
    pub fn finish(&mut self) -> usize {
        self.left = None;
        self.arguments.clear();
        self.arguments.shrink_to(KEPT);
        std::mem::take(&mut self.at)
    }
}

/// Writes `<kind><number>\r\n`.
pub fn line(out: &mut Vec<u8>, kind: u8, number: i64) {
    out.push(kind);
    if number < 0 {
        out.push(b'-');
    }
    // Not by `write!`: the length of each key of a batch is written here.
    let mut digits = [0; 20];
    let (mut at, mut left) = (digits.len(), number.unsigned_abs());
    while left > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes a bulk string.
pub fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn numbers_are_written_as_they_are_displayed() {
        for number in [0, 1, 9, 10, 99, 100, 65_536, i64::MAX, -1, -2, -10, i64::MIN] {
            let mut out = Vec::new();
            line(&mut out, b':', number);
            assert_eq!(String::from_utf8(out).unwrap(), format!(":{number}\r\n"));
        }
    }
}
