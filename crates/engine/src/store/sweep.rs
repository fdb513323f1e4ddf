//! Entries whose time is over leave, and what waits for a sweep.
use super::{Evicted, Gone, Reason, Store};
use crate::{memory::Value, sync::atomic::Ordering::Relaxed};

impl<V: Value> Store<V> {
    /// Does what `expire_all` does, and returns all that `evicted` would.
    pub fn sweep(&self, since: u64, gone: &mut Gone<V>) -> Vec<Evicted<V>> {
        self.expire_all(since, gone);
        while self.drop_cleared(gone) {}
        self.take_evicted()
    }

    /// Drops expired entries and forgets old writes, but none that arrived at `since` or later: a load that began then
    /// is still under way.
    pub fn expire_all(&self, since: u64, gone: &mut Gone<V>) {
        self.options.clock.refresh();
        let now = self.options.clock.coarse();
        let mut full = false;
        let lost = self.lost_cells.load(Relaxed);
        for index in 0..self.shards.len() {
            let mut guard = self.lock(index);
            while self.account(&mut guard, |shard| shard.writes.prune(now, since)) {
                // For others who wait for the lock.
                drop(guard);
                guard = self.lock_next(index);
            }
            let shard = &mut *guard;
            full |= shard.writes.is_unnamed();
            shard.tags.sweep(lost, self.shards.len());
            self.lost_cells.fetch_add(shard.contents.cells.sweep(), Relaxed);
            self.forgotten.raise(shard.prefixes.prune(now, self.options.remember, since));
            shard.contents.turn(now);
            shard.hot.age(now);
            loop {
                let mut expired = Vec::new();
                let mut done =
                    self.account(&mut guard, |shard| shard.contents.expire(now, self.options.overhead, &mut expired));
                guard.counts.expirations += expired.len() as u64;
                done &= guard.contents.tidy();
                drop(guard);
                self.retire(expired, Reason::Expired, gone);
                if done {
                    break;
                }
                guard = self.lock_next(index);
            }
        }
        self.full.store(full, Relaxed);
    }

    /// Drops an expired entry, as sweep does, or one of which a tag was deleted.
    pub fn expire(&self, key: &str, gone: &mut Gone<V>) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let Some(slot) = shard.contents.find(hash, key.as_bytes()) else {
            return;
        };
        if !shard.contents.is_alive(slot, shard.contents.get(slot)) {
            self.forget(&mut shard, hash, key, gone);
        } else if shard.contents.gone(slot) <= self.options.clock.coarse() {
            let entry = self.account(&mut shard, |shard| shard.contents.remove(slot, self.options.overhead));
            shard.counts.expirations += 1;
            drop(shard);
            self.retire(vec![entry], Reason::Expired, gone);
        }
    }
}
