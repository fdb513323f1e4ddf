//! The names of entries that left a short while ago: hashes only, in the order they left, each at most once.

use super::{Slot, list::Lists};
use hashbrown::HashTable;

const LIVE: usize = 0;
const FREE: usize = 1;

/// A FIFO set of hashes; a collision of two keys costs a wrong guess about one of them, no more.
pub struct Ghost {
    lists: Lists<2>,
    hashes: Vec<u64>,
    table: HashTable<Slot>,
}

impl Default for Ghost {
    fn default() -> Self {
        Ghost { lists: Lists::new(), hashes: Vec::new(), table: HashTable::new() }
    }
}

impl Ghost {
    /// Adds `hash` as the newest, then forgets the oldest ones over `limit`.
    pub fn push(&mut self, hash: u64, limit: usize) {
        self.remove(hash);
        while self.table.len() >= limit.max(1) {
            let Some(oldest) = self.lists.oldest(LIVE) else { break };
            self.remove(self.hashes[oldest as usize]);
        }
        if limit == 0 {
            return;
        }
        let place = self.lists.oldest(FREE).inspect(|&place| self.lists.unlink(place)).unwrap_or_else(|| {
            let place = self.hashes.len() as Slot;
            self.hashes.push(hash);
            self.lists.reserve(place);
            place
        });
        self.hashes[place as usize] = hash;
        self.lists.push_newest(LIVE, place);
        let hashes = &self.hashes;
        self.table.insert_unique(hash, place, |&other| hashes[other as usize]);
    }

    /// Takes `hash` out, and returns whether it was there.
    pub fn remove(&mut self, hash: u64) -> bool {
        let hashes = &self.hashes;
        let Ok(found) = self.table.find_entry(hash, |&place| hashes[place as usize] == hash) else {
            return false;
        };
        let (place, _) = found.remove();
        self.lists.unlink(place);
        self.lists.push_newest(FREE, place);
        true
    }
}
