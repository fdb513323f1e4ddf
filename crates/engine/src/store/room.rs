//! Room for what comes: which entry leaves, in one order over all shards.
use super::{
    Entry, Gone, Kind, Reason, Store,
    shard::{Contents, NEAR, Shard},
};
use crate::{
    memory::Value,
    policy::{Front, NONE, QUEUES, Slot},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// As many entries get another place at most, in place of leaving, before some must leave: a caller waits for the room, or
/// the wire thread.
const PASSES: usize = 4_096;

/// The ends of a shard's queues, for those who do not hold its lock: set under it, read without. A hit, which may
/// move the oldest entry of a queue, sets it only with the weight.
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

    /// Returns the front of main and former copies, and the oldest stamp of near ones.
    fn get(&self) -> (Front, u64) {
        let front = Front {
            oldest: std::array::from_fn(|queue| self.oldest[queue].load(Relaxed)),
            newest: std::array::from_fn(|queue| self.newest[queue].load(Relaxed)),
            weight: self.weight.load(Relaxed),
            len: self.len.load(Relaxed),
        };
        (front, self.oldest[NEAR].load(Relaxed))
    }
}

impl<V: Value> Store<V> {
    /// Notifies the policy of an entry that it was asked for. The caller holds the shard's lock.
    #[inline(always)]
    pub(super) fn touch(&self, shard: &mut Shard<V>, slot: Slot, kind: Kind) {
        if shard.contents.touch(slot, kind) {
            self.shown[shard.index].set(&shard.contents);
        }
    }

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
        // All that is read of the shards is read once, as they change meanwhile.
        let (mut all, mut first) = (Front::default(), [(NONE, 0); QUEUES + 1]);
        for (index, shown) in self.shown.iter().enumerate() {
            let (front, near) = shown.get();
            all.join(&front);
            let oldest = front.oldest.into_iter().chain([near]);
            first.iter_mut().zip(oldest).for_each(|(first, stamp)| *first = (stamp, index).min(*first));
        }
        let has_near = first[NEAR].0 != NONE;
        let queue = match near && has_near {
            true => NEAR,
            false if full => (self.rule.giver)(&all, self.budget(), *newcomer).unwrap_or(NEAR),
            false => return false,
        };
        let (stamp, index) = first[queue];
        if stamp == NONE {
            return false;
        }
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
