//! The knowledge of a shard about tags and prefixes; see `tags.rs`.
use std::sync::Arc;

use hashbrown::HashTable;

use super::key::Key;
use crate::{
    arrivals::next_number,
    sync::atomic::{AtomicBool, Ordering},
};

/// The beginning of the key of a tag, and of a prefix. A key of a user that begins so is written as a tag as well, which
/// drops too much and never too little.
pub const TAG: &str = "\0tag\0";
pub const PREFIX: &str = "\0prefix\0";

/// The cost of tags beyond the bytes of their value: cells, and the ways to them.
pub const COST: u64 = 128;

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

/// The tags of which the entries of a store have cells, in the shards of their keys.
#[derive(Default)]
pub struct Tags {
    cells: HashTable<(Key, u64, Arc<Cell>)>,
    /// The number that was left when unused ones were last dropped.
    used: usize,
}

impl Tags {
    pub fn cell(&mut self, hash: u64, key: &str) -> Arc<Cell> {
        let entry = self.cells.entry(hash, |(one, ..)| one.is(key.as_bytes()), |(_, hash, _)| *hash);
        entry.or_insert_with(|| (Key::new(key), hash, Arc::default())).get().2.clone()
    }

    pub fn kill(&mut self, hash: u64, key: &str) {
        if let Ok(found) = self.cells.find_entry(hash, |(one, ..)| one.is(key.as_bytes())) {
            found.remove().0.2.0.store(true, Ordering::Release);
        }
    }

    /// Drops the cells that no entry has any more, once they may be half of all.
    pub fn prune(&mut self) {
        if self.cells.len() > 2 * self.used + 64 {
            self.cells.retain(|(.., cell)| Arc::strong_count(cell) > 1);
            self.used = self.cells.len();
            self.cells.shrink_to(self.used * 2, |(_, hash, _)| *hash);
        }
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

    /// Forgets those that were remembered for long enough and arrived before `since`.
    pub fn prune(&mut self, now: u64, keep: u64, since: u64) {
        self.0.retain(|prefix| prefix.at.saturating_add(keep) > now || prefix.number >= since);
    }
}
