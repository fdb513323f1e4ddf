//! The names of entries that left a short while ago: hashes only, in the order they left, each at most once.

use super::list::Lists;
use crate::{
    chunks::{Chunks, Slots},
    table::Table,
};

/// One that is added forgets as many at most.
const STEP: usize = 64;

/// A FIFO set of hashes; a collision of two keys costs a wrong guess about one of them, no more.
#[derive(Default)]
pub struct Ghost {
    lists: Lists<1>,
    hashes: Chunks<u64>,
    slots: Slots,
    table: Table<1>,
}

impl Ghost {
    /// Adds `hash` as the newest, then forgets oldest ones over `limit`.
    pub fn push(&mut self, hash: u64, limit: usize) {
        self.remove(hash);
        for _ in 0..STEP {
            match self.lists.oldest(0).filter(|_| self.slots.len() >= limit.max(1)) {
                Some(oldest) => self.remove(self.hashes[oldest as usize]),
                None => break,
            };
        }
        if limit == 0 {
            return;
        }
        let slot = self.slots.take();
        self.hashes.reserve(slot as usize, |_| 0);
        self.hashes[slot as usize] = hash;
        self.lists.reserve(slot);
        self.lists.push_newest(0, slot);
        self.table.insert(hash, slot, 0);
    }

    /// Takes `hash` out, and returns whether it was there.
    pub fn remove(&mut self, hash: u64) -> bool {
        let Some(slot) = self.table.find(hash, |slot, _| (self.hashes[slot as usize] == hash).then_some(slot)) else {
            return false;
        };
        self.table.remove(hash, slot);
        self.lists.unlink(slot);
        if let Some(piece) = self.slots.give(slot) {
            self.lists.release(piece);
            self.hashes.release(piece);
        }
        true
    }
}
