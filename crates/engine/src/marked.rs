//! Values that say of themselves what they are, whatever the codec of their group: a mark, a kind, and the rest.
//!
//! The mark begins no UTF-8, JSON, MessagePack or pickle. Other bytes that happen to begin with it are kept as `RAW`.
//!
//! A value with tags begins with them, so that they go wherever it goes: each with the version of the last delete of the
//! tag that the load or the write of the value can have seen.
use bytes::Bytes;

pub const MARK: u8 = 0xc1;
/// The rest is the value itself.
pub const RAW: u8 = b'r';
/// The rest is an integer in decimal digits.
pub const INTEGER: u8 = b'i';
/// The rest is the length of the tags (4 bytes), the tags, and the value, which may be marked once more.
pub const TAGGED: u8 = b't';
/// The version of a tag that the store which keeps the value is still to give.
pub const UNCLAIMED: u128 = u128::MAX;
/// The bytes that a value with tags has before them.
const HEAD: usize = 6;

/// The value of a group that keeps None as a value.
pub const NONE: &[u8] = &[MARK, b'n'];

/// Returns whether a value says what it is.
#[inline]
pub fn is(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MARK)
}

/// Returns the integer that a value says it is.
pub fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = untagged(bytes).strip_prefix(&[MARK, INTEGER])?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the value that is this integer.
pub fn of_integer(number: i64) -> Bytes {
    let mut bytes = vec![MARK, INTEGER];
    bytes.extend_from_slice(number.to_string().as_bytes());
    bytes.into()
}

/// Returns the part of a value that clients of other languages are shown; nothing if it is None.
pub fn shown(bytes: &[u8]) -> Option<&[u8]> {
    match untagged(bytes) {
        NONE => None,
        [MARK, RAW | INTEGER, rest @ ..] => Some(rest),
        rest => Some(rest),
    }
}

/// Returns the tags of a value, and the value without them.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.strip_prefix(&[MARK, TAGGED])?.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

#[inline]
pub fn is_tagged(bytes: &[u8]) -> bool {
    bytes.starts_with(&[MARK, TAGGED])
}

/// Returns a value without its tags.
#[inline]
pub fn untagged(bytes: &[u8]) -> &[u8] {
    if is_tagged(bytes) { split(bytes).map_or(bytes, |(_, value)| value) } else { bytes }
}

/// Returns the tags of a value with their versions, each 16 bytes, the length of the tag in two, and the tag.
pub fn tags(bytes: &[u8]) -> impl Iterator<Item = (u128, &str)> {
    let mut rest = split(bytes).map_or(&[][..], |(tags, _)| tags);
    std::iter::from_fn(move || {
        let (version, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let (tag, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = after;
        Some((u128::from_be_bytes(*version), std::str::from_utf8(tag).ok()?))
    })
}

/// Returns the version by which callers know a value: that of the key or of a tag, the greater one.
pub fn stated(bytes: &[u8], version: u128) -> u128 {
    tags(bytes).map(|(version, _)| version).fold(version, u128::max)
}

/// Returns a value whose unclaimed tags have versions. None: it has none of them.
pub fn claimed(bytes: &[u8], version: impl Fn(&str) -> u128) -> Option<Bytes> {
    if !tags(bytes).any(|(version, _)| version == UNCLAIMED) {
        return None;
    }
    let mut claimed = bytes.to_vec();
    let mut at = HEAD;
    for (own, tag) in tags(bytes) {
        if own == UNCLAIMED {
            claimed[at..at + size_of::<u128>()].copy_from_slice(&version(tag).to_be_bytes());
        }
        at += size_of::<u128>() + size_of::<u16>() + tag.len();
    }
    Some(claimed.into())
}

/// Returns another value with the tags of one.
pub fn retagged(bytes: &[u8], value: Bytes) -> Bytes {
    match split(bytes) {
        None => value,
        Some((tags, _)) => [&bytes[..HEAD + tags.len()], &value].concat().into(),
    }
}

/// Does the same for a value that is shared.
pub fn shown_of(bytes: Bytes) -> Option<Bytes> {
    match shown(&bytes)?.len() {
        length if length == bytes.len() => Some(bytes),
        length => Some(bytes.slice(bytes.len() - length..)),
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
            assert_eq!(shown(&bytes), Some(number.to_string().as_bytes()));
        }
        for other in [&b"7"[..], b"", b"\xc1", b"\xc1i", b"\xc1i7x", b"\xc1r7", b"\xc1i9223372036854775808"] {
            assert_eq!(integer(other), None, "{other:?}");
        }
        assert_eq!(shown(b"\xc1r\xc1i7"), Some(&b"\xc1i7"[..]));
        assert_eq!(shown(b"\xc1"), Some(&b"\xc1"[..]));
    }

    #[test]
    fn none_is_not_shown() {
        assert_eq!(shown(NONE), None);
        assert_eq!(shown_of(Bytes::from_static(NONE)), None);
        assert_eq!(integer(NONE), None);
    }

    fn tagged(names: &[&str], value: &[u8]) -> Vec<u8> {
        let tag =
            |name: &&str| [&UNCLAIMED.to_be_bytes()[..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
        let tags: Vec<u8> = names.iter().flat_map(tag).collect();
        [&[MARK, TAGGED], &(tags.len() as u32).to_be_bytes()[..], &tags, value].concat()
    }

    #[test]
    fn tags_go_before_any_value() {
        for inner in [&b"value"[..], b"", b"\xc1i7", b"\xc1r\xc1i7"] {
            let bytes = tagged(&["a", "user:7", ""], inner);
            let names = |bytes: &[u8]| tags(bytes).map(|(_, name)| name.to_owned()).collect::<Vec<_>>();
            assert_eq!(names(&bytes), ["a", "user:7", ""]);
            assert_eq!((untagged(&bytes), integer(&bytes)), (inner, integer(inner)));
            assert_eq!(shown(&bytes), shown(inner));
            let claimed = claimed(&bytes, |name| name.len() as u128).unwrap();
            assert_eq!(tags(&claimed).map(|(version, _)| version).collect::<Vec<_>>(), [1, 6, 0]);
            assert_eq!((names(&claimed), untagged(&claimed)), (names(&bytes), inner));
            assert!(super::claimed(&claimed, |_| 9).is_none());
            assert_eq!(retagged(&claimed, Bytes::from_static(b"x")).strip_suffix(b"x"), claimed.strip_suffix(inner));
        }
        assert_eq!(retagged(b"plain", Bytes::from_static(b"x")), "x");
    }

    #[test]
    fn tags_that_are_cut_are_no_tags() {
        let whole = tagged(&["a", "user:7"], b"");
        for end in 0..whole.len() {
            assert_eq!(untagged(&whole[..end]), &whole[..end]);
            assert_eq!(tags(&whole[..end]).count(), 0);
        }
        let mut torn = whole.clone();
        torn[HEAD + 16] = 0xff; // longer than what follows
        assert_eq!(tags(&torn).count(), 0);
    }
}
