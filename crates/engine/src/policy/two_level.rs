//! Two-level LRU, KamaCache's "lru2": a segmented LRU (Karedla, Love and Wherry, "Caching strategies to improve disk
//! system performance", IEEE Computer 1994).
//!
//! New keys enter the first level, a hit moves a key to the front of the second. The second holds at most a third of
//! the capacity (the levels stand two to one). An entry that overflows it goes back to the front of the first, so a key
//! that was requested twice passes the whole first level once more before it leaves. Victims come from the end of the
//! first.

use super::{Policy, Slot, list::Lists, stored_weight};
use crate::chunks::Chunks;

const FIRST: usize = 0;
const SECOND: usize = 1;

#[derive(Clone, Copy, Default)]
struct Entry {
    weight: u32,
    second: bool,
}

/// Two-level LRU. Invariant: the weights on the second level sum up to `used`, which is at most `limit`.
pub struct TwoLevel {
    lists: Lists<2>,
    entries: Chunks<Entry>,
    limit: u64,
    used: u64,
}

impl TwoLevel {
    /// Makes the policy of a shard of `capacity` in weight.
    pub fn new(capacity: u64) -> Self {
        TwoLevel { lists: Lists::default(), entries: Chunks::default(), limit: capacity / 3, used: 0 }
    }

    fn take(&mut self, slot: Slot) -> u64 {
        self.lists.unlink(slot);
        let entry = &mut self.entries[slot as usize];
        if entry.second {
            entry.second = false;
            self.used -= u64::from(entry.weight);
        }
        u64::from(entry.weight)
    }

    /// Moves a slot to the front of the second level, or of the first if the second could not hold it.
    fn promote(&mut self, slot: Slot) {
        let weight = self.take(slot);
        if weight > self.limit {
            self.lists.push_newest(FIRST, slot);
            return;
        }
        self.lists.push_newest(SECOND, slot);
        self.entries[slot as usize].second = true;
        self.used += weight;
        self.spill();
    }

    fn spill(&mut self) {
        while self.used > self.limit {
            let Some(slot) = self.lists.oldest(SECOND) else { return };
            self.take(slot);
            self.lists.push_newest(FIRST, slot);
        }
    }
}

impl Policy for TwoLevel {
    fn insert(&mut self, slot: Slot, _hash: u64, weight: u64) {
        self.lists.reserve(slot);
        self.entries.reserve(slot as usize, |_| Entry::default());
        self.entries[slot as usize] = Entry { weight: stored_weight(weight), second: false };
        self.lists.push_newest(FIRST, slot);
    }

    #[inline(never)] // for the sake of the others
    fn hit(&mut self, slot: Slot) {
        if self.lists.newest(SECOND) != Some(slot) {
            self.promote(slot);
        }
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let new = stored_weight(weight);
        let entry = &mut self.entries[slot as usize];
        let old = std::mem::replace(&mut entry.weight, new);
        if entry.second {
            self.used = self.used - u64::from(old) + u64::from(new);
            if u64::from(new) > self.limit {
                self.promote(slot); // it alone is too heavy: it must not push the others out
            } else {
                self.spill();
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.take(slot);
    }

    fn demote(&mut self, slot: Slot) {
        self.take(slot);
        self.lists.push_oldest(FIRST, slot);
    }

    fn evict(&mut self) -> Option<Slot> {
        let slot = self.lists.oldest(FIRST).or_else(|| self.lists.oldest(SECOND))?;
        self.take(slot);
        Some(slot)
    }

    fn resize(&mut self, capacity: u64) {
        self.limit = capacity / 3;
        self.spill();
    }

    fn release(&mut self, piece: usize) {
        self.lists.release(piece);
        self.entries.release(piece);
    }

    fn older(&self, slot: Option<Slot>) -> Option<Slot> {
        self.lists.older(slot, &[SECOND, FIRST])
    }

    fn order(&self) -> Vec<Slot> {
        self.lists.iter(FIRST).chain(self.lists.iter(SECOND)).collect()
    }
}
