//! The names of entries that left a short while ago: hashes only, in the order they left, each at most once.

use super::list::Lists;
use crate::{
    chunks::{Chunks, Slots},
    table::Table,
};

/// One that is added forgets as many at most.
const STEP: usize = 64;

/// A FIFO set of hashes; a collision of two keys costs a wrong guess about one of them, no more.
///
/// Each has the number at which it left, as a counter had it that several sets may share. The set has those of the last
/// `limit` numbers. Numbers go round, so that one set may believe an old hash to be new after 2^32 of the others'.
#[derive(Default)]
pub struct Ghost {
    lists: Lists<1>,
    hashes: Chunks<u64>,
    numbers: Chunks<u32>,
    slots: Slots,
    table: Table<1>,
}

impl Ghost {
    /// Adds `hash` as the newest, at a number, and forgets old ones.
    pub fn push(&mut self, hash: u64, number: u64, limit: u64) {
        self.remove(hash, number, limit);
        for _ in 0..STEP {
            match self.lists.oldest(0) {
                Some(slot) if !is_new(self.numbers[slot as usize], number, limit) => {
                    self.take(self.hashes[slot as usize]);
                }
                _ => break,
            }
        }
        if limit == 0 {
            return;
        }
        let slot = self.slots.take();
        self.hashes.reserve(slot as usize, |_| 0);
        self.numbers.reserve(slot as usize, |_| 0);
        (self.hashes[slot as usize], self.numbers[slot as usize]) = (hash, number as u32);
        self.lists.reserve(slot);
        self.lists.push_newest(0, slot);
        self.table.insert(hash, slot, 0);
    }

    /// Takes `hash` out, and returns whether it was there.
    pub fn remove(&mut self, hash: u64, number: u64, limit: u64) -> bool {
        self.take(hash).is_some_and(|at| is_new(at, number, limit))
    }

    fn take(&mut self, hash: u64) -> Option<u32> {
        let slot = self.table.find(hash, |slot, _| (self.hashes[slot as usize] == hash).then_some(slot))?;
        let at = self.numbers[slot as usize];
        self.table.remove(hash, slot);
        self.lists.unlink(slot);
        if let Some(piece) = self.slots.give(slot) {
            self.lists.release(piece);
            self.hashes.release(piece);
            self.numbers.release(piece);
        }
        Some(at)
    }
}

/// Returns whether what left at a number is one of the last.
fn is_new(at: u32, number: u64, limit: u64) -> bool {
    u64::from((number as u32).wrapping_sub(at)) < limit
}
