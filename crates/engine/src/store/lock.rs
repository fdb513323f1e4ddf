//! The lock of a shard, and the turns of those that want it.
use std::{ops::Deref, sync::TryLockError};

use super::{Store, shard::Shard};
use crate::{
    memory::Value,
    sync::{self, Guard, Poisoned, atomic::Ordering::Relaxed},
};

/// So many pauses are made at most for threads that wait for a shard: they need one, or some on a busy machine.
const PAUSES: usize = 10;

/// A shard at the beginning of a cache line, so that its lock and the counters of a hit are in the same one, and in none of
/// another shard. Processors fetch lines in pairs.
#[repr(align(128))]
pub struct Place<T>(Poisoned<T>);

impl<T> Place<T> {
    pub fn new(shard: T) -> Self {
        Self(Poisoned::new(shard))
    }
}

impl<T> Deref for Place<T> {
    type Target = Poisoned<T>;

    fn deref(&self) -> &Poisoned<T> {
        &self.0
    }
}

impl<V: Value> Store<V> {
    #[inline]
    pub(super) fn lock(&self, index: usize) -> Guard<'_, Shard<V>> {
        match self.shards[index].try_lock() {
            Ok(shard) => shard,
            Err(TryLockError::WouldBlock) => self.wait(index),
            Err(TryLockError::Poisoned(poisoned)) => self.recover(index, poisoned.into_inner()),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait(&self, index: usize) -> Guard<'_, Shard<V>> {
        self.waiting[index].fetch_add(1, Relaxed);
        let shard = self.shards[index].lock();
        self.waiting[index].fetch_sub(1, Relaxed);
        shard.unwrap_or_else(|poisoned| self.recover(index, poisoned.into_inner()))
    }

    /// Locks a shard for the next slice of an operation that goes over all of it. A thread that waits takes longer to
    /// wake up than this one to lock again, and would wait for all slices.
    pub(super) fn lock_next(&self, index: usize) -> Guard<'_, Shard<V>> {
        for _ in 0..PAUSES {
            if self.waiting[index].load(Relaxed) == 0 {
                break;
            }
            sync::pause();
        }
        self.lock(index)
    }

    /// Empties a shard that a panic left torn. The contents are leaked, as dropping them may panic again.
    #[cold]
    #[inline(never)]
    fn recover<'a>(&self, index: usize, mut shard: Guard<'a, Shard<V>>) -> Guard<'a, Shard<V>> {
        std::mem::forget(self.swap(&mut shard, true));
        self.shards[index].clear_poison();
        shard
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;
    use crate::{
        clock::Clock,
        store::Options,
        sync::atomic::{AtomicBool, Ordering::SeqCst},
    };

    impl Value for () {
        fn received(_: bytes::Bytes) -> Self {}

        fn bytes(&self) -> &[u8] {
            &[]
        }
    }

    #[test]
    fn a_thread_that_waits_comes_before_the_next_slice() {
        let store = Store::<()>::new(Options {
            name: "g".into(),
            max_bytes: 1 << 20,
            policy: "lru".into(),
            clock: Arc::new(Clock::manual(0)),
            near_ttl: 1,
            remember: 1,
            freshness: None,
            overhead: 100,
            keep_evicted: false,
            packs: false,
        })
        .unwrap();
        let is_first = || {
            let had = AtomicBool::new(false);
            let slice = store.lock(0);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let _shard = store.lock(0);
                    had.store(true, SeqCst);
                });
                while store.waiting[0].load(SeqCst) == 0 {
                    thread::yield_now();
                }
                thread::sleep(std::time::Duration::from_millis(1)); // it sleeps by now
                drop(slice);
                let _next = store.lock_next(0);
                had.load(SeqCst)
            })
        };
        // On a busy machine it may come too late, but not each time.
        assert!((0..20).filter(|_| is_first()).count() > 4);
        assert_eq!(store.waiting[0].load(SeqCst), 0);
    }
}
