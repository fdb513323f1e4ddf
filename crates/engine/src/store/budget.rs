//! The budget of a store that shares memory with others: it may shrink and grow, up to `max_bytes`.
use super::{Gone, Kind, Reason, Store, watch::Watch};
use crate::{memory::Value, sync::atomic::Ordering::Relaxed};

impl<V: Value> Store<V> {
    /// Returns how many bytes the store may use now.
    pub fn budget(&self) -> u64 {
        self.budget.load(Relaxed)
    }

    /// Sets the budget, at most `max_bytes`, and evicts until it holds. Returns the budget now: remembered writes,
    /// which cannot be evicted, take half of it at most.
    pub fn limit(&self, bytes: u64, gone: &mut Gone<V>) -> u64 {
        let least = self.writes_used.load(Relaxed) * 2;
        let budget = bytes.max(least).min(self.options.max_bytes);
        self.budget.store(budget, Relaxed);
        let each = budget / self.shards.len() as u64;
        // First what each shard has beyond its share, so that no shard gives all.
        for least in [each, 0] {
            for index in 0..self.shards.len() {
                let mut evicted = Vec::new();
                let mut shard = self.lock(index);
                shard.contents.policy(Kind::Main).resize(each);
                self.shrink_to(&mut shard, least, |_| false, &mut evicted);
                drop(shard);
                self.retire(evicted, Reason::Capacity, gone);
            }
        }
        budget
    }

    /// From now on `returned` counts.
    pub fn watch(&self) {
        for index in 0..self.shards.len() {
            self.lock(index).watch.get_or_insert_default();
        }
    }

    /// Returns the bytes of entries that came back after they had been evicted, since the last call: about what more
    /// memory would have kept.
    pub fn returned(&self) -> u64 {
        let taken = |index| self.lock(index).watch.as_mut().map_or(0, Watch::take);
        (0..self.shards.len()).map(taken).sum()
    }
}
