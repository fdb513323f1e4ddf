//! Changes of all entries of a shard, or of those whose time is over, slice by slice: each for a short time under the lock.
use std::ops::Range;

use super::{
    entry::{Entry, Kind, Origin},
    shard::Contents,
};
use crate::{
    memory::Value,
    policy::{Policy as _, Slot},
};

/// As many entries are looked at under one lock at most.
const SLICE: usize = 512;

impl<V: Value> Contents<V> {
    /// Makes a main copy that is not `owned` a former one, served until then, and a former one that is owned a main copy.
    /// Returns whether it is a former one now.
    fn place(&mut self, slot: Slot, until: u64, owned: &dyn Fn(&str) -> bool) -> bool {
        let Some(entry) = self.slab.get_mut(slot as usize).and_then(Option::as_mut) else { return false };
        if entry.kind == Kind::Near {
            return false;
        }
        let owned = owned(entry.key.as_str());
        match (entry.kind, owned) {
            (Kind::Main, false) => {
                (entry.kind, self.origins[slot as usize].served_until) = (Kind::Former, until);
                entry.asked = 0;
                self.main.demote(slot);
            }
            (Kind::Former, true) => {
                (entry.kind, entry.asked) = (Kind::Main, 0);
                self.main.hit(slot);
            }
            _ => {}
        }
        !owned
    }

    /// Places a slot, or the last to go without one, and those that go before it. Returns the next of them, if there are
    /// more.
    pub fn place_older(&mut self, from: Option<Slot>, until: u64, owned: &dyn Fn(&str) -> bool) -> Option<Slot> {
        let mut next = from.or_else(|| self.main.older(None));
        for _ in 0..SLICE {
            // The last to go come first, as each that is demoted becomes the next to go: so they keep their order.
            let slot = next?;
            next = self.main.older(next);
            self.place(slot, until, owned);
        }
        next
    }

    /// Places the entries in a slice of the slots below `end`, and returns the end of the rest, and whether there are
    /// former ones in the slice now.
    pub fn place_slice(&mut self, end: usize, until: u64, owned: &dyn Fn(&str) -> bool) -> (usize, bool) {
        let slice = self.slice(end);
        let mut former = false;
        slice.clone().for_each(|slot| former |= self.place(slot as Slot, until, owned));
        (slice.start, former)
    }

    /// Adds slots of main and former copies that go before a slot, or the last to go without one. Returns the last of
    /// them, if there are more.
    pub fn older(&self, mut from: Option<Slot>, slots: &mut Vec<Slot>) -> Option<Slot> {
        for _ in 0..SLICE {
            from = self.main.older(from);
            slots.push(from?);
        }
        from
    }

    /// Calls `visit` with the entries of such a slice, and returns the end of the rest.
    pub fn visit(&self, end: usize, mut visit: impl FnMut(Slot, &Entry<V>, &Origin)) -> usize {
        let slice = self.slice(end);
        for slot in slice.clone() {
            if let Some(entry) = self.peek(slot as Slot) {
                visit(slot as Slot, entry, &self.origins[slot]);
            }
        }
        slice.start
    }

    /// Returns how many slices all entries are at most.
    pub fn slices(&self) -> usize {
        self.slots.len() / SLICE
    }

    /// Returns the slice of the slots below `end` that stands last. Slots do not change: every entry that stays is in one.
    fn slice(&self, end: usize) -> Range<usize> {
        let end = end.min(self.slots.end());
        end.saturating_sub(SLICE)..end
    }

    /// Makes the entries due whose time may be over by now.
    pub fn turn(&mut self, now: u64) {
        self.wheel.turn(now);
    }

    /// Moves some of the table, if it is moving, as a get finds sooner what has moved. Returns whether all has.
    pub fn tidy(&mut self) -> bool {
        self.table.go_on(8 * SLICE)
    }

    /// Removes entries whose time is over, of as many as SLICE that are due. Returns whether none is left.
    pub fn expire(&mut self, now: u64, overhead: u64, expired: &mut Vec<Entry<V>>) -> bool {
        for _ in 0..SLICE {
            let Some(slot) = self.wheel.due() else { return true };
            let gone = self.gone(slot);
            if gone <= now {
                expired.push(self.remove(slot, overhead));
            } else {
                self.wheel.schedule(slot, gone);
            }
        }
        false
    }

    /// Removes the chosen entries of a slice of the slots below `end`, and adds them to those that were removed. Returns
    /// the end of the rest.
    pub fn remove_slice(
        &mut self,
        end: usize,
        overhead: u64,
        chosen: &impl Fn(&Entry<V>, &Origin) -> bool,
        removed: &mut Vec<Entry<V>>,
    ) -> usize {
        let slice = self.slice(end);
        for slot in slice.clone() {
            if self.peek(slot as Slot).is_some_and(|entry| chosen(entry, &self.origins[slot])) {
                removed.push(self.remove(slot as Slot, overhead));
            }
        }
        slice.start
    }

    /// Removes all chosen entries.
    pub fn remove_if(&mut self, overhead: u64, chosen: &impl Fn(&Entry<V>, &Origin) -> bool) -> Vec<Entry<V>> {
        let (mut end, mut removed) = (usize::MAX, Vec::new());
        while end > 0 {
            end = self.remove_slice(end, overhead, chosen, &mut removed);
        }
        removed
    }
}
