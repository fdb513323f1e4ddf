//! A key as the store keeps it: up to 22 bytes stand in the entry itself, which saves a cache miss at each hit.

const INLINE: usize = 22;

pub struct Key(Repr);

enum Repr {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<str>),
}

impl Key {
    pub fn new(key: &str) -> Self {
        if key.len() > INLINE {
            return Self(Repr::Heap(key.into()));
        }
        let mut bytes = [0; INLINE];
        bytes[..key.len()].copy_from_slice(key.as_bytes());
        Self(Repr::Inline { len: key.len() as u8, bytes })
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(key) => key.as_bytes(),
        }
    }

    /// Compares by words, as most keys are too short for memcmp to be worthwhile.
    #[inline]
    pub fn is(&self, key: &[u8]) -> bool {
        let own = self.as_bytes();
        let len = own.len();
        if len != key.len() {
            return false;
        }
        if !(8..=24).contains(&len) {
            return own == key;
        }
        let same = |at: usize| word(own, at) == word(key, at);
        same(0) && same(len - 8) && (len <= 16 || same(8))
    }

    pub fn as_str(&self) -> &str {
        // Safe code checks again; nothing that needs it is on the path of a hit.
        std::str::from_utf8(self.as_bytes()).expect("made of a str")
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<&[u8; 8]> {
    bytes[at..].first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_only_to_itself_at_every_length() {
        for len in 0..70 {
            let text = "k".repeat(len);
            let key = Key::new(&text);
            assert!(key.is(text.as_bytes()));
            assert!(!key.is("k".repeat(len + 1).as_bytes()));
            for at in 0..len {
                let mut other = text.clone().into_bytes();
                other[at] = b'x';
                assert!(!key.is(&other), "{len} {at}");
            }
        }
    }
}
