//! Values that say of themselves what they are, whatever the codec of their group: a mark, a kind, and the rest.
//!
//! The mark begins no UTF-8, JSON, MessagePack or pickle. Other bytes that happen to begin with it are kept as `RAW`.
use bytes::Bytes;

pub const MARK: u8 = 0xc1;
/// The rest is the value itself.
pub const RAW: u8 = b'r';
/// The rest is an integer in decimal digits.
pub const INTEGER: u8 = b'i';

/// Returns whether a value says what it is.
#[inline]
pub fn is(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MARK)
}

/// Returns the integer that a value says it is.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(&[MARK, INTEGER])?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the value that is this integer.
pub fn of_integer(number: i64) -> Bytes {
    let mut bytes = vec![MARK, INTEGER];
    bytes.extend_from_slice(number.to_string().as_bytes());
    bytes.into()
}

/// Returns the part of a value that clients of other languages are shown.
pub fn shown(bytes: &[u8]) -> &[u8] {
    match bytes {
        [MARK, RAW | INTEGER, rest @ ..] => rest,
        _ => bytes,
    }
}

/// Does the same for a value that is shared.
pub fn shown_of(bytes: Bytes) -> Bytes {
    match shown(&bytes).len() {
        length if length == bytes.len() => bytes,
        length => bytes.slice(bytes.len() - length..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_says_so_and_is_shown_in_digits() {
        for number in [0, -1, 7, i64::MIN, i64::MAX] {
            let bytes = of_integer(number);
            assert_eq!(integer(&bytes), Some(number));
            assert_eq!(shown(&bytes), number.to_string().as_bytes());
        }
        for other in [&b"7"[..], b"", b"\xc1", b"\xc1i", b"\xc1i7x", b"\xc1r7", b"\xc1i9223372036854775808"] {
            assert_eq!(integer(other), None, "{other:?}");
        }
        assert_eq!(shown(b"\xc1r\xc1i7"), b"\xc1i7");
        assert_eq!(shown(b"\xc1"), b"\xc1");
    }
}
