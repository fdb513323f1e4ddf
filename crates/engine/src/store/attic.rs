//! Entries that have left the shards and are still in memory: those that wait for a sweep, and those that a clear swapped out.
use std::collections::VecDeque;

use super::{Gone, Key, Reason, Store, entry::Entry, shard::Contents};
use crate::{
    memory::Value,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// As many evicted entries wait for a sweep at most, of as many bytes in sum as this part of the budget, or LEAST. The
/// oldest make room for more.
pub const EVICTED: usize = 10_000;
const PART: u64 = 8;
const LEAST: u64 = 1 << 20;
/// As many of them are returned at once, of this part of the budget.
const FEW: usize = 64;
const FEW_PART: u64 = 64;
/// As many entries that a clear swapped out are dropped at once.
const SLICE: usize = 512;

/// An entry that was evicted or has expired.
pub struct Evicted<V> {
    pub key: Key,
    pub value: Option<V>,
    pub reason: Reason,
}

/// Its locks are taken after a shard's lock is released, never before one.
pub struct Attic<V> {
    evicted: Mutex<Waiting<V>>,
    cleared: Mutex<Cleared<V>>,
    /// The bytes of the entries that a clear swapped out.
    cleared_bytes: AtomicU64,
}

struct Waiting<V> {
    /// Each with its size.
    entries: VecDeque<(u64, Evicted<V>)>,
    /// The sum of these sizes.
    bytes: u64,
}

/// The shards lose their entries by turns: those that came together lie together in memory, in whatever shards, and a
/// page is given back once all of it is free.
struct Cleared<V> {
    contents: Vec<Contents<V>>,
    /// Those of which some entries were dropped.
    begun: VecDeque<Box<dyn Iterator<Item = Entry<V>> + Send>>,
}

impl<V> Default for Attic<V> {
    fn default() -> Self {
        Self {
            evicted: Mutex::new(Waiting { entries: VecDeque::new(), bytes: 0 }),
            cleared: Mutex::new(Cleared { contents: Vec::new(), begun: VecDeque::new() }),
            cleared_bytes: AtomicU64::new(0),
        }
    }
}

impl<V: Value> Cleared<V> {
    /// Begins with one more shard: to do so with all at once would take long. Returns whether there was one.
    fn begin(&mut self) -> bool {
        let next = self.contents.pop();
        next.map(|contents| self.begun.push_back(Box::new(contents.into_entries()))).is_some()
    }

    fn next(&mut self) -> Option<Entry<V>> {
        while !self.begun.is_empty() || self.begin() {
            let mut entries = self.begun.pop_front()?;
            if let Some(entry) = entries.next() {
                self.begun.push_back(entries);
                return Some(entry);
            }
        }
        None
    }
}

impl<V: Value> Store<V> {
    /// Keeps evicted entries for the next sweep with keep_evicted, else drops them. Drops those of a clear, too, if they
    /// would not fit beside what is kept.
    pub(super) fn retire(&self, entries: Vec<Entry<V>>, reason: Reason, gone: &mut Gone<V>) {
        while self.used.load(Relaxed).saturating_add(self.attic.cleared_bytes.load(Relaxed)) > self.budget()
            && self.drop_cleared(gone)
        {}
        if entries.is_empty() {
            return;
        }
        if !self.options.keep_evicted {
            entries.into_iter().for_each(|entry| gone.add(entry));
            return;
        }
        let most = (self.budget() / PART).max(LEAST.min(self.budget()));
        let mut waiting = self.attic.evicted.lock();
        for Entry { key, value, .. } in entries {
            let size = (key.as_bytes().len() + value.as_ref().map_or(0, Value::size)) as u64;
            waiting.bytes += size;
            waiting.entries.push_back((size, Evicted { key, value, reason }));
        }
        // Bounded in bytes too, as there may never be a sweep.
        while waiting.entries.len() > EVICTED || waiting.bytes > most {
            let Some((size, oldest)) = waiting.entries.pop_front() else { break };
            waiting.bytes -= size;
            gone.0.extend(oldest.value);
        }
    }

    /// Returns the first of the entries that were evicted or have expired since the last sweep, as few as take little
    /// memory.
    pub fn evicted(&self) -> Vec<Evicted<V>> {
        let (mut few, mut left) = (Vec::new(), self.budget() / FEW_PART);
        let mut waiting = self.attic.evicted.lock();
        while few.len() < FEW {
            let Some((size, first)) = waiting.entries.pop_front() else { break };
            if size > left && !few.is_empty() {
                waiting.entries.push_front((size, first));
                break;
            }
            left = left.saturating_sub(size);
            waiting.bytes -= size;
            few.push(first);
        }
        few
    }

    /// Drops some of the entries that a clear swapped out. Returns whether there were any.
    pub fn drop_cleared(&self, gone: &mut Gone<V>) -> bool {
        if self.attic.cleared_bytes.load(Relaxed) == 0 {
            return false;
        }
        let mut cleared = self.attic.cleared.lock();
        cleared.begin();
        for _ in 0..SLICE {
            let Some(entry) = cleared.next() else {
                // Under the lock, so that none is added meanwhile.
                self.attic.cleared_bytes.store(0, Relaxed);
                return false;
            };
            self.attic.cleared_bytes.fetch_sub(entry.weight(self.options.overhead), Relaxed);
            gone.add(entry);
        }
        true
    }

    /// Keeps what a clear swapped out, so that it takes no time.
    pub(super) fn put_away(&self, contents: Contents<V>) {
        if contents.bytes > 0 {
            let mut cleared = self.attic.cleared.lock();
            self.attic.cleared_bytes.fetch_add(contents.bytes, Relaxed);
            cleared.contents.push(contents);
        }
    }

    /// Drops all that was put away.
    pub(super) fn empty_attic(&self, gone: &mut Gone<V>) {
        while self.drop_cleared(gone) {}
        gone.0.extend(self.take_evicted().into_iter().filter_map(|entry| entry.value));
    }

    pub(super) fn take_evicted(&self) -> Vec<Evicted<V>> {
        let mut waiting = self.attic.evicted.lock();
        waiting.bytes = 0;
        std::mem::take(&mut waiting.entries).into_iter().map(|(_, evicted)| evicted).collect()
    }
}
