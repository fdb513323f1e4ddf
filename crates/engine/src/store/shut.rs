//! What a store does when this process may have missed writes.
use super::{Gone, Store};
use crate::{arrivals::next_number, memory::Value, sync::atomic::Ordering::Relaxed};

impl<V: Value> Store<V> {
    /// Finds nothing while shut, for anybody: a get goes on to the owner or the loader. Loads that are under way when
    /// the store is shut are neither joined nor kept.
    pub fn set_shut(&self, shut: bool) {
        self.options.clock.refresh(); // the machine may have been suspended
        self.shut.store(shut, Relaxed);
        for index in 0..if shut { self.shards.len() } else { 0 } {
            self.lock(index).stale = next_number();
        }
    }

    pub fn is_shut(&self) -> bool {
        self.shut.load(Relaxed)
    }

    /// Drops all entries, and keeps no load that is under way. The remembered writes and the floor stay.
    pub fn forget_entries(&self, gone: &mut Gone<V>) {
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            shard.stale = next_number();
            let old = self.take_contents(&mut shard);
            drop(shard);
            gone.0.extend(old.into_values());
        }
    }
}
