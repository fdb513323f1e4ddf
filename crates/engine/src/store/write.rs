//! Changes of a store.
use super::{
    Candidacy, Fill, Gone, Kind, Store,
    cells::Cells,
    entry::{Entry, NEVER, Origin, STAMP},
    shard::Shard,
};
use crate::{
    arrivals::next_number,
    memory::Value,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

impl<V: Value> Store<V> {
    /// Keeps a loaded or fetched value (None: absence) unless it is older than what is known here, too large, its time
    /// is over, a write of the key is pending, or the store is closed; a foreign one also not while the memory of recent
    /// writes is full. A value that was loaded here for no time at all drops the entry that it would have replaced:
    /// else that would be answered again as an old one.
    pub fn put(&self, key: &str, value: Option<V>, fill: Fill, gone: &mut Gone<V>) -> bool {
        let Fill { version, kind, .. } = fill;
        let near_ttl = self.options.near_ttl;
        let ttl = match kind {
            Kind::Near => Some(fill.ttl.map_or(near_ttl, |ttl| ttl.min(near_ttl))),
            Kind::Main | Kind::Former => fill.ttl,
        };
        let size = value.as_ref().map_or(0, |v| v.bytes().len());
        let refused = fill.foreign && (!self.has_room(key) || self.is_far(version));
        let drops = fill.ttl == Some(0) && !fill.foreign;
        if refused || !drops && (ttl == Some(0) || !self.fits(key, size)) {
            gone.0.extend(value);
            return false;
        }
        let Some(cells) = self.cells(value.as_ref(), fill.since) else {
            gone.0.extend(value);
            return false;
        };
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let stale = fill.since.is_some_and(|mark| !shard.is_complete_since(mark));
        let known = self.known_in(&shard, hash, key);
        let older = version < known || fill.since.is_some_and(|mark| version == mark.loads && mark.version < known);
        if self.closed() || stale || shard.pending.has(hash, key) || older {
            gone.0.extend(value);
            return false;
        }
        if drops {
            self.forget(&mut shard, hash, key, gone);
            gone.0.extend(value);
            return false;
        }
        let ends = self.deadline(ttl);
        let same = |origin: &Origin| origin.version == version && origin.ends >= ends;
        let main = self.main(&shard, hash, key, false).filter(|_| fill.foreign && kind == Kind::Main);
        if main.is_some_and(|slot| same(shard.contents.origin(slot))) {
            gone.0.extend(value); // it may come from a near copy, which ends sooner
            return true;
        }
        let mut entry = Entry::new(key, value, self.due(kind, ends, fill.took, 0), kind);
        entry.took = u32::try_from(fill.took / 1_000).unwrap_or(u32::MAX);
        let origin = Origin { version, served_until: self.served(kind), ends, hash };
        let stamp = self.keep(&mut shard, entry, origin, cells, gone);
        drop(shard);
        self.make_room(stamp, gone);
        true
    }

    /// Puts another handle of the same bytes in the place of a key's value, if that still `is` the one meant.
    pub fn replace(&self, key: &str, value: V, is: impl FnOnce(&V) -> bool, gone: &mut Gone<V>) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = shard.contents.find(hash, key.as_bytes());
        match slot.filter(|&slot| shard.contents.get(slot).value.as_ref().is_some_and(is)) {
            Some(slot) => {
                let overhead = self.options.overhead;
                gone.0.extend(self.account(&mut shard, |shard| shard.contents.replace(slot, value, overhead)));
            }
            None => gone.0.push(value),
        }
    }

    /// Drops the entry of a key if its value `is` the one meant. Returns whether it did.
    pub fn discard(&self, key: &str, is: impl FnOnce(&V) -> bool, gone: &mut Gone<V>) -> bool {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = shard.contents.find(hash, key.as_bytes());
        let meant = slot.filter(|&slot| shard.contents.get(slot).value.as_ref().is_some_and(is)).is_some();
        if meant {
            self.forget(&mut shard, hash, key, gone);
        }
        meant
    }

    /// Raises the floor, below which nothing is served, and returns the floor now. O(1) unless the store knows
    /// something at least as new: then the shards that have it are searched.
    pub fn clear(&self, version: u128, gone: &mut Gone<V>) -> u128 {
        if self.is_far(version) {
            return self.floor();
        }
        // Without a sweep since an earlier clear: at most one clear waits.
        while self.drop_cleared(gone) {}
        // The first shard comes last, so that floor() returns what holds everywhere.
        let older = |_: &Entry<V>, origin: &Origin| origin.version < version;
        for index in (0..self.shards.len()).rev() {
            let mut guard = self.lock(index);
            if guard.floor < version && guard.newest >= version {
                drop(guard);
                self.thin(index, &older, gone);
                guard = self.lock(index);
            }
            let shard = &mut *guard;
            if version <= shard.floor {
                continue;
            }
            shard.floor = version;
            shard.raised = next_number();
            if shard.newest < version {
                let old = self.swap(shard, false);
                drop(guard);
                self.put_away(old);
                continue;
            }
            self.account(shard, |shard| shard.writes.clear(version));
            let old = self.remove_if(shard, &older);
            drop(guard);
            gone.0.extend(old.into_iter().filter_map(|entry| entry.value));
        }
        self.floor()
    }

    /// Takes note of the keys for which this node is a candidate. Demotes the main copies of keys that it neither owns any
    /// more nor stands in for, and promotes those that it owns again, or stands in for. Until a moment of the clock, owners before this one may have what is not here.
    /// Returns whether something here belongs to others.
    pub fn place(&self, candidacy: Candidacy, inherits: u64) -> bool {
        self.inheritance.last(inherits); // before the first decision by the new table
        *self.candidacy.lock() = candidacy.clone();
        let until = self.served(Kind::Former);
        let mut former = false;
        for index in 0..self.shards.len() {
            // Slices, for others who wait for the lock. First in order, which others may change meanwhile, then all.
            let mut from = None;
            let slices = self.lock(index).contents.slices();
            for _ in 0..=slices {
                let mut shard = self.lock_next(index);
                from = self
                    .account(&mut shard, |shard| shard.contents.place_older(from, until, &|key| candidacy.acts(key)));
                drop(shard);
                if from.is_none() {
                    break;
                }
            }
            let mut end = usize::MAX;
            while end > 0 {
                let mut shard = self.lock_next(index);
                let (rest, found) = self
                    .account(&mut shard, |shard| shard.contents.place_slice(end, until, &|key| candidacy.acts(key)));
                drop(shard);
                (end, former) = (rest, former | found);
            }
        }
        former
    }

    /// Drops all entries and remembered writes; the floor stays. With `close`, nothing is kept from now on.
    pub fn empty(&self, close: bool, gone: &mut Gone<V>) {
        // Before the locks, so that every operation that takes one later sees it.
        self.closed.fetch_or(close, Relaxed);
        for index in 0..self.shards.len() {
            let mut shard = self.lock(index);
            let old = self.swap(&mut shard, true);
            drop(shard);
            gone.0.extend(old.into_values());
        }
        self.empty_attic(gone);
    }

    /// Stores an entry, and returns its stamp: `make_room` must follow, without the lock.
    pub(super) fn keep(
        &self,
        shard: &mut Shard<V>,
        mut entry: Entry<V>,
        origin: Origin,
        cells: Cells,
        gone: &mut Gone<V>,
    ) -> u64 {
        let overhead = self.options.overhead;
        entry.tagged = shard.contents.own(origin.hash, entry.key.as_bytes(), &cells);
        if let Some(watch) = &mut shard.watch {
            watch.kept(origin.hash, entry.weight(overhead));
        }
        shard.newest = shard.newest.max(origin.version);
        entry.kept = (self.options.clock.coarse() / STAMP) as u32;
        let (old, stamp) = self.account(shard, |shard| shard.contents.store(entry, origin, cells, overhead));
        if let Some(old) = old {
            gone.add(old);
        }
        stamp
    }

    /// Changes a shard, and brings up to date what is known of it without its lock. The caller holds that.
    pub(super) fn account<R>(&self, shard: &mut Shard<V>, change: impl FnOnce(&mut Shard<V>) -> R) -> R {
        let result = change(shard);
        self.shown[shard.index].set(&shard.contents);
        let now = shard.used();
        let before = std::mem::replace(&mut shard.accounted, now);
        // Wrapping: the difference may be negative.
        let add = |sum: &AtomicU64, now: u64, before: u64| sum.fetch_add(now.wrapping_sub(before), Relaxed);
        add(&self.used, now.bytes, before.bytes);
        if now.near != before.near {
            add(&self.near_used, now.near, before.near);
        }
        if now.writes != before.writes {
            add(&self.writes_used, now.writes, before.writes);
        }
        result
    }

    pub(super) fn remove_if(
        &self,
        shard: &mut Shard<V>,
        chosen: &impl Fn(&Entry<V>, &Origin) -> bool,
    ) -> Vec<Entry<V>> {
        self.account(shard, |shard| shard.contents.remove_if(self.options.overhead, chosen))
    }

    /// Removes the chosen entries of a shard slice by slice, so that the step that must find all of them removes few.
    pub(super) fn thin(&self, index: usize, chosen: &impl Fn(&Entry<V>, &Origin) -> bool, gone: &mut Gone<V>) {
        let mut end = usize::MAX;
        while end > 0 {
            let mut removed = Vec::new();
            let mut shard = self.lock_next(index);
            end = self.account(&mut shard, |shard| {
                shard.contents.remove_slice(end, self.options.overhead, chosen, &mut removed)
            });
            drop(shard);
            removed.into_iter().for_each(|entry| gone.add(entry));
        }
    }

    pub(super) fn forget(&self, shard: &mut Shard<V>, hash: u64, key: &str, gone: &mut Gone<V>) {
        if let Some(slot) = shard.contents.find(hash, key.as_bytes()) {
            gone.add(self.account(shard, |shard| shard.contents.remove(slot, self.options.overhead)));
        }
    }

    pub(super) fn deadline(&self, ttl: Option<u64>) -> u64 {
        ttl.map_or(NEVER, |ttl| self.options.clock.coarse().saturating_add(ttl))
    }

    fn served(&self, kind: Kind) -> u64 {
        if kind == Kind::Former { self.options.clock.coarse().saturating_add(self.options.near_ttl) } else { 0 }
    }
}
