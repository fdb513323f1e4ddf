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
        Self(Repr::Inline {
            len: key.len() as u8,
            bytes,
        })
    }

    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Heap(key) => key.as_bytes(),
        }
    }

    pub fn as_str(&self) -> &str {
        // Safe code checks again; nothing that needs it is on the path of a hit.
        std::str::from_utf8(self.as_bytes()).expect("made of a str")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}
