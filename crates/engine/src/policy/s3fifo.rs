//! S3-FIFO: Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction", SOSP 2023.
//!
//! A newcomer enters a small queue (a tenth of the capacity). At the end of that queue it moves on to the main queue if
//! it was hit twice by then; else it leaves, and only its hash stays, in the ghost queue. A key that comes back while
//! its hash is there enters the main queue at once. At the end of the main queue an entry goes round again for each
//! hit, three at most. A hit only counts: it moves nothing.
//!
//! The ghost queue remembers as many hashes as nine tenths of the entries here: a number, not a weight, so that its
//! memory is bounded by what the entries themselves take.

use std::sync::Arc;

use super::{Front, NO_STAMP, Policy, Sequence, Slot, ghost::Ghost, list::Lists, stored_weight};
use crate::{chunks::Chunks, sync::atomic::Ordering::Relaxed};

const SMALL: usize = 0;
const MAIN: usize = 1;
/// Demoted entries: they leave before all others.
const LAST: usize = 2;

const HITS_TO_STAY: u8 = 2;
const MOST_HITS: u8 = 3;

#[derive(Clone, Copy, Default)]
struct Entry {
    hash: u64,
    stamp: u64,
    weight: u32,
    list: u8,
}

/// S3-FIFO. Invariant: `front` shows the ends of the queues, their entries and the sum of the weights on the main queue.
pub struct S3Fifo {
    lists: Lists<3>,
    /// Apart from the entries, and in pieces of a page: a hit touches this byte and no other value.
    hits: Chunks<u8, 4096>,
    entries: Chunks<Entry>,
    ghost: Ghost,
    front: Front,
    sequence: Arc<Sequence>,
}

impl S3Fifo {
    pub fn new(sequence: Arc<Sequence>) -> Self {
        S3Fifo {
            lists: Lists::default(),
            hits: Chunks::default(),
            entries: Chunks::default(),
            ghost: Ghost::default(),
            front: Front::default(),
            sequence,
        }
    }

    /// Returns the queue to evict from: main while over its share. The newest of small stays while main has anything,
    /// else a heavy newcomer would evict itself.
    pub(super) fn giver(all: &Front, capacity: u64, newcomer: u64) -> Option<usize> {
        // A newcomer makes no room for itself while there is anything else.
        let kept = all.is_empty(MAIN) || all.oldest[MAIN] == newcomer && all.is_short(MAIN);
        if !all.is_empty(LAST) && all.oldest[LAST] != newcomer {
            return Some(LAST);
        }
        let over = all.weight > capacity - capacity / 10;
        if !kept && (all.is_short(SMALL) || over) {
            return Some(MAIN);
        }
        [SMALL, MAIN, LAST].into_iter().find(|&queue| !all.is_empty(queue))
    }

    /// Puts a slot at the newest end of a queue, and returns its stamp.
    fn put(&mut self, list: usize, slot: Slot) -> u64 {
        let entry = &mut self.entries[slot as usize];
        (entry.list, entry.stamp) = (list as u8, self.sequence.next());
        if list == MAIN {
            self.front.weight += u64::from(entry.weight);
        }
        self.front.newest[list] = entry.stamp;
        self.front.oldest[list] = self.front.oldest[list].min(entry.stamp);
        self.lists.push_newest(list, slot);
        entry.stamp
    }

    fn take(&mut self, slot: Slot) {
        let Entry { stamp, weight, list, .. } = self.entries[slot as usize];
        let list = usize::from(list);
        if list == MAIN {
            self.front.weight -= u64::from(weight);
        }
        self.lists.unlink(slot);
        if stamp == self.front.oldest[list] || self.front.newest.get(list) == Some(&stamp) {
            self.front.set(list, self.lists.ends(list), |slot| self.entries[slot as usize].stamp);
        }
    }

    fn pass(&mut self, slot: Slot, hits: u8, newcomer: &mut u64) {
        let before = self.entries[slot as usize].stamp;
        self.take(slot);
        let stamp = self.put(MAIN, slot);
        if before == *newcomer {
            *newcomer = stamp;
        }
        self.hits[slot as usize] = hits;
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) -> u64 {
        self.lists.reserve(slot);
        self.entries.reserve(slot as usize, |_| Entry::default());
        self.hits.reserve(slot as usize, |_| 0);
        self.entries[slot as usize] = Entry { hash, stamp: NO_STAMP, weight: stored_weight(weight), list: 0 };
        self.hits[slot as usize] = 0;
        self.front.len += 1;
        let (number, limit) = (self.sequence.noted.load(Relaxed), self.sequence.ghosts.load(Relaxed));
        let list = if self.ghost.remove(hash, number, limit) { MAIN } else { SMALL };
        self.put(list, slot)
    }

    #[inline(always)]
    fn hit(&mut self, slot: Slot) -> bool {
        let hits = &mut self.hits[slot as usize];
        *hits = (*hits + 1).min(MOST_HITS);
        false
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        let new = stored_weight(weight);
        let entry = &mut self.entries[slot as usize];
        let old = std::mem::replace(&mut entry.weight, new);
        if usize::from(entry.list) == MAIN {
            self.front.weight = self.front.weight - u64::from(old) + u64::from(new);
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.take(slot);
        self.front.len -= 1;
    }

    fn demote(&mut self, slot: Slot) -> u64 {
        self.take(slot);
        let entry = &mut self.entries[slot as usize];
        (entry.list, entry.stamp) = (LAST as u8, self.sequence.before());
        self.front.oldest[LAST] = entry.stamp;
        self.lists.push_oldest(LAST, slot);
        self.hits[slot as usize] = 0;
        entry.stamp
    }

    fn front(&self) -> Front {
        self.front
    }

    fn step(&mut self, queue: usize, all: &Front, newcomer: &mut u64, must: bool) -> Option<Slot> {
        let slot = self.lists.oldest(queue)?;
        let hits = self.hits[slot as usize];
        let new = self.entries[slot as usize].stamp == *newcomer;
        match queue {
            SMALL if hits >= HITS_TO_STAY && !must => self.pass(slot, 0, newcomer),
            MAIN | LAST if hits > 0 && !must => self.pass(slot, hits - 1, newcomer),
            MAIN if new && !all.is_short(MAIN) => self.pass(slot, 0, newcomer),
            _ => {
                if queue == SMALL {
                    let limit = all.len * 9 / 10;
                    self.sequence.ghosts.store(limit, Relaxed);
                    let number = self.sequence.noted.fetch_add(1, Relaxed) + 1;
                    self.ghost.push(self.entries[slot as usize].hash, number, limit);
                }
                self.remove(slot);
                return Some(slot);
            }
        }
        None
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
