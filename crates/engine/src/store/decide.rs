//! Writes on terms: their owner decides by what it has of the key, and applies them, both under the shard's lock.
use super::{
    Gone, Kind, Store,
    cells::Cells,
    entry::{Entry, Origin},
    shard::Shard,
};
use crate::{
    marked,
    memory::{Change, Decided, Only, Terms, Value, Verdict, Write},
    policy::{NO_STAMP, Slot},
    sync::{
        Guard,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// Tells whether owners before this one may have entries that are not here. A store that has not joined knows none of them.
#[derive(Default)]
pub struct Inheritance {
    joined: AtomicBool,
    until: AtomicU64,
}

impl Inheritance {
    /// Notes until when they may.
    pub fn last(&self, until: u64) {
        self.until.store(until, Relaxed);
    }

    fn open(&self, now: impl FnOnce() -> u64) -> bool {
        if !self.joined.load(Relaxed) {
            return true;
        }
        let until = self.until.load(Relaxed);
        until > 0 && now() < until
    }
}

/// The act that is due on an entry.
#[derive(PartialEq, Eq, Debug)]
enum Act {
    Replace,
    Number(i64),
    Touch,
}

/// Decides on a write by the value and the version that are there.
fn act(terms: &Terms, there: Option<(&[u8], u128)>) -> Result<Act, Verdict> {
    match (terms.only, there) {
        (Only::Absent, Some(_)) | (Only::Present, None) => return Err(Verdict::Unmet),
        (Only::Version(version), there) if there.is_none_or(|(_, own)| own != version) => {
            return Err(Verdict::Conflict);
        }
        _ => {}
    }
    match (terms.change, there) {
        (Change::Replace, _) => Ok(Act::Replace),
        (Change::Touch, Some(_)) => Ok(Act::Touch),
        (Change::Touch, None) | (Change::Add { initial: None, .. }, None) => Err(Verdict::Unmet),
        (Change::Add { delta, initial }, there) => {
            let own = there.map(|(bytes, _)| marked::integer(bytes).ok_or(Verdict::NotInteger)).transpose()?;
            let sum = own.or(initial).and_then(|number| number.checked_add(delta));
            sum.map(Act::Number).ok_or(Verdict::Overflow)
        }
    }
}

impl<V: Value> Store<V> {
    /// Takes note that this node has joined: what it inherits is known from now on.
    pub fn join(&self) {
        self.inheritance.joined.store(true, Relaxed);
    }

    pub(super) fn has_joined(&self) -> bool {
        self.inheritance.joined.load(Relaxed)
    }

    /// Applies a write if its terms are met by the main copy that is here. A write that has a version already is not
    /// decided on again: what is here gets a greater version, unless a later write has come.
    pub fn decided(&self, write: &Write<'_>, terms: &Terms, value: Option<V>, gone: &mut Gone<V>) -> Decided<V> {
        let mut decided =
            Decided { version: 0, verdict: Verdict::Refused, existed: false, value: None, number: 0, held: 0 };
        let mut value = self.written(value, gone);
        decided.verdict = self.verdict(write, terms, &mut value, &mut decided, gone);
        gone.0.extend(value.0);
        decided
    }

    fn verdict(
        &self,
        write: &Write<'_>,
        terms: &Terms,
        value: &mut (Option<V>, Cells),
        decided: &mut Decided<V>,
        gone: &mut Gone<V>,
    ) -> Verdict {
        let hlc = self.hlc();
        let hash = self.hash(write.key);
        let shard = self.shard(hash);
        // Under the shard's lock: a table that gives the key to another node demotes the entry after this decision, and
        // that node asks for it after that.
        let owns = self.candidacy.lock().owns(write.key);
        if !owns || self.closed() || self.is_shut() {
            return Verdict::Refused;
        }
        let slot = self.main(&shard, hash, write.key, false);
        if slot.is_none() && !terms.inherited && self.inheritance.open(|| self.options.clock.coarse()) {
            return Verdict::Inherit;
        }
        let known = self.known_in(&shard, hash, write.key);
        let next = || hlc.and_then(|hlc| hlc.next(write.above.max(known)));
        if write.ordered != 0 {
            if self.named_in(&shard, hash, write.key) > write.ordered {
                return Verdict::Superseded;
            }
            let Some(version) = next() else { return Verdict::Refused };
            decided.version = version;
            self.reversion(shard, hash, write, version, gone);
            return Verdict::Applied;
        }
        // An old value that may still be answered has the version that a reader of it was told.
        let versioned = matches!(terms.only, Only::Version(_));
        let slot = if versioned { self.main(&shard, hash, write.key, true) } else { slot };
        let cells = || slot.map(|slot| shard.contents.cells(slot)).unwrap_or_default();
        let there = slot.map(|slot| (shard.contents.get(slot), *shard.contents.origin(slot)));
        let there = there.and_then(|(entry, origin)| Some((entry.value.as_ref()?, origin)));
        decided.existed = there.is_some();
        if let Some((value, Origin { version, .. })) = there.filter(|_| terms.wants) {
            (decided.value, decided.held) = (Some(value.clone()), version);
        }
        let act = match act(
            terms,
            there.map(|(value, origin)| (value.bytes(), marked::stated(value.bytes(), origin.version))),
        ) {
            Ok(act) => act,
            Err(verdict) => return verdict,
        };
        let Some(version) = next() else { return Verdict::Refused };
        decided.version = version;
        let kept = there.map(|(_, origin)| origin.ends);
        let kept = kept.filter(|&ends| terms.keep_ttl && ends > self.options.clock.coarse());
        let expires = kept.unwrap_or_else(|| self.until(write.ttl));
        let value = match act {
            Act::Replace => std::mem::take(value),
            Act::Touch => (there.map(|(value, _)| value.clone()), cells()),
            Act::Number(number) => {
                decided.number = number;
                let tagged = there.map_or(&[][..], |(value, _)| value.bytes());
                (Some(V::received(marked::retagged(tagged, marked::of_integer(number)))), cells())
            }
        };
        self.apply(shard, hash, write.key, value, version, expires, gone);
        Verdict::Applied
    }

    /// Returns the slot of the main copy in its ttl, or also after it with `stale`: its value, or that it is absent.
    pub(super) fn main(&self, shard: &Shard<V>, hash: u64, key: &str, stale: bool) -> Option<Slot> {
        let slot = shard.contents.alive(hash, key.as_bytes())?;
        let entry: &Entry<V> = shard.contents.get(slot);
        let ends = if stale { shard.contents.gone(slot) } else { shard.contents.origin(slot).ends };
        (entry.kind == Kind::Main && ends > self.options.clock.coarse()).then_some(slot)
    }

    /// Gives a write another version, and the entry that it has left, if that is still here.
    fn reversion(
        &self,
        mut shard: Guard<'_, Shard<V>>,
        hash: u64,
        write: &Write<'_>,
        version: u128,
        gone: &mut Gone<V>,
    ) {
        self.remember(&mut shard, hash, write.key, version);
        match self.main(&shard, hash, write.key, false) {
            Some(slot) if shard.contents.origin(slot).version == write.ordered => {
                shard.contents.originate(slot, version);
            }
            _ => self.forget(&mut shard, hash, write.key, gone),
        }
        drop(shard);
        self.make_room(NO_STAMP, gone);
    }
}
