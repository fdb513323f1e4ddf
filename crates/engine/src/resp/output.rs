//! Replies that wait to be written.
use std::mem;

use bytes::Bytes;

use super::codec::{line, put};
use crate::runtime::discard;

/// A value of at least this size is sent without a copy into the buffer.
const LARGE: usize = 16 * 1024;
/// Replies are written when they have grown to this size. More room than this is not kept.
pub const OUTPUT: usize = 1 << 20;

/// Bytes, with large values between them.
#[derive(Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    /// Large values, each with its position in `bytes`.
    pub large: Vec<(usize, Bytes)>,
    large_size: usize,
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.bytes.capacity() + self.large_size > OUTPUT {
            discard((mem::take(&mut self.bytes), mem::take(&mut self.large)));
        }
    }
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

    pub fn append(&mut self, other: &mut Self) {
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.large.extend(other.large.drain(..).map(|(at, value)| (base + at, value)));
        self.large_size += other.large_size;
        other.clear();
    }

    /// Adds bytes: a copy of few; for many, what `keep` returns.
    pub fn value(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) {
        if bytes.len() < LARGE {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.large_size += bytes.len();
            self.large.push((self.bytes.len(), keep()));
        }
    }

    /// Adds a bulk string as `value` adds bytes.
    pub fn bulk(&mut self, bytes: &[u8], keep: impl FnOnce() -> Bytes) {
        line(&mut self.bytes, b'$', bytes.len() as i64);
        self.value(bytes, keep);
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub fn text(&mut self, text: &str) {
        put(&mut self.bytes, text.as_bytes());
    }

    pub fn simple(&mut self, text: &str) {
        self.short(b'+', text);
    }

    pub fn error(&mut self, text: &str) {
        self.short(b'-', text);
    }

    fn short(&mut self, kind: u8, text: &str) {
        self.bytes.push(kind);
        let byte = |byte: u8| if byte.is_ascii_control() { b' ' } else { byte };
        self.bytes.extend(text.bytes().map(byte));
        self.bytes.extend_from_slice(b"\r\n");
    }

    pub fn number(&mut self, number: i64) {
        line(&mut self.bytes, b':', number);
    }

    pub fn array(&mut self, length: usize) {
        line(&mut self.bytes, b'*', length as i64);
    }
}
