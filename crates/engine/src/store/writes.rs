//! The recent writes of one shard, which keep a value that was loaded before a write from being kept after it.
use hashbrown::HashTable;

use super::key::Key;

/// How many writes a store remembers at once.
pub const LIMIT: usize = 65_536;

/// The writes to a key that a load can have seen, by the time at which it begins.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// The greatest version known of the key.
    pub version: u128,
    /// How many writes had arrived in the key's shard.
    pub arrived: u64,
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
    /// Its number among the arrivals of this shard.
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
    /// How many writes have arrived, and the number of the last arrival that is no longer remembered by its key. A load
    /// that began before that one may be older than a write of any key.
    arrived: u64,
    forgotten: u64,
    /// No write here is older than this.
    oldest: u64,
    unnamed: u128,
    unnamed_until: u64,
}

impl Writes {
    pub fn new(keep: u64) -> Self {
        Self { table: HashTable::new(), keep, arrived: 0, forgotten: 0, oldest: u64::MAX, unnamed: 0, unnamed_until: 0 }
    }

    /// Returns an empty memory to take the place of this one; with `lost` unless a floor covers its writes.
    pub fn emptied(&self, lost: bool) -> Self {
        let arrived = self.arrived + u64::from(lost);
        let forgotten = if lost { arrived } else { self.forgotten };
        Self { arrived, forgotten, ..Self::new(self.keep) }
    }

    pub fn arrived(&self) -> u64 {
        self.arrived
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
        self.arrived += 1;
        let number = self.arrived;
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
