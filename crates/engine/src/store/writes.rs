//! The recent writes of one shard, which keep a value that was loaded before a write from being kept after it.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hashbrown::HashTable;

use super::key::Key;

/// How many writes a store remembers at once.
pub const LIMIT: usize = 65_536;

/// The writes to a key that a load can have seen, by the time at which it begins.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// The greatest version known of the key.
    pub version: u128,
    /// What `arrived` returned under the lock of the key's shard.
    pub arrived: u64,
}

/// The number of the last arrival in this process: of a write that a store remembers, or of a floor that it raises.
/// It begins at 1: members say 0 where they know of no number.
static ARRIVED: AtomicU64 = AtomicU64::new(1);

/// Returns the number of the last arrival in this process. A shard takes the next number under its lock: whoever locks
/// the shard after reading a number finds everything that arrived in it up to that number.
pub fn arrived() -> u64 {
    ARRIVED.load(Relaxed)
}

/// Takes the number of the next arrival, under a shard's lock.
pub fn next() -> u64 {
    ARRIVED.fetch_add(1, Relaxed) + 1
}

/// The keys with writes that wait to be sent to their owners, and how many. What a load brings meanwhile is older than
/// those, and so is neither kept nor joined: the writer's next get would not wait for its own write.
#[derive(Default)]
pub struct Pending(HashTable<(Key, u64, usize)>);

impl Pending {
    pub fn has(&self, hash: u64, key: &str) -> bool {
        !self.0.is_empty() && self.0.find(hash, |(one, ..)| one.is(key.as_bytes())).is_some()
    }

    pub fn add(&mut self, hash: u64, key: &str) {
        match self.0.find_mut(hash, |(one, ..)| one.is(key.as_bytes())) {
            Some((.., number)) => *number += 1,
            None => drop(self.0.insert_unique(hash, (Key::new(key), hash, 1), |(_, hash, _)| *hash)),
        }
    }

    pub fn remove(&mut self, hash: u64, key: &str) {
        if let Ok(mut found) = self.0.find_entry(hash, |(one, ..)| one.is(key.as_bytes())) {
            found.get_mut().2 -= 1;
            if found.get().2 == 0 {
                found.remove();
            }
        }
        if self.0.is_empty() {
            self.0 = HashTable::new();
        }
    }
}

struct Write {
    key: Key,
    hash: u64,
    version: u128,
    at: u64,
    /// Its number among the arrivals of this process.
    number: u64,
}

/// Remembers each write for `keep` nanoseconds at least.
///
/// A write that finds no room is not remembered by its key: for the same time, every key of this shard counts as
/// written at that version. That refuses too much and never too little. As `known` returns it for every key, later
/// writes get versions above it.
pub struct Writes {
    table: HashTable<Write>,
    keep: u64,
    /// The number of the last arrival that is no longer remembered by its key. A load that began before that one may be
    /// older than a write of any key.
    forgotten: u64,
    /// No write here is older than this.
    oldest: u64,
    unnamed: u128,
    unnamed_until: u64,
}

impl Writes {
    pub fn new(keep: u64) -> Self {
        Self { table: HashTable::new(), keep, forgotten: 0, oldest: u64::MAX, unnamed: 0, unnamed_until: 0 }
    }

    /// Returns an empty memory to take the place of this one; with `lost` unless a floor covers its writes.
    pub fn emptied(&self, lost: bool) -> Self {
        let forgotten = if lost { next() } else { self.forgotten };
        Self { forgotten, ..Self::new(self.keep) }
    }

    /// Takes a number for the arrival of a floor.
    pub fn raised(&self) {
        next();
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns whether every write that arrived since the mark is still known by its key, or covered by the floor.
    pub fn complete_since(&self, mark: Mark) -> bool {
        self.forgotten <= mark.arrived
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns the greatest version remembered for this key, 0 for none.
    pub fn known(&self, hash: u64, key: &str, now: impl Fn() -> u64) -> u128 {
        let named = self.named(hash, key);
        if self.unnamed > named && now() < self.unnamed_until { self.unnamed } else { named }
    }

    /// Returns the version that is remembered under this very key, 0 for none.
    pub fn named(&self, hash: u64, key: &str) -> u128 {
        self.table.find(hash, |w| w.key.is(key.as_bytes())).map_or(0, |w| w.version)
    }

    /// Remembers a version greater than `known`. Returns whether the table grew.
    pub fn remember(&mut self, hash: u64, key: &str, version: u128, now: u64, room: bool) -> bool {
        let number = next();
        if let Some(write) = self.table.find_mut(hash, |w| w.key.is(key.as_bytes())) {
            (write.version, write.at, write.number) = (version, now, number);
            return false;
        }
        if !room {
            self.forgotten = number;
            self.unnamed = self.unnamed.max(version);
            self.unnamed_until = now.saturating_add(self.keep);
            return false;
        }
        self.oldest = self.oldest.min(now);
        self.table.insert_unique(hash, Write { key: Key::new(key), hash, version, at: now, number }, |w| w.hash);
        true
    }

    /// Forgets writes that were remembered for long enough and arrived before `since`, and returns how many. Searches
    /// only if one is overdue by `slack`.
    pub fn prune(&mut self, now: u64, slack: u64, since: u64) -> usize {
        let keep = self.keep;
        if self.unnamed_until <= now {
            self.unnamed = 0;
        }
        if self.oldest.saturating_add(keep).saturating_add(slack) > now {
            return 0;
        }
        let mut forgotten = self.forgotten;
        let pruned = self.retain(|w| {
            let kept = w.at.saturating_add(keep) > now || w.at >= since;
            if !kept {
                forgotten = forgotten.max(w.number);
            }
            kept
        });
        self.forgotten = forgotten;
        pruned
    }

    /// Forgets the writes that a clear of this version covers, and returns how many.
    pub fn clear(&mut self, version: u128) -> usize {
        self.retain(|w| w.version > version)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u128)> {
        self.table.iter().map(|w| (w.key.as_str(), w.version))
    }

    /// Returns at most `limit` writes that arrived after a number, with their own numbers, in that order.
    pub fn after(&self, number: u64, limit: usize) -> impl Iterator<Item = (&str, u128, u64)> {
        let mut found: Vec<&Write> = self.table.iter().filter(|w| w.number > number).collect();
        if found.len() > limit {
            found.select_nth_unstable_by_key(limit, |w| w.number);
            found.truncate(limit);
        }
        found.sort_unstable_by_key(|w| w.number);
        found.into_iter().map(|w| (w.key.as_str(), w.version, w.number))
    }

    fn retain(&mut self, mut keep: impl FnMut(&Write) -> bool) -> usize {
        let before = self.table.len();
        let mut oldest = u64::MAX;
        self.table.retain(|write| {
            let kept = keep(write);
            if kept {
                oldest = oldest.min(write.at);
            }
            kept
        });
        self.oldest = oldest;
        if self.table.is_empty() {
            self.table = HashTable::new();
        }
        before - self.table.len()
    }
}
