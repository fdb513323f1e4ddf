//! The knowledge of a shard about tags and prefixes; see `tags.rs`.
use std::{collections::HashMap, sync::Arc};

use hashbrown::HashTable;
use rapidhash::fast::RandomState;

use super::key::Key;
use crate::{
    arrivals::next_number,
    policy::Slot,
    sync::atomic::{AtomicBool, Ordering},
};

/// The beginning of the key of a tag, and of a prefix. A key of a user that begins so is written as a tag as well, which
/// drops too much and never too little.
pub const TAG: &str = "\0tag\0";
pub const PREFIX: &str = "\0prefix\0";

/// The cost of the list of an entry's cells: an allocation, its place in a table that grows and is shrunk, and what the
/// tags take in the value's memory.
const LIST: u64 = 112;
/// The cost of a cell: two allocations, its place in a table that grows, and a part of the unused ones.
const CELL: u64 = 224;

/// Shows whether a tag was deleted since an entry was kept with it.
#[derive(Default)]
pub struct Cell(AtomicBool);

impl Cell {
    pub fn is_dead(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The cells of one entry, none for most.
pub type Cells = Box<[Arc<Cell>]>;

/// Returns the number for cells of an entry by which `cost` says what they take beside its value: 0 for none, and 1 more
/// for each that no other entry has. An entry that shares one pays nothing for it, as one that came before does.
pub fn own(cells: &Cells) -> u8 {
    let alone = cells.iter().filter(|cell| Arc::strong_count(cell) <= 2).count(); // here and in the table
    if cells.is_empty() { 0 } else { u8::try_from(alone + 1).unwrap_or(u8::MAX) }
}

pub fn cost(own: u8) -> u64 {
    if own == 0 { 0 } else { LIST + u64::from(own - 1) * CELL }
}

/// The cells of a shard's entries, of those that have any.
#[derive(Default)]
pub struct Owned {
    cells: HashMap<Slot, Cells, RandomState>,
    /// The number of all cells here, and of those that entries have lost since the last sweep.
    held: usize,
    lost: u64,
}

impl Owned {
    pub fn get(&self, slot: Slot) -> Option<&Cells> {
        self.cells.get(&slot)
    }

    /// Gives cells to an entry that has none.
    pub fn give(&mut self, slot: Slot, cells: Cells) {
        self.held += cells.len();
        self.cells.insert(slot, cells);
    }

    /// Takes the cells of an entry, which gets others instead.
    pub fn take(&mut self, slot: Slot, others: &[Arc<Cell>]) {
        let Some(before) = self.cells.remove(&slot) else { return };
        self.held -= before.len();
        let lost = before.iter().filter(|cell| !others.iter().any(|other| Arc::ptr_eq(cell, other)));
        self.lost += lost.count() as u64;
    }

    /// Returns what takes the place of all when they leave.
    pub fn emptied(&self) -> Self {
        Self { lost: self.lost + self.held as u64, ..Self::default() }
    }

    /// Gives memory back, and returns how many cells entries have lost since this was last called.
    pub fn sweep(&mut self) -> u64 {
        if self.cells.capacity() > 4 * self.cells.len() + 64 {
            self.cells.shrink_to(2 * self.cells.len());
        }
        std::mem::take(&mut self.lost)
    }
}

/// The tags of which the entries of a store have cells, in the shards of their keys.
#[derive(Default)]
pub struct Tags {
    cells: HashTable<(Key, u64, Arc<Cell>)>,
    /// The number that was left when unused ones were last dropped, and how many cells entries had lost by then.
    used: usize,
    lost: u64,
}

impl Tags {
    pub fn cell(&mut self, hash: u64, key: &str) -> Arc<Cell> {
        if self.has_doubled() {
            self.prune();
        }
        let entry = self.cells.entry(hash, |(one, ..)| one.is(key.as_bytes()), |(_, hash, _)| *hash);
        entry.or_insert_with(|| (Key::new(key), hash, Arc::default())).get().2.clone()
    }

    pub fn kill(&mut self, hash: u64, key: &str) {
        if let Ok(found) = self.cells.find_entry(hash, |(one, ..)| one.is(key.as_bytes())) {
            found.remove().0.2.0.store(true, Ordering::Release);
        }
    }

    /// Drops the cells that no entry has any more, once they may be half of all, or entries have lost a quarter of them:
    /// `lost` in a store of so many shards.
    pub fn sweep(&mut self, lost: u64, shards: usize) {
        let ours = lost.saturating_sub(self.lost) / shards as u64;
        if self.has_doubled() || ours > self.cells.len() as u64 / 4 + 16 {
            self.prune();
            self.lost = lost;
        }
    }

    fn has_doubled(&self) -> bool {
        self.cells.len() > 2 * self.used + 64
    }

    fn prune(&mut self) {
        self.cells.retain(|(.., cell)| Arc::strong_count(cell) > 1);
        self.used = self.cells.len();
        self.cells.shrink_to(self.used * 2, |(_, hash, _)| *hash);
    }
}

/// The deleted prefixes of which no older value may be kept.
#[derive(Default)]
pub struct Prefixes(Vec<Prefix>);

struct Prefix {
    text: Box<str>,
    version: u128,
    at: u64,
    number: u64,
}

impl Prefixes {
    /// Returns the greatest version at which a prefix of this key was deleted.
    #[inline]
    pub fn known(&self, key: &str) -> u128 {
        let matching = self.0.iter().filter(|prefix| key.starts_with(&*prefix.text));
        matching.map(|prefix| prefix.version).max().unwrap_or(0)
    }

    pub fn add(&mut self, text: &str, version: u128, at: u64) {
        self.0.retain(|prefix| &*prefix.text != text || prefix.version > version);
        self.0.push(Prefix { text: text.into(), version, at, number: next_number() });
    }

    /// Forgets those that were remembered for long enough and arrived before `since`. Returns their greatest version.
    pub fn prune(&mut self, now: u64, keep: u64, since: u64) -> u128 {
        let mut forgotten = 0;
        self.0.retain(|prefix| {
            let keeps = prefix.at.saturating_add(keep) > now || prefix.number >= since;
            forgotten = if keeps { forgotten } else { forgotten.max(prefix.version) };
            keeps
        });
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_entry_has_any_more_leaves_once_a_quarter_is_lost() {
        let (mut tags, mut owned, mut lost) = (Tags::default(), Owned::default(), 0);
        let mut cells = |slot: u32| -> Cells {
            (0..4).map(|nth| tags.cell(u64::from(slot) << 32 | nth, &format!("{slot} {nth}"))).collect()
        };
        for slot in 0..1_000 {
            owned.give(slot, cells(slot));
        }
        for slot in 0..1_000 {
            let same = cells(slot);
            owned.take(slot, &same); // as a rewrite does
            owned.give(slot, same);
        }
        assert_eq!(owned.sweep(), 0);
        (0..200).for_each(|slot| owned.take(slot, &[]));
        lost += owned.sweep();
        tags.sweep(lost, 1);
        assert_eq!((lost, tags.cells.len()), (800, 4_000));
        (200..300).for_each(|slot| owned.take(slot, &[]));
        lost += owned.sweep();
        tags.sweep(lost, 2);
        assert_eq!(tags.cells.len(), 4_000);
        tags.sweep(lost, 1);
        assert_eq!(tags.cells.len(), 2_800);
        let mut emptied = owned.emptied();
        drop(owned);
        lost += emptied.sweep();
        tags.sweep(lost, 1);
        assert_eq!((lost, tags.cells.len(), tags.cells.capacity()), (4_000, 0, 0));
    }
}
