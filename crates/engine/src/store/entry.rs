//! One entry of a shard: its value, its times and its version.
use super::{cells, key::Key, writes::Mark};
use crate::memory::Value;

/// 16 ms: 32 bits of it last for two years.
pub const STAMP: u64 = 16_000_000;
/// Marks a former copy that another node has taken over.
pub const HANDED: u8 = 1;
/// The expiry of what never expires.
pub const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[derive(Debug)]
pub enum Kind {
    /// The main copy, at the owner.
    Main = 0,
    /// A short-lived copy elsewhere.
    Near = 1,
    /// A main copy that is no longer owned.
    Former = 2,
}

/// The circumstances of a loaded or fetched value.
#[derive(Clone, Copy)]
pub struct Fill {
    pub version: u128,
    /// Nanoseconds; None: without end.
    pub ttl: Option<u64>,
    pub kind: Kind,
    /// Nanoseconds that its load took.
    pub took: u64,
    /// It came from another node.
    pub foreign: bool,
    /// When its load began: a write that has arrived since refuses it.
    pub since: Option<Mark>,
}

/// The part of an entry that a hit reads: one cache line.
#[repr(C, align(64))]
pub struct Entry<V> {
    pub key: Key,
    /// None: known to be absent.
    pub value: Option<V>,
    /// Until then a hit needs no decision; see `age.rs`.
    pub expires: u64,
    pub kind: Kind,
    /// 0, or it has cells; see `tags.rs` and [`cells::own`].
    pub tagged: u8,
    /// How often peers asked in that second; [`HANDED`] in a former copy that another node has taken over.
    pub asked: u8,
    pub asked_in: u32,
    /// Microseconds that its load took.
    pub took: u32,
    /// When it was kept here, in units of [`STAMP`] since some turn of the counter.
    pub kept: u32,
}

/// The rest of an entry, apart from what a hit reads.
#[derive(Clone, Copy, Default)]
pub struct Origin {
    pub version: u128,
    /// A former copy is served to local callers until then.
    pub served_until: u64,
    /// The end of its ttl; see `age.rs`.
    pub ends: u64,
    pub hash: u64,
}

impl<V: Value> Entry<V> {
    pub fn new(key: &str, value: Option<V>, expires: u64, kind: Kind) -> Self {
        let key = Key::new(key);
        Self { key, value, expires, took: 0, kept: 0, asked_in: 0, asked: 0, kind, tagged: 0 }
    }

    /// Returns whether its time is over. The clock is read only for entries that expire.
    #[inline]
    pub fn expired(&self, now: impl FnOnce() -> u64) -> bool {
        self.expires != NEVER && self.expires <= now()
    }

    pub(super) fn hint(&self) -> usize {
        self.value.as_ref().map_or(0, Value::hint)
    }

    pub fn weight(&self, overhead: u64) -> u64 {
        let value = self.value.as_ref().map_or(0, Value::size);
        self.key.as_bytes().len() as u64 + value as u64 + overhead + cells::cost(self.tagged)
    }
}

const _: () = assert!(size_of::<Option<Entry<(std::sync::Arc<u8>, usize)>>>() == 64); // one cache line

/// Returns the time at which an entry is to be dropped.
pub fn gone(kind: Kind, origin: &Origin, linger: u64) -> u64 {
    if kind == Kind::Near { origin.ends } else { origin.ends.saturating_add(linger) }
}
