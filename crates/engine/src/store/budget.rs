//! The budget of a store that shares memory with others: it may shrink and grow, up to `max_bytes`.
use super::{Gone, Store, watch::Watch};
use crate::{memory::Value, policy::NO_STAMP, sync::atomic::Ordering::Relaxed};

impl<V: Value> Store<V> {
    /// Returns how many bytes the store may use now.
    pub fn budget(&self) -> u64 {
        self.sequence.capacity()
    }

    /// Sets the budget, at most `max_bytes`, and evicts until it holds. Returns the budget now: remembered writes,
    /// which cannot be evicted, take half of it at most.
    pub fn limit(&self, bytes: u64, gone: &mut Gone<V>) -> u64 {
        let least = self.writes_used.load(Relaxed) * 2;
        let budget = bytes.max(least).min(self.options.max_bytes);
        self.sequence.set_capacity(budget);
        self.make_room(NO_STAMP, gone);
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
