//! Entries move to another node when the owner of their keys changes.
//!
//! Invariant: an entry that is handed over was read by its former owner after the number `since` was read here, and each
//! write that arrived here after that number is still remembered, or the entry is refused. So it comes before no write
//! that the former owner knew, and replaces none that this node knows.
use super::{
    Freshness, Gone, Kind, Store,
    entry::{Entry, HANDED, NEVER, Origin, STAMP},
    writes::Mark,
};
use crate::{
    memory::{Held as _, Moved, Took, Value},
    policy::Slot,
    sync::atomic::Ordering::Relaxed,
};

/// So much of the budget may be taken from other entries: a quarter.
const SHARE: u64 = 4;

impl<V: Value> Store<V> {
    /// Returns the slots of the main and former copies of each shard, the next to go first. An entry that is hit or leaves
    /// meanwhile may hide others.
    pub fn slots(&self) -> Vec<Vec<Slot>> {
        let slots = |index| {
            let (mut slots, mut from) = (Vec::new(), None);
            let slices = self.lock(index).contents.slices();
            for _ in 0..=slices {
                from = self.lock_next(index).contents.older(from, &mut slots);
                if from.is_none() {
                    break;
                }
            }
            slots.reverse();
            slots
        };
        (0..self.shards.len()).map(slots).collect()
    }

    /// Returns what a slot has for another node, with its key.
    pub fn stray(&self, shard: usize, slot: Slot) -> Option<(String, Moved)> {
        let now = self.options.clock.coarse();
        let shard = self.lock(shard);
        let entry = shard.contents.peek(slot).filter(|_| !self.is_shut())?;
        let Origin { version, ends, .. } = *shard.contents.origin(slot);
        let key = entry.key.as_str();
        let stays = match entry.kind {
            Kind::Near => true,
            Kind::Main => false,
            Kind::Former => entry.asked == HANDED,
        };
        let alive = shard.contents.is_alive(slot, entry);
        if stays || !alive || shard.contents.gone(slot) <= now || self.candidacy.lock().acts(key) {
            return None;
        }
        let signed = |time: u64| i64::try_from(time).unwrap_or(i64::MAX);
        let left = (ends != NEVER).then(|| signed(ends.saturating_sub(now)) - signed(now.saturating_sub(ends)));
        let age = u64::from(((now / STAMP) as u32).wrapping_sub(entry.kept)) * STAMP;
        let (key, value, took) = (key.to_owned(), entry.value.clone(), u64::from(entry.took) * 1_000);
        drop(shard);
        Some((key, Moved { value: value.map(|value| value.keep()), version, left, age, took }))
    }

    /// Keeps an entry of another node: see [`Memory::take_over`](crate::memory::Memory::take_over).
    pub fn take_over(&self, key: &str, moved: Moved, since: u64, before: u64, gone: &mut Gone<V>) -> Took {
        let Moved { value, version, left, age, took } = moved;
        let now = self.options.clock.coarse();
        let ends = left.map_or(NEVER, |left| now.saturating_add_signed(left));
        let linger = self.options.freshness.as_ref().map_or(0, Freshness::linger);
        let size = value.as_ref().map_or(0, |value| value.len());
        if !self.fits(key, size) || self.is_far(version) || ends.saturating_add(linger) <= now {
            return Took::Done; // no later message of it would be better
        }
        let (value, mark) = (value.map(V::received), Mark { version, arrived: since, loads: version });
        let Some(cells) = self.cells(value.as_ref(), Some(mark)) else {
            gone.0.extend(value);
            return Took::Done; // a tag of it was deleted
        };
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        // Under the shard's lock: a table that gives the key to yet another node demotes the entry after this.
        let mine = self.candidacy.lock().acts(key);
        if !mine || self.closed() || self.is_shut() || !shard.is_complete_since(mark) {
            gone.0.extend(value);
            return Took::NotMine;
        }
        let slot = shard.contents.alive(hash, key.as_bytes());
        let own = slot.filter(|&slot| shard.contents.get(slot).kind != Kind::Near && shard.contents.gone(slot) > now);
        let newer = own.is_some_and(|slot| shard.contents.origin(slot).version >= version);
        if newer || version < self.known_in(&shard, hash, key) || shard.pending.has(hash, key) {
            gone.0.extend(value);
            return Took::Done;
        }
        let mut entry = Entry::new(key, value, self.due(Kind::Main, ends, took, age), Kind::Main);
        let room = self.budget().saturating_sub(self.used.load(Relaxed));
        if !self.has_room(key) || (entry.weight(self.options.overhead) > room && before >= self.budget() / SHARE) {
            gone.0.extend(entry.value);
            return Took::Full;
        }
        entry.took = u32::try_from(took / 1_000).unwrap_or(u32::MAX);
        let origin = Origin { version, served_until: 0, ends, hash };
        let stamp = self.keep(&mut shard, entry, origin, cells, gone);
        if let Some(slot) = shard.contents.find(hash, key.as_bytes()) {
            shard.contents.get_mut(slot).kept = (now.saturating_sub(age) / STAMP) as u32;
        }
        drop(shard);
        self.make_room(stamp, gone);
        Took::Done
    }

    /// Notes that a main copy was in use at the node that handed it over.
    pub fn used(&self, key: &str) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let slot = shard.contents.find(hash, key.as_bytes());
        if let Some(slot) = slot.filter(|&slot| shard.contents.get(slot).kind == Kind::Main) {
            for _ in 0..2 {
                self.touch(&mut shard, slot, Kind::Main); // S3-FIFO keeps what was hit twice
            }
        }
    }

    /// Notes that another node has taken over an entry, unless that has another version by now.
    pub fn hand_off(&self, key: &str, version: u128) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let Some(slot) = shard.contents.find(hash, key.as_bytes()) else { return };
        if shard.contents.origin(slot).version == version && shard.contents.get(slot).kind == Kind::Former {
            shard.contents.get_mut(slot).asked = HANDED;
        }
    }
}
