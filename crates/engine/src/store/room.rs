//! Room for what comes: which entry leaves, in one order over all shards.
use super::{
    Entry, Gone, Kind, Reason, Store,
    shard::{Contents, NEAR},
};
use crate::{
    memory::Value,
    policy::{Front, NONE, QUEUES},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// As many entries get another place at most, in place of leaving, before some must leave: a caller waits for the room, or
/// the wire thread.
const PASSES: usize = 4_096;

/// What the queues of a shard show, for those who do not hold its lock: set under it, read without. A hit, which may
/// move the oldest entry of a queue, does not set it.
#[repr(align(64))]
#[derive(Default)]
pub struct Shown {
    oldest: [AtomicU64; QUEUES + 1],
    newest: [AtomicU64; 2],
    weight: AtomicU64,
    len: AtomicU64,
}

impl Shown {
    pub fn new<V: Value>(contents: &Contents<V>) -> Self {
        let shown = Self::default();
        shown.set(contents);
        shown
    }

    pub fn set<V: Value>(&self, contents: &Contents<V>) {
        let Front { oldest, newest, weight, len } = contents.front();
        self.oldest.iter().zip(oldest).for_each(|(shown, stamp)| shown.store(stamp, Relaxed));
        self.oldest[NEAR].store(contents.oldest(NEAR), Relaxed);
        self.newest.iter().zip(newest).for_each(|(shown, stamp)| shown.store(stamp, Relaxed));
        self.weight.store(weight, Relaxed);
        self.len.store(len, Relaxed);
    }

    fn get(&self) -> Front {
        Front {
            oldest: std::array::from_fn(|queue| self.oldest[queue].load(Relaxed)),
            newest: std::array::from_fn(|queue| self.newest[queue].load(Relaxed)),
            weight: self.weight.load(Relaxed),
            len: self.len.load(Relaxed),
        }
    }
}

impl<V: Value> Store<V> {
    /// Evicts until the budgets hold or nothing is left to evict. The caller holds no lock. A newcomer, of this stamp,
    /// goes after all others.
    pub(super) fn make_room(&self, mut newcomer: u64, gone: &mut Gone<V>) {
        let (mut evicted, mut steps) = (Vec::new(), 0);
        while self.step(&mut newcomer, steps - evicted.len() >= PASSES, &mut evicted) {
            steps += 1;
        }
        self.retire(evicted, Reason::Capacity, gone);
    }

    /// Has one shard make a step, if a budget does not hold. Returns false if there is nothing to do.
    fn step(&self, newcomer: &mut u64, must: bool, evicted: &mut Vec<Entry<V>>) -> bool {
        let near = self.near_used.load(Relaxed) > self.budget() / 8;
        let full = self.used.load(Relaxed) > self.budget();
        if !near && !full {
            return false;
        }
        let mut all = Front::default();
        self.shown.iter().for_each(|shown| all.join(&shown.get()));
        let giver = full.then(|| (self.rule.giver)(&all, self.budget(), *newcomer)).flatten();
        let oldest = |queue: usize| self.shown.iter().map(|shown| shown.oldest[queue].load(Relaxed)).zip(0..).min();
        let near = near.then(|| oldest(NEAR)).flatten().filter(|(stamp, _)| *stamp != NONE);
        let (queue, found) = match (near, giver) {
            (Some(_), _) | (None, None) => (NEAR, near.or_else(|| oldest(NEAR).filter(|_| full))),
            (None, Some(queue)) => (queue, oldest(queue)),
        };
        let Some((stamp, index)) = found.filter(|(stamp, _)| *stamp != NONE) else {
            return giver.is_some(); // another thread has just emptied that queue
        };
        let mut guard = self.lock(index);
        let shard = &mut *guard;
        if shard.contents.oldest(queue) != stamp {
            self.shown[index].set(&shard.contents); // it was asked for since, or has left
            return true;
        }
        let left = self.account(shard, |shard| {
            let slot = shard.contents.step(queue, &all, newcomer, must)?;
            let (hash, kind) = (shard.contents.origin(slot).hash, shard.contents.get(slot).kind);
            Some((hash, kind, shard.contents.take_out(slot, self.options.overhead)))
        });
        if let Some((hash, kind, entry)) = left {
            evicted.push(entry);
            shard.counts.evictions += 1;
            if let Some(watch) = shard.watch.as_mut().filter(|_| kind != Kind::Near) {
                watch.evicted(hash, shard.contents.len());
            }
        }
        true
    }
}
