//! Least recently used: one list in the order of the last use; the oldest goes first.

use std::sync::Arc;

use super::{Front, NO_STAMP, NONE, Policy, Sequence, Slot, list::Lists};
use crate::chunks::Chunks;

/// LRU. Weights do not matter to it: the order of use alone decides.
pub struct Lru {
    lists: Lists<1>,
    stamps: Chunks<u64>,
    sequence: Arc<Sequence>,
}

impl Lru {
    pub fn new(sequence: Arc<Sequence>) -> Self {
        Self { lists: Lists::default(), stamps: Chunks::default(), sequence }
    }

    /// Returns the queue to evict from: the only one.
    pub(super) fn giver(all: &Front, _capacity: u64, _newcomer: u64) -> Option<usize> {
        (!all.is_empty(0)).then_some(0)
    }
}

impl Policy for Lru {
    fn insert(&mut self, slot: Slot, _hash: u64, _weight: u64) -> u64 {
        self.lists.reserve(slot);
        self.lists.push_newest(0, slot);
        self.stamps.reserve(slot as usize, |_| NO_STAMP);
        self.stamps[slot as usize] = self.sequence.next();
        self.stamps[slot as usize]
    }

    #[inline(never)] // for the sake of the others
    fn hit(&mut self, slot: Slot) -> bool {
        self.stamps[slot as usize] = self.sequence.now();
        if self.lists.newest(0) != Some(slot) {
            self.lists.unlink(slot);
            self.lists.push_newest(0, slot);
        }
        false
    }

    fn reweigh(&mut self, _slot: Slot, _weight: u64) {}

    fn remove(&mut self, slot: Slot) {
        self.lists.unlink(slot);
    }

    fn demote(&mut self, slot: Slot) -> u64 {
        self.lists.unlink(slot);
        self.lists.push_oldest(0, slot);
        self.stamps[slot as usize] = self.sequence.before();
        self.stamps[slot as usize]
    }

    fn front(&self) -> Front {
        let mut front = Front::default();
        front.oldest[0] = self.lists.oldest(0).map_or(NONE, |slot| self.stamps[slot as usize]);
        front
    }

    fn step(&mut self, queue: usize, _all: &Front, _newcomer: &mut u64, _must: bool) -> Option<Slot> {
        let slot = self.lists.oldest(queue)?;
        self.lists.unlink(slot);
        Some(slot)
    }

    fn release(&mut self, piece: usize) {
        self.lists.release(piece);
        self.stamps.release(piece);
    }

    fn older(&self, slot: Option<Slot>) -> Option<Slot> {
        self.lists.older(slot, &[0])
    }

    fn order(&self) -> Vec<Slot> {
        self.lists.iter(0).collect()
    }
}
