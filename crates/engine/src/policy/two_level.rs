//! Two-level LRU, KamaCache's "lru2": a segmented LRU (Karedla, Love and Wherry, "Caching strategies to improve disk
//! system performance", IEEE Computer 1994).
//!
//! New keys enter the first level, a hit moves a key to the front of the second. The second holds at most a third of
//! the capacity (the levels stand two to one). An entry that overflows it goes back to the front of the first, so a key
//! that was requested twice passes the whole first level once more before it leaves. Victims come from the end of the
//! first.

use std::sync::Arc;

use super::{Front, Policy, Sequence, Slot, list::Lists, stored_weight};
use crate::chunks::Chunks;

const FIRST: usize = 0;
const SECOND: usize = 1;

#[derive(Clone, Copy, Default)]
struct Entry {
    stamp: u64,
    weight: u32,
    second: bool,
}

/// Two-level LRU. Invariant: the weights on the second level sum up to `used`. What is too much for the second level of
/// all shards goes back when room is made.
pub struct TwoLevel {
    lists: Lists<2>,
    entries: Chunks<Entry>,
    used: u64,
    sequence: Arc<Sequence>,
}

impl TwoLevel {
    pub fn new(sequence: Arc<Sequence>) -> Self {
        TwoLevel { lists: Lists::default(), entries: Chunks::default(), used: 0, sequence }
    }

    /// Returns the level that gives an entry: the second as long as it has too much, then the first.
    pub(super) fn giver(all: &Front, capacity: u64, newcomer: u64) -> Option<usize> {
        let lone = all.oldest[FIRST] == newcomer && all.is_short(FIRST);
        if !all.is_empty(SECOND) && (all.weight > limit(capacity) || all.is_empty(FIRST) || lone) {
            return Some(SECOND);
        }
        (!all.is_empty(FIRST)).then_some(FIRST)
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

    /// Moves a slot to the front of the second level, or of the first if the second could not hold it. Returns whether
    /// that changed the second's weight.
    fn promote(&mut self, slot: Slot) -> bool {
        let before = self.used;
        let weight = self.take(slot);
        let entry = &mut self.entries[slot as usize];
        entry.stamp = self.sequence.now();
        entry.second = weight <= limit(self.sequence.capacity());
        if entry.second {
            self.used += weight;
        }
        self.lists.push_newest(if entry.second { SECOND } else { FIRST }, slot);
        self.used != before
    }
}

/// Returns the weight that the second level may have.
fn limit(capacity: u64) -> u64 {
    capacity / 3
}

impl Policy for TwoLevel {
    fn insert(&mut self, slot: Slot, _hash: u64, weight: u64) -> u64 {
        self.lists.reserve(slot);
        self.entries.reserve(slot as usize, |_| Entry::default());
        let stamp = self.sequence.next();
        self.entries[slot as usize] = Entry { stamp, weight: stored_weight(weight), second: false };
        self.lists.push_newest(FIRST, slot);
        stamp
    }

    #[inline(never)] // for the sake of the others
    fn hit(&mut self, slot: Slot) -> bool {
        self.promote(slot)
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let new = stored_weight(weight);
        let entry = &mut self.entries[slot as usize];
        let old = std::mem::replace(&mut entry.weight, new);
        if entry.second {
            self.used = self.used - u64::from(old) + u64::from(new);
            if u64::from(new) > limit(self.sequence.capacity()) {
                self.promote(slot); // it alone is too heavy: it must not push the others out
            }
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.take(slot);
    }

    fn demote(&mut self, slot: Slot) -> u64 {
        self.take(slot);
        self.lists.push_oldest(FIRST, slot);
        self.entries[slot as usize].stamp = self.sequence.before();
        self.entries[slot as usize].stamp
    }

    fn front(&self) -> Front {
        let mut front = Front { weight: self.used, ..Front::default() };
        for level in [FIRST, SECOND] {
            front.set(level, self.lists.ends(level), |slot| self.entries[slot as usize].stamp);
        }
        front
    }

    fn step(&mut self, queue: usize, all: &Front, newcomer: &mut u64, must: bool) -> Option<Slot> {
        let slot = self.lists.oldest(queue)?;
        self.take(slot);
        let entry = &mut self.entries[slot as usize];
        let new = entry.stamp == *newcomer;
        let over = queue == SECOND && !must && all.weight > limit(self.sequence.capacity()) && !all.is_empty(FIRST);
        let passes = new && queue == FIRST && !all.is_short(FIRST);
        if !(over || passes) {
            return Some(slot);
        }
        entry.stamp = self.sequence.next();
        if new {
            *newcomer = entry.stamp;
        }
        self.lists.push_newest(FIRST, slot);
        None
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
