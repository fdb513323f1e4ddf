//! Writes at their owner, with or without Python.
use std::{sync::Arc, time::Duration};

use super::{
    Gone, Kind, Store,
    cells::{Cells, PREFIX},
    entry::{Entry, Origin},
    shard::Shard,
    writes::Writes,
};
use crate::{
    memory::{Value, Write},
    placement::Placement,
    policy::NO_STAMP,
    sync::{
        Guard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    version::Hlc,
};

/// The keys for which this node is a candidate.
#[derive(Clone, Default)]
pub enum Candidacy {
    #[default]
    All,
    None,
    /// Those that the table gives to the member at a position, and which of the others are skipped, by their positions.
    Table(Arc<Placement>, u16, Vec<Option<Arc<AtomicBool>>>),
}

impl Candidacy {
    /// Returns those of the member at a position in the table. Without a table there is one owner, at position 0.
    pub fn new(table: Option<Arc<Placement>>, me: u16) -> Self {
        match (table, me) {
            (Some(table), me) => Self::Table(table, me, Vec::new()),
            (None, 0) => Self::All,
            (None, _) => Self::None,
        }
    }

    /// Returns the same with the other members of the table that are skipped while their flags say so.
    pub fn skipping(self, down: Vec<Option<Arc<AtomicBool>>>) -> Self {
        match self {
            Self::Table(table, me, _) => Self::Table(table, me, down),
            other => other,
        }
    }

    pub fn owns(&self, key: &str) -> bool {
        match self {
            Self::Table(table, me, _) => table.owner(key) == *me,
            Self::All => true,
            Self::None => false,
        }
    }

    /// Returns whether this node owns the key, or stands in for candidates before it that are skipped.
    pub fn acts(&self, key: &str) -> bool {
        let Self::Table(table, me, down) = self else { return self.owns(key) };
        let skipped = |at: u16| down.get(usize::from(at)).and_then(Option::as_ref).is_some_and(|at| at.load(Relaxed));
        table.candidates(key).iter().find(|&&at| at == *me || !skipped(at)) == Some(me)
    }

    pub fn has(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Table(table, me, _) => table.candidates(key).contains(me),
        }
    }
}

/// Tells what has come since an owner ordered a write that is to be ordered anew, above what a listener knows.
enum Since {
    Nothing,
    /// A clear, or the delete of a prefix, which may have returned: the value must not come back. A node may have
    /// dropped keys long before, by a clock that is ahead, and others may have loaded since: they are still to be
    /// notified. So the write is ordered as a delete. The same goes for what a third node has made: a write of an owner
    /// by other views, or a clear of which this node was told by the name of the key.
    Drop,
    /// A later write of this very key. With its version others drop what is older than either. 0: of the two this node
    /// has ordered that one alone, perhaps before the other.
    Write(u128),
}

impl<V: Value> Store<V> {
    /// Takes the versions of writes from this clock.
    pub fn order_by(&self, hlc: Arc<Hlc>) {
        *self.hlc.lock() = Some(hlc);
    }

    pub(super) fn hlc(&self) -> Option<Arc<Hlc>> {
        self.hlc.lock().clone()
    }

    /// Returns until when an owner may apply an order whose writer waits for so long; 0: as long as it likes.
    pub fn until_ms(&self, wait: Duration) -> u64 {
        self.hlc().map_or(0, |hlc| hlc.until_ms(wait))
    }

    /// Returns whether a version that came from elsewhere is too far ahead to be taken in.
    pub(super) fn is_far(&self, version: u128) -> bool {
        self.hlc().is_some_and(|hlc| hlc.is_far(version))
    }

    /// Gives a write its version and applies it, both under the lock of its shard. So the writes of a key are applied
    /// in the order of their versions. A node that is no candidate for the key, and has to do it because no other
    /// answers, keeps no value. See [`Memory::order`](crate::memory::Memory::order).
    pub fn ordered(&self, write: &Write<'_>, value: Option<V>, gone: &mut Gone<V>) -> Option<u128> {
        self.ordered_if(write, value, false, gone)
    }

    /// Does the same, but returns None and does nothing if it is `asked` by another node and no candidate.
    pub(super) fn ordered_if(
        &self,
        write: &Write<'_>,
        value: Option<V>,
        asked: bool,
        gone: &mut Gone<V>,
    ) -> Option<u128> {
        let mut value = self.written(value, gone);
        let hlc = self.hlc();
        let hash = self.hash(write.key);
        let shard = self.shard(hash);
        // Under the shard's lock: see `verdict`. What a table without this node demotes and hands over has this write.
        if !self.candidacy.lock().has(write.key) {
            gone.0.extend(std::mem::take(&mut value).0);
            if asked {
                return None;
            }
        }
        let known = self.known_in(&shard, hash, write.key);
        let since = if write.ordered == 0 { Since::Nothing } else { Self::since(hlc.as_deref(), &shard, hash, write) };
        if !matches!(since, Since::Nothing) {
            gone.0.extend(std::mem::take(&mut value).0);
        }
        let version = match since {
            Since::Write(later) => Some(later),
            Since::Nothing | Since::Drop => hlc.and_then(|hlc| hlc.next(write.above.max(known))),
        };
        let version = version.filter(|_| !self.closed());
        match (version, since) {
            (Some(version), Since::Nothing | Since::Drop) => {
                self.apply(shard, hash, write.key, value, version, self.until(write.ttl), gone);
            }
            _ => gone.0.extend(value.0),
        }
        version
    }

    /// Returns what has come since a write of this key was ordered. A later write below what the listener
    /// knows is dropped with it, as by what the listener knows already.
    fn since(hlc: Option<&Hlc>, shard: &Shard<V>, hash: u64, write: &Write<'_>) -> Since {
        let node = |version: u128| version as u64;
        let named = shard.writes.named(hash, write.key);
        let dropped = shard.floor.max(shard.prefixes.known(write.key));
        if named.max(dropped) <= write.ordered {
            Since::Nothing
        } else if named <= dropped {
            Since::Drop
        } else if node(named) != node(write.ordered) {
            if hlc.is_some_and(|hlc| hlc.made(named)) { Since::Write(0) } else { Since::Drop }
        } else if named >= write.above {
            Since::Write(named)
        } else {
            Since::Drop
        }
    }

    /// Applies a write that has its version already. Returns false and does nothing if a version as great is known, or
    /// if the store is closed.
    pub fn write(&self, key: &str, value: Option<V>, version: u128, ttl: Option<u64>, gone: &mut Gone<V>) -> bool {
        let value = self.written(value, gone);
        let hash = self.hash(key);
        let shard = self.shard(hash);
        if self.closed() || version <= self.known_in(&shard, hash, key) {
            gone.0.extend(value.0);
            return false;
        }
        self.apply(shard, hash, key, value, version, self.until(ttl), gone);
        true
    }

    /// Returns when an entry expires that is written now; 0: it is gone at once.
    pub(super) fn until(&self, ttl: Option<u64>) -> u64 {
        if ttl == Some(0) { 0 } else { self.deadline(ttl) }
    }

    /// Remembers a write, and keeps the value (None: a delete) until it expires, if it fits.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn apply(
        &self,
        mut shard: Guard<'_, Shard<V>>,
        hash: u64,
        key: &str,
        (value, cells): (Option<V>, Cells),
        version: u128,
        expires: u64,
        gone: &mut Gone<V>,
    ) {
        self.remember(&mut shard, hash, key, version);
        let stamp = match value {
            Some(value) if expires > 0 && self.fits(key, value.bytes().len()) => {
                let entry = Entry::new(key, Some(value), self.due(Kind::Main, expires, 0, 0), Kind::Main);
                let origin = Origin { version, served_until: 0, ends: expires, hash };
                self.keep(&mut shard, entry, origin, cells, gone)
            }
            value => {
                gone.0.extend(value);
                self.forget(&mut shard, hash, key, gone);
                NO_STAMP
            }
        };
        drop(shard);
        self.make_room(stamp, gone);
    }

    /// Notes a write of another node: remembers it and drops an older entry. Returns the greatest version now known
    /// here.
    pub fn note(&self, key: &str, version: u128, gone: &mut Gone<V>) -> u128 {
        let hash = self.hash(key);
        let mut guard = self.shard(hash);
        let shard = &mut *guard;
        let known = self.known_in(shard, hash, key);
        if self.is_far(version) {
            return known;
        }
        if version > known && !self.closed() {
            self.remember(shard, hash, key, version);
        } else if shard.writes.is_unnamed() {
            self.lose_tag(shard, hash, key);
        }
        // Even if a greater version is known: while writes are unnamed that may be another key's.
        let slot = shard.contents.find(hash, key.as_bytes());
        if slot.is_some_and(|slot| shard.contents.origin(slot).version < version) {
            self.forget(shard, hash, key, gone);
        }
        drop(guard);
        self.make_room(NO_STAMP, gone);
        if let Some(prefix) = key.strip_prefix(PREFIX).filter(|_| version > known) {
            self.lose_prefix(prefix, version, gone);
        }
        known.max(version)
    }

    /// Takes note that a write of this key is going to be sent. `settle` must follow, once for each.
    pub fn expect(&self, key: &str) {
        let hash = self.hash(key);
        self.shard(hash).pending.add(hash, key);
    }

    /// Takes note that a write of this key was sent, or given up.
    pub fn settle(&self, key: &str) {
        let hash = self.hash(key);
        self.shard(hash).pending.remove(hash, key);
    }

    /// Returns whether a write of this key can be remembered. Remembered writes take at most half of the budget.
    pub(super) fn has_room(&self, key: &str) -> bool {
        self.writes_used.load(Relaxed).saturating_add(Writes::cost(key)) <= self.budget() / 2
    }

    /// Remembers a write. `make_room` must follow, as this takes memory.
    pub(super) fn remember(&self, shard: &mut Shard<V>, hash: u64, key: &str, version: u128) {
        let now = self.options.clock.coarse();
        if !self.has_room(key) {
            // Sweeps are missing or too rare.
            self.account(shard, |shard| shard.writes.prune(now, u64::MAX));
        }
        shard.newest = shard.newest.max(version);
        let room = self.has_room(key);
        let named = self.account(shard, |shard| shard.writes.remember(hash, key, version, now, room));
        shard.counts.unremembered += u64::from(!named);
        self.lose_tag(shard, hash, key);
    }
}
