//! The answers of a store to peers and clients, whatever type holds its values.
use bytes::Bytes;

use super::{Gone, Kind, Lookup, Store, entry::Origin};
use crate::{
    clock::SECOND,
    marked::untagged,
    memory::{Decided, Found, Held, Looked, Memory, Missed, Moved, PACKED, Terms, Took, Value, Write},
    policy::Slot,
};

/// This many reads by peers within a second make a key hot.
const HOT: u8 = 4;

impl<V: Value> Memory for Store<V> {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn read(&self, key: &str, former: bool, visit: &mut dyn FnMut(Option<Found<'_>>)) {
        let hash = self.hash(key);
        let mut guard = self.shard(hash);
        let shard = &mut *guard;
        let found = (|| {
            let slot = shard.contents.alive(hash, key.as_bytes()).filter(|_| !self.is_shut())?;
            let Origin { version, ends, .. } = *shard.contents.origin(slot);
            let entry = shard.contents.get_mut(slot);
            if entry.kind == Kind::Former && !former {
                return None;
            }
            let remaining = self.remaining(entry, ends)?;
            let hot = entry.kind == Kind::Main && {
                let second = (self.options.clock.coarse() / SECOND) as u32;
                if entry.asked_in != second {
                    (entry.asked_in, entry.asked) = (second, 0);
                }
                entry.asked = entry.asked.saturating_add(1);
                entry.asked >= HOT
            };
            let answer = (entry.value.clone(), version, remaining, hot);
            let kind = entry.kind;
            self.touch(shard, slot, kind);
            shard.counts.served += 1;
            Some(answer)
        })();
        drop(guard);
        match &found {
            None => visit(None),
            Some((value, version, remaining, hot)) => visit(Some(Found {
                value: value.as_ref().map(|value| value as &dyn Held),
                version: *version,
                // Rounded down: a copy must not outlive its source.
                remaining_ms: remaining.map(|left| left / 1_000_000),
                hot: *hot,
            })),
        }
    }

    fn entry(&self, key: &str) -> Option<Moved> {
        let (value, version, remaining, kind, age) = self.held(key)?;
        let left = remaining.map(|left| i64::try_from(left).unwrap_or(i64::MAX));
        let value = value.map(|value| value.keep());
        (kind != Kind::Former).then_some(Moved { value, version, left, age, took: 0 })
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(Looked<'_>)) {
        // A client wants the bytes as they were before they were packed.
        if self.options.packs
            && matches!(self.peek(key), Lookup::Hit(value) if untagged(value.bytes()).starts_with(PACKED))
        {
            return visit(None);
        }
        match self.look(self.hash(key), key, false, |value, _| value.clone()) {
            Lookup::Hit(value) => visit(Some(Some(&value))),
            Lookup::Absent => visit(Some(None)),
            Lookup::Miss | Lookup::Past => visit(None),
        }
    }

    fn is_candidate(&self, key: &str) -> bool {
        self.candidacy.lock().has(key)
    }

    fn order(&self, mut write: Write<'_>) -> Option<u128> {
        let value = write.value.take().map(V::received);
        self.ordered_if(&write, value, true, &mut Gone::default())
    }

    fn is_owner(&self, key: &str) -> bool {
        self.candidacy.lock().owns(key)
    }

    fn decide(&self, mut write: Write<'_>, terms: &Terms) -> Decided<Bytes> {
        let value = write.value.take().map(V::received);
        let Decided { version, verdict, existed, value, number, held } =
            self.decided(&write, terms, value, &mut Gone::default());
        Decided { version, verdict, existed, value: value.map(|value| value.keep()), number, held }
    }

    fn tell(&self, key: &str, version: u128) -> u128 {
        self.note(key, version, &mut Gone::default())
    }

    fn floor(&self) -> u128 {
        Store::floor(self)
    }

    fn raise(&self, floor: u128) -> u128 {
        self.clear(floor, &mut Gone::default())
    }

    fn missed(&self, since: u64, part: usize) -> Option<Missed> {
        let missed = Store::missed(self, since, part);
        (!self.closed()).then_some(missed) // it is closed before its writes are dropped
    }

    fn keys(&self) -> Vec<String> {
        Store::keys(self, "")
    }

    fn slots(&self) -> Vec<Vec<Slot>> {
        Store::slots(self)
    }

    fn stray(&self, shard: usize, slot: Slot) -> Option<(String, Moved)> {
        Store::stray(self, shard, slot)
    }

    fn takes_over(&self) -> bool {
        self.has_joined() && !self.closed() && !self.is_shut()
    }

    fn take_over(&self, key: &str, moved: Moved, since: u64, before: u64) -> Took {
        Store::take_over(self, key, moved, since, before, &mut Gone::default())
    }

    fn used(&self, key: &str) {
        Store::used(self, key);
    }

    fn hand_off(&self, key: &str, version: u128) {
        Store::hand_off(self, key, version);
    }

    fn shut(&self, shut: bool) {
        self.set_shut(shut);
    }

    fn merge(&self, clock: u128) -> Option<u128> {
        match self.hlc() {
            None => Some(0),
            Some(hlc) => hlc.merge(clock).then(|| hlc.latest()),
        }
    }

    fn now_ms(&self) -> u64 {
        self.hlc().map_or(0, |hlc| hlc.now_ms())
    }
}
