//! Least recently used: one list in the order of the last use; the oldest goes first.

use super::{Policy, Slot, list::Lists};

/// LRU. Weights do not matter to it: the order of use alone decides.
#[derive(Default)]
pub struct Lru {
    lists: Lists<1>,
}

impl Policy for Lru {
    fn insert(&mut self, slot: Slot, _hash: u64, _weight: u64) {
        self.lists.reserve(slot);
        self.lists.push_newest(0, slot);
    }

    #[inline(never)] // for the sake of the others
    fn hit(&mut self, slot: Slot) {
        if self.lists.newest(0) != Some(slot) {
            self.lists.unlink(slot);
            self.lists.push_newest(0, slot);
        }
    }

    fn reweigh(&mut self, _slot: Slot, _weight: u64) {}

    fn remove(&mut self, slot: Slot) {
        self.lists.unlink(slot);
    }

    fn demote(&mut self, slot: Slot) {
        self.lists.unlink(slot);
        self.lists.push_oldest(0, slot);
    }

    fn evict(&mut self) -> Option<Slot> {
        let slot = self.lists.oldest(0)?;
        self.lists.unlink(slot);
        Some(slot)
    }

    fn release(&mut self, piece: usize) {
        self.lists.release(piece);
    }

    fn older(&self, slot: Option<Slot>) -> Option<Slot> {
        self.lists.older(slot, &[0])
    }

    fn order(&self) -> Vec<Slot> {
        self.lists.iter(0).collect()
    }
}
