//! Entries that should be loaded anew, and for how long they may still be answered (RFC 5861 and the like).
//!
//! An entry has two ends. Until `Entry::expires` a hit needs no decision. The end of its ttl is `Origin::ends`; after
//! that it lingers for as long as some rule may want it. Between the two, `aged` decides.
use super::{
    Kind, Store,
    entry::{Entry, NEVER, Origin, STAMP},
};
use crate::{clock::SECOND, memory::Value};

/// A caller that has been told to load a value anew is the only one for this long.
const CLAIM: u64 = SECOND;
/// Load times before the end of a ttl in which a load may begin by chance: it is one in 20,000 there.
const EARLY: f64 = 10.0;

/// When a value should be loaded anew, and how long it may be answered then. Nanoseconds.
#[derive(Clone, Default, Debug)]
pub struct Freshness {
    /// The age from which a value should be loaded anew. None: the end of its ttl.
    pub refresh_after: Option<u64>,
    /// How much earlier than the end of its ttl a value is loaded anew by chance, in times of its load: the beta of
    /// XFetch (Vattani, Chierichetti, Lowenstein 2015). 0: not at all.
    pub early: f64,
    /// How long it may be answered after its ttl while it is loaded anew.
    pub while_revalidate: u64,
    /// How long it may be answered after its ttl if a load of it has failed.
    pub if_error: u64,
}

impl Freshness {
    /// Returns for how long an entry stays after its ttl.
    pub fn linger(&self) -> u64 {
        self.while_revalidate.max(self.if_error)
    }
}

/// The ways in which an aged entry may be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Use {
    /// Answer it. Another caller loads it anew, or it is too early for that.
    Answer = 0,
    /// Answer it, and load it anew in the background.
    Refresh = 1,
    /// Load it, and answer this if the load fails or takes long.
    IfError = 2,
}

/// An entry after the time for which a hit needs no decision.
pub struct Aged<V> {
    /// None: known to be absent.
    pub value: Option<V>,
    pub version: u128,
    /// Nanoseconds of its ttl that are left, None: it never ends.
    pub remaining: Option<u64>,
    pub usable: Use,
}

impl<V: Value> Store<V> {
    /// Returns the time until which hits of a value of this age need no decision. No hit comes after the end of its ttl.
    pub(super) fn due(&self, kind: Kind, ends: u64, took: u64, age: u64) -> u64 {
        let ends = self.options.clock.by_coarse(ends);
        match &self.options.freshness {
            Some(freshness) if kind != Kind::Near => {
                let now = self.options.clock.coarse().saturating_sub(age);
                let refresh = freshness.refresh_after.map_or(NEVER, |after| now.saturating_add(after));
                ends.min(refresh).min(early_from(freshness, ends, took).max(now))
            }
            _ => ends,
        }
    }

    /// Returns a main copy whose time without a decision is over, and what may be done with it. Of all callers that
    /// claim it one is told to refresh it; for the others it is as good as new for a second.
    pub fn aged(&self, key: &str, claim: bool) -> Option<Aged<V>> {
        let freshness = self.options.freshness.as_ref()?;
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = shard.contents.alive(hash, key.as_bytes()).filter(|_| !self.is_shut())?;
        let (now, Origin { version, ends, .. }) = (self.options.clock.coarse(), *shard.contents.origin(slot));
        let entry = shard.contents.get_mut(slot);
        if entry.kind != Kind::Main {
            return None; // the owner may have loaded a newer value since, and not kept it
        }
        let answerable = ends.saturating_add(freshness.while_revalidate);
        let usable = if now < entry.expires || now < ends && !refreshes(freshness, entry, ends, now) {
            Use::Answer
        } else if now < answerable {
            if claim {
                entry.expires = now.saturating_add(CLAIM).min(answerable);
            }
            Use::Refresh
        } else if now < ends.saturating_add(freshness.if_error) {
            Use::IfError
        } else {
            return None;
        };
        let remaining = (ends != NEVER).then(|| ends.saturating_sub(now));
        Some(Aged { value: entry.value.clone(), version, remaining, usable })
    }

    /// Returns an entry that is in memory, stale or not: its value (None: absent), version, remaining nanoseconds, kind
    /// and age.
    #[allow(clippy::type_complexity)]
    pub fn held(&self, key: &str) -> Option<(Option<V>, u128, Option<u64>, Kind, u64)> {
        let hash = self.hash(key);
        let shard = self.shard(hash);
        let slot = shard.contents.alive(hash, key.as_bytes()).filter(|_| !self.is_shut())?;
        let (now, entry) = (self.options.clock.coarse(), shard.contents.get(slot));
        let Origin { version, ends, .. } = *shard.contents.origin(slot);
        if shard.contents.gone(slot) <= now {
            return None;
        }
        let remaining = (ends != NEVER).then(|| ends.saturating_sub(now));
        let age = u64::from(((now / STAMP) as u32).wrapping_sub(entry.kept)) * STAMP;
        Some((entry.value.clone(), version, remaining, entry.kind, age))
    }

    /// Lets hits of an aged entry need no decision for that long, because a load of it has failed or takes long.
    pub fn hold(&self, key: &str, nanoseconds: u64) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let Some(slot) = shard.contents.alive(hash, key.as_bytes()) else { return };
        let gone = shard.contents.gone(slot);
        let until = self.options.clock.coarse().saturating_add(nanoseconds).min(gone);
        let entry = shard.contents.get_mut(slot);
        entry.expires = entry.expires.max(until);
    }
}

/// Returns whether an entry in its ttl, whose time without a decision is over, is to be loaded anew: always if that
/// time was `refresh_after`, else by chance.
fn refreshes<V>(freshness: &Freshness, entry: &Entry<V>, ends: u64, now: u64) -> bool {
    let took = u64::from(entry.took) * 1_000;
    entry.expires < early_from(freshness, ends, took) || {
        let chance = (fastrand() + 1) as f64 / (u64::from(u32::MAX) + 1) as f64;
        now as f64 - took as f64 * freshness.early * chance.ln() >= ends as f64
    }
}

/// Returns the time from which a load may begin by chance.
fn early_from(freshness: &Freshness, ends: u64, took: u64) -> u64 {
    if freshness.early > 0.0 && ends != NEVER {
        ends.saturating_sub((took as f64 * freshness.early * EARLY) as u64)
    } else {
        NEVER
    }
}

/// Returns a random number below 2^32.
fn fastrand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) >> 32
}
