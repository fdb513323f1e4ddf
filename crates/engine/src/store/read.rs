//! Reads of a store.
use super::{
    Kind, Mark, SHARDS, Store,
    entry::{Entry, NEVER},
    shard::{Contents, Shard},
};
use crate::{
    arrivals::arrived,
    memory::Value,
    outcome::{self, OUTCOMES},
    policy::Slot,
    sync::atomic::Ordering::Relaxed,
};

/// So many keys are looked up under one lock of a shard at most.
const AT_ONCE: usize = 128;

/// The answer to a local caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup<R> {
    Hit(R),
    Absent,
    /// Nothing is here.
    Miss,
    /// What is here is not for local callers any more: `expire` may drop it.
    Past,
}

/// All numbers of a store at one moment of each shard.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// By position in [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    pub evictions: u64,
    pub expirations: u64,
    pub entries: u64,
    /// Of entries and of remembered writes.
    pub bytes: u64,
    pub near_bytes: u64,
    pub remembered: u64,
    pub remembered_bytes: u64,
    /// Writes for which there was no room.
    pub unremembered: u64,
}

impl<V: Value> Contents<V> {
    /// Returns whether local callers may have the entry.
    #[inline]
    fn serves(&self, slot: Slot, entry: &Entry<V>, now: impl Fn() -> u64) -> bool {
        !entry.expired(&now)
            && (entry.kind != Kind::Former || now() < self.origin(slot).served_until)
            && self.is_alive(slot, entry)
    }
}

impl<V> Shard<V> {
    /// Counts a get, hit or miss, and takes a sample for the hot keys if it is time.
    #[inline(always)]
    fn count_get(&mut self, hash: u64, key: &str) {
        self.counts.gets += 1;
        if self.counts.gets >= self.counts.sample_at {
            self.counts.sample_at = self.counts.gets + self.hot.sample(hash, key);
        }
    }
}

impl<V: Value> Store<V> {
    /// Looks a key up for a local caller, counts, and notifies the policy. `hit` runs under the shard's lock: it may
    /// take a handle or a reference, no more.
    #[inline(always)]
    pub fn lookup<R>(&self, key: &str, hit: impl FnOnce(&V, Kind) -> R) -> Lookup<R> {
        self.look(self.hash(key), key, true, hit)
    }

    /// Does the same for many keys with their hashes; `hit` also takes the key's place. Each shard is locked once for
    /// [`AT_ONCE`] keys.
    pub fn lookup_many(&self, keys: &[(u64, &str)], mut hit: impl FnMut(usize, &V, Kind)) -> Vec<Lookup<()>> {
        const NONE: u8 = AT_ONCE as u8;
        let mut answers = vec![Lookup::Miss; keys.len()];
        for begun in (0..keys.len()).step_by(AT_ONCE) {
            let keys = &keys[begun..keys.len().min(begun + AT_ONCE)];
            // A chain of keys for each shard, in their order: where it begins, and the next of each key.
            let mut first = [NONE; SHARDS];
            let mut next = [NONE; AT_ONCE];
            for (at, (hash, _)) in keys.iter().enumerate().rev() {
                next[at] = std::mem::replace(&mut first[self.index(*hash)], at as u8);
            }
            for (index, &first) in first.iter().enumerate().filter(|&(_, &first)| first != NONE) {
                let mut shard = self.lock(index);
                let mut at = first;
                while let Some(&(hash, key)) = keys.get(usize::from(at)) {
                    let place = begun + usize::from(at);
                    answers[place] = self.look_in(&mut shard, hash, key, true, |value, kind| hit(place, value, kind));
                    at = next[usize::from(at)];
                }
            }
        }
        answers
    }

    /// Looks up one key; a miss counts only with `misses`, else the code that continues the request counts it.
    #[inline(always)]
    pub(super) fn look<R>(&self, hash: u64, key: &str, misses: bool, hit: impl FnOnce(&V, Kind) -> R) -> Lookup<R> {
        self.look_in(&mut self.shard(hash), hash, key, misses, hit)
    }

    #[inline(always)]
    fn look_in<R>(
        &self,
        shard: &mut Shard<V>,
        hash: u64,
        key: &str,
        misses: bool,
        hit: impl FnOnce(&V, Kind) -> R,
    ) -> Lookup<R> {
        if misses {
            shard.count_get(hash, key);
        }
        let Some((slot, entry)) = shard.contents.entry(hash, key.as_bytes()).filter(|_| !self.is_shut()) else {
            return Lookup::Miss;
        };
        if !shard.contents.serves(slot, entry, || self.options.clock.coarse()) {
            return Lookup::Past;
        }
        let kind = entry.kind;
        let answer = match &entry.value {
            Some(value) => Lookup::Hit(hit(value, kind)),
            None => Lookup::Absent,
        };
        if !misses {
            shard.count_get(hash, key);
        }
        match (&answer, kind) {
            (Lookup::Hit(_), Kind::Near) => shard.counts.near_hits += 1,
            (Lookup::Hit(_), _) => shard.counts.hits += 1,
            _ => shard.counts.absent += 1,
        }
        self.touch(shard, slot, kind);
        answer
    }

    /// Counts a get that found nothing here, as `lookup` does.
    pub fn count_miss(&self, key: &str) {
        let hash = self.hash(key);
        self.shard(hash).count_get(hash, key);
    }

    /// Takes back the count of a hit whose value is of no use. The code that continues the request counts it.
    pub fn uncount(&self, key: &str, kind: Kind) {
        let mut shard = self.shard(self.hash(key));
        let counts = &mut shard.counts;
        let counter = if kind == Kind::Near { &mut counts.near_hits } else { &mut counts.hits };
        *counter = counter.saturating_sub(1); // a forked child has begun anew
    }

    /// Looks a key up without counting it or notifying the policy.
    pub fn peek(&self, key: &str) -> Lookup<V> {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let contents = &shard.contents;
        let slot = contents.alive(hash, key.as_bytes());
        match slot.map(|slot| (slot, contents.get(slot))) {
            Some((slot, entry)) if !self.is_shut() && contents.serves(slot, entry, || self.options.clock.coarse()) => {
                entry.value.clone().map_or(Lookup::Absent, Lookup::Hit)
            }
            _ => Lookup::Miss,
        }
    }

    /// Returns the value (None: absent), version, remaining nanoseconds and kind of an entry of any kind.
    pub fn find(&self, key: &str) -> Option<(Option<V>, u128, Option<u64>, Kind)> {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let slot = shard.contents.alive(hash, key.as_bytes()).filter(|_| !self.is_shut())?;
        let entry = shard.contents.get(slot);
        let origin = shard.contents.origin(slot);
        let remaining = self.remaining(entry, origin.ends)?;
        Some((entry.value.clone(), origin.version, remaining, entry.kind))
    }

    /// Returns the greatest version of this key known here: of its entry, its remembered write, the floor, or the delete
    /// of a prefix.
    pub fn known(&self, key: &str) -> u128 {
        let hash = self.hash(key);
        self.known_in(&self.shard(hash), hash, key)
    }

    /// Returns the mark of a load of this key that begins now.
    pub fn mark(&self, key: &str) -> Mark {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let version = self.known_in(&shard, hash, key);
        Mark { version, arrived: arrived(), loads: version.max(self.forgotten.version()) }
    }

    /// Returns whether no write has become known since a load of this key with that mark began, and none is pending.
    pub fn fresh(&self, key: &str, mark: Mark) -> bool {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        shard.is_complete_since(mark)
            && self.known_in(&shard, hash, key) <= mark.version
            && !shard.pending.has(hash, key)
            && !self.has_lost_tags_since(mark)
    }

    pub(super) fn known_in(&self, shard: &Shard<V>, hash: u64, key: &str) -> u128 {
        let now = || self.options.clock.coarse();
        let slot = shard.contents.find(hash, key.as_bytes());
        let entry = slot
            .filter(|&slot| matches!(shard.contents.gone(slot), NEVER) || shard.contents.gone(slot) > now())
            .map_or(0, |slot| shard.contents.origin(slot).version);
        entry.max(shard.writes.known(hash, key, now)).max(shard.floor).max(shard.prefixes.known(key))
    }

    /// Returns the greatest version of a write of this very key, of a clear, or of the delete of a prefix.
    pub(super) fn named_in(&self, shard: &Shard<V>, hash: u64, key: &str) -> u128 {
        shard.writes.named(hash, key).max(shard.floor).max(shard.prefixes.known(key))
    }

    /// Returns the version of the last clear that has reached all shards.
    pub fn floor(&self) -> u128 {
        self.lock(0).floor
    }

    /// Returns whether a write found no room of late, as the last sweep saw it.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for (sum, counter) in stats.outcomes.iter_mut().zip(&self.outcomes) {
            *sum = counter.load(Relaxed);
        }
        for index in 0..self.shards.len() {
            let shard = self.lock(index);
            let counts = &shard.counts;
            stats.outcomes[outcome::GETS] += counts.gets;
            stats.outcomes[outcome::HITS] += counts.hits;
            stats.outcomes[outcome::NEAR_HITS] += counts.near_hits;
            stats.outcomes[outcome::ABSENT] += counts.absent;
            stats.outcomes[outcome::SERVED] += counts.served;
            stats.evictions += counts.evictions;
            stats.expirations += counts.expirations;
            stats.entries += shard.contents.len() as u64;
            stats.bytes += shard.accounted.bytes;
            stats.near_bytes += shard.accounted.near;
            stats.remembered += shard.writes.len() as u64;
            stats.remembered_bytes += shard.accounted.writes;
            stats.unremembered += counts.unremembered;
        }
        stats
    }

    /// Returns the time left to an entry whose ttl ends then. None: a hit of it needs a decision; Some(None): it never
    /// expires; Some(Some(0)): it is stale.
    pub(super) fn remaining(&self, entry: &Entry<V>, ends: u64) -> Option<Option<u64>> {
        if entry.expires == NEVER {
            return Some(None);
        }
        let now = self.options.clock.coarse();
        (now < entry.expires).then(|| (ends != NEVER).then(|| ends.saturating_sub(now)))
    }
}
