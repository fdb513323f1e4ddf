//! The order of entries over the shards of a store: when each came to its place, and what the queues of all show.
use std::sync::Arc;

use super::Slot;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most queues of a policy.
pub const QUEUES: usize = 3;

/// Stamps of places that are given to the next to go are below it.
const MIDDLE: u64 = 1 << 62;
/// The stamp of no entry.
pub const NO_STAMP: u64 = 0;
/// Stands for the oldest stamp of an empty queue.
pub const NONE: u64 = u64::MAX;

/// Gives stamps to the entries of all shards, each greater than the one before.
pub struct Sequence {
    last: AtomicU64,
    first: AtomicU64,
    /// The sum of the weights that may stay.
    capacity: AtomicU64,
    /// The number of hashes of entries that left which are known, and of those ever noted.
    pub(super) ghosts: AtomicU64,
    pub(super) noted: AtomicU64,
}

impl Sequence {
    pub fn new(capacity: u64) -> Arc<Self> {
        let [last, first] = [AtomicU64::new(MIDDLE), AtomicU64::new(MIDDLE - 1)];
        let [ghosts, noted] = [AtomicU64::new(0), AtomicU64::new(0)];
        Arc::new(Self { last, first, capacity: AtomicU64::new(capacity), ghosts, noted })
    }

    pub fn capacity(&self) -> u64 {
        self.capacity.load(Relaxed)
    }

    pub fn set_capacity(&self, capacity: u64) {
        self.capacity.store(capacity, Relaxed);
    }

    /// Returns a stamp that no other entry has. They are odd.
    pub(super) fn next(&self) -> u64 {
        self.last.fetch_add(2, Relaxed) + 1
    }

    /// Returns a stamp after all that were given and before the next, for an entry that was asked for. It changes nothing
    /// that other threads read.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.last.load(Relaxed)
    }

    /// Returns a stamp before all others.
    pub(super) fn before(&self) -> u64 {
        self.first.fetch_sub(1, Relaxed)
    }
}

/// The ends of a policy's queues, in one shard or in several.
#[derive(Clone, Copy, Debug)]
pub struct Front {
    /// The stamps where entries leave.
    pub oldest: [u64; QUEUES],
    /// The stamps where they enter, of the first two.
    pub newest: [u64; 2],
    /// The weight on the queue that has a share of the capacity.
    pub weight: u64,
    pub len: u64,
}

impl Default for Front {
    fn default() -> Self {
        Self { oldest: [NONE; QUEUES], newest: [NO_STAMP; 2], weight: 0, len: 0 }
    }
}

impl Front {
    /// Takes in what another shard shows.
    pub fn join(&mut self, other: &Self) {
        self.oldest.iter_mut().zip(other.oldest).for_each(|(mine, theirs)| *mine = theirs.min(*mine));
        self.newest.iter_mut().zip(other.newest).for_each(|(mine, theirs)| *mine = theirs.max(*mine));
        self.weight += other.weight;
        self.len += other.len;
    }

    /// Shows the ends of a queue, of slots with these stamps.
    pub(super) fn set(&mut self, queue: usize, ends: Option<(Slot, Slot)>, stamp: impl Fn(Slot) -> u64) {
        self.oldest[queue] = ends.map_or(NONE, |(oldest, _)| stamp(oldest));
        if let Some(end) = self.newest.get_mut(queue) {
            *end = ends.map_or(NO_STAMP, |(_, newest)| stamp(newest));
        }
    }

    pub fn is_empty(&self, queue: usize) -> bool {
        self.oldest[queue] == NONE
    }

    /// Returns whether one entry at most is on that queue, one of the first two.
    pub(super) fn is_short(&self, queue: usize) -> bool {
        self.newest[queue] <= self.oldest[queue]
    }
}
