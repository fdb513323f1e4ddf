//! The recent writes of one shard, which keep a value that was loaded before a write from being kept after it.
use std::sync::Arc;

use hashbrown::HashTable;
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

use super::{
    key::Key,
    log::{Log, Place, Record},
};
use crate::{arrivals::next_number, sync::Mutex, table::Table};

/// The bytes that a write takes in the index: 8, and what growing leaves unused, on average.
const INDEX: u64 = 12;
/// At most so many writes are forgotten at once.
const STEP: usize = 4_096;

/// The writes to a key that a load can have seen, by the time at which it begins.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    /// The greatest version known of the key.
    pub version: u128,
    /// What `arrived` returned under the lock of the key's shard.
    pub arrived: u64,
    /// The version of what is loaded: no less than that of a write of the key that is not remembered any more, so that
    /// no two loads before and after a write have the same one.
    pub loads: u128,
}

/// The greatest version of a write that the store has remembered for long enough and forgotten.
#[derive(Default)]
pub struct Forgotten(Mutex<u128>);

impl Forgotten {
    pub fn version(&self) -> u128 {
        *self.0.lock()
    }

    pub fn raise(&self, version: u128) {
        let mut greatest = self.0.lock();
        *greatest = greatest.max(version);
    }
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

/// Remembers each write for `keep` nanoseconds at least.
///
/// A write that finds no room is not remembered by its key: for the same time, every key of this shard counts as
/// written at that version. That refuses too much and never too little. As `known` returns it for every key, later
/// writes get versions above it.
pub struct Writes {
    log: Log,
    index: Table<1>,
    secrets: RapidSecrets,
    keep: u64,
    /// The number of the last arrival that is no longer remembered by its key. A load that began before that one may be
    /// older than a write of any key.
    forgotten: u64,
    unnamed: u128,
    unnamed_until: u64,
    /// That of the store.
    versions: Arc<Forgotten>,
}

impl Writes {
    /// Makes an empty memory of keys with these hashes. It grows by chunks of about that many bytes.
    pub fn new(keep: u64, chunk: usize, secrets: RapidSecrets, versions: Arc<Forgotten>) -> Self {
        let (log, index) = (Log::new(chunk), Table::default());
        Self { log, index, secrets, keep, forgotten: 0, unnamed: 0, unnamed_until: 0, versions }
    }

    /// Returns an empty memory to take the place of this one; with `lost` unless a floor covers its writes.
    pub fn emptied(&self, lost: bool) -> Self {
        let forgotten = if lost { next_number() } else { self.forgotten };
        Self { forgotten, log: self.log.emptied(), ..Self::new(self.keep, 0, self.secrets, self.versions.clone()) }
    }

    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Returns whether every write that arrived since the mark is still known by its key, or covered by the floor.
    pub fn complete_since(&self, mark: Mark) -> bool {
        self.forgotten <= mark.arrived
    }

    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns how much memory the writes take.
    pub fn bytes(&self) -> u64 {
        self.log.bytes() + self.len() as u64 * INDEX
    }

    /// Returns how many bytes a write of this key may take at most.
    pub fn cost(key: &str) -> u64 {
        Record::cost(key) + INDEX
    }

    /// Returns whether a write found no room of late, since which any key may have been written.
    pub fn is_unnamed(&self) -> bool {
        self.unnamed > 0
    }

    /// Returns the greatest version remembered for this key, 0 for none.
    pub fn known(&self, hash: u64, key: &str, now: impl Fn() -> u64) -> u128 {
        let named = self.named(hash, key);
        if self.unnamed > named && now() < self.unnamed_until { self.unnamed } else { named }
    }

    /// Returns the version that is remembered under this very key, 0 for none.
    pub fn named(&self, hash: u64, key: &str) -> u128 {
        self.place(hash, key).map_or(0, |place| self.log.version(place))
    }

    /// Returns the number of the arrival of that write, 0 for none.
    pub fn number(&self, hash: u64, key: &str) -> u64 {
        self.place(hash, key).map_or(0, |place| self.log.number(place))
    }

    fn place(&self, hash: u64, key: &str) -> Option<Place> {
        self.index.find(hash, |place, _| (self.log.key(place) == key.as_bytes()).then_some(place))
    }

    /// Remembers a version greater than `known`, and returns whether by its key.
    pub fn remember(&mut self, hash: u64, key: &str, version: u128, now: u64, room: bool) -> bool {
        let number = next_number();
        if !room || !self.log.has_room() {
            self.forgotten = number;
            self.unnamed = self.unnamed.max(version);
            self.unnamed_until = now.saturating_add(self.keep);
            return false;
        }
        let Self { log, index, secrets, .. } = self;
        let place = log.push(version, number, now, key.as_bytes());
        match index.find(hash, |place, _| (log.key(place) == key.as_bytes()).then_some(place)) {
            None => index.insert(hash, place, 0),
            Some(before) => {
                index.rename(hash, before, place);
                log.bury(before, |key, before, now| index.rename(hashed(key, secrets), before, now));
            }
        }
        true
    }

    /// Forgets writes that were remembered for long enough and arrived before `since`. Returns whether it stopped
    /// before the last of them, as they were many.
    pub fn prune(&mut self, now: u64, since: u64) -> bool {
        let mut greatest = if self.unnamed_until <= now { std::mem::take(&mut self.unnamed) } else { 0 };
        let mut rest = STEP;
        while let Some((place, write)) = self.log.front().filter(|_| rest > 0) {
            if write.at.saturating_add(self.keep) > now || write.at >= since {
                break;
            }
            self.forgotten = self.forgotten.max(write.number);
            greatest = greatest.max(write.version);
            let hash = hashed(write.key, &self.secrets);
            self.index.remove(hash, place);
            self.log.pop_front();
            rest -= 1;
        }
        self.versions.raise(greatest);
        rest == 0
    }

    /// Forgets the writes that a clear of this version covers.
    pub fn clear(&mut self, version: u128) {
        let emptied = self.log.emptied();
        let before = std::mem::replace(&mut self.log, emptied);
        self.index = Table::default();
        let Self { log, index, secrets, .. } = self;
        for write in before.after(0).filter(|write| write.version > version) {
            let place = log.push(write.version, write.number, write.at, write.key);
            index.insert(hashed(write.key, secrets), place, 0);
        }
    }

    /// Returns the writes that arrived after a number, in that order.
    pub fn after(&self, number: u64) -> impl Iterator<Item = Record<'_>> {
        self.log.after(number)
    }
}

fn hashed(key: &[u8], secrets: &RapidSecrets) -> u64 {
    rapidhash_v3_seeded(key, secrets)
}
