//! S3-FIFO: Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! A newcomer enters a small queue (a tenth of the capacity). At the end of that queue it moves on to the main queue if
//! it was hit twice by then; else it leaves, and only its hash stays, in the ghost queue. A key that comes back while
//! its hash is there enters the main queue at once. At the end of the main queue an entry goes round again for each
//! hit, three at most. A hit only counts: it moves nothing.
//!
//! The ghost queue remembers as many hashes as nine tenths of the entries here: a number, not a weight, so that its
//! memory is bounded by what the entries themselves take.

use super::{Policy, Slot, ghost::Ghost, list::Lists, stored_weight};
use crate::chunks::Chunks;

const SMALL: usize = 0;
const MAIN: usize = 1;
/// Demoted entries: they leave before all others.
const LAST: usize = 2;

const HITS_TO_STAY: u8 = 2;
const MOST_HITS: u8 = 3;

#[derive(Clone, Copy, Default)]
struct Entry {
    hash: u64,
    weight: u32,
    list: u8,
}

/// S3-FIFO. Invariant: `main` is the sum of the weights on the main queue.
pub struct S3Fifo {
    lists: Lists<3>,
    /// Apart from the entries, and in one piece: a hit touches this byte and nothing else.
    hits: Vec<u8>,
    entries: Chunks<Entry>,
    ghost: Ghost,
    len: usize,
    main: u64,
    main_limit: u64,
    /// The last slot inserted: it must not be evicted to make room for itself.
    newcomer: Slot,
}

impl S3Fifo {
    /// Makes the policy of a shard of `capacity` in weight.
    pub fn new(capacity: u64) -> Self {
        S3Fifo {
            lists: Lists::default(),
            hits: Vec::new(),
            entries: Chunks::default(),
            ghost: Ghost::default(),
            len: 0,
            main: 0,
            main_limit: main_limit(capacity),
            newcomer: Slot::MAX,
        }
    }

    fn put(&mut self, list: usize, slot: Slot) {
        let entry = &mut self.entries[slot as usize];
        entry.list = list as u8;
        if list == MAIN {
            self.main += u64::from(entry.weight);
        }
        self.lists.push_newest(list, slot);
    }

    fn take(&mut self, slot: Slot) {
        let entry = &self.entries[slot as usize];
        if usize::from(entry.list) == MAIN {
            self.main -= u64::from(entry.weight);
        }
        self.lists.unlink(slot);
    }

    fn pass(&mut self, slot: Slot, hits: u8) {
        self.take(slot);
        self.put(MAIN, slot);
        self.hits[slot as usize] = hits;
    }

    /// Returns the queue to evict from: main while over its share. The newest of small stays while main has anything,
    /// else a heavy newcomer would evict itself.
    fn giver(&self) -> usize {
        if self.lists.oldest(LAST).is_some() {
            return LAST;
        }
        let lone = self.lists.oldest(SMALL) == self.lists.newest(SMALL);
        let oldest = self.lists.oldest(MAIN);
        let main = oldest.is_some() && !self.is_lone_newcomer(oldest);
        if main && (lone || self.main > self.main_limit) || self.lists.oldest(SMALL).is_none() { MAIN } else { SMALL }
    }

    fn is_lone_newcomer(&self, oldest: Option<Slot>) -> bool {
        oldest == Some(self.newcomer) && oldest == self.lists.newest(MAIN)
    }
}

fn main_limit(capacity: u64) -> u64 {
    capacity - capacity / 10
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        self.lists.reserve(slot);
        self.entries.reserve(slot as usize, |_| Entry::default());
        self.hits.resize(self.hits.len().max(slot as usize + 1), 0);
        self.entries[slot as usize] = Entry { hash, weight: stored_weight(weight), list: 0 };
        self.hits[slot as usize] = 0;
        self.len += 1;
        self.newcomer = slot;
        let list = if self.ghost.remove(hash) { MAIN } else { SMALL };
        self.put(list, slot);
    }

    #[inline(always)]
    fn hit(&mut self, slot: Slot) {
        let hits = &mut self.hits[slot as usize];
        *hits = (*hits + 1).min(MOST_HITS);
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let new = stored_weight(weight);
        let entry = &mut self.entries[slot as usize];
        let old = std::mem::replace(&mut entry.weight, new);
        if usize::from(entry.list) == MAIN {
            self.main = self.main - u64::from(old) + u64::from(new);
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.take(slot);
        self.len -= 1;
    }

    fn demote(&mut self, slot: Slot) {
        self.take(slot);
        self.entries[slot as usize].list = LAST as u8;
        self.lists.push_oldest(LAST, slot);
        self.hits[slot as usize] = 0;
    }

    fn evict(&mut self) -> Option<Slot> {
        loop {
            let list = self.giver();
            let slot = self.lists.oldest(list)?;
            let hits = self.hits[slot as usize];
            match list {
                SMALL if hits >= HITS_TO_STAY => self.pass(slot, 0),
                MAIN | LAST if hits > 0 => self.pass(slot, hits - 1),
                MAIN if slot == self.newcomer && !self.is_lone_newcomer(Some(slot)) => self.pass(slot, 0),
                _ => {
                    if list == SMALL {
                        self.ghost.push(self.entries[slot as usize].hash, self.len * 9 / 10);
                    }
                    self.remove(slot);
                    return Some(slot);
                }
            }
        }
    }

    fn resize(&mut self, capacity: u64) {
        self.main_limit = main_limit(capacity);
    }

    fn release(&mut self, piece: usize) {
        self.lists.release(piece);
        self.entries.release(piece);
    }

    fn older(&self, slot: Option<Slot>) -> Option<Slot> {
        self.lists.older(slot, &[MAIN, SMALL, LAST])
    }

    fn order(&self) -> Vec<Slot> {
        self.lists.iter(LAST).chain(self.lists.iter(SMALL)).chain(self.lists.iter(MAIN)).collect()
    }
}
