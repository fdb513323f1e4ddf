//! One shard: a table of keys, a slab of entries, and the policies that choose which of them leaves.
use super::{
    cells::{Cells, Owned, Prefixes, Tags},
    counts::{Counts, Used},
    entry::{Entry, Kind, Origin, gone},
    hot::Hot,
    watch::Watch,
    wheel::Wheel,
    writes::{Mark, Pending, Writes},
};
use crate::{
    chunks::{Chunks, Slots},
    memory::Value,
    policy::{AnyPolicy, Front, Lru, NO_STAMP, Policy, QUEUES, Slot},
    table::Table,
};

/// The queue of near copies, beside those of a policy.
pub const NEAR: usize = QUEUES;

/// The part of a shard that a clear swaps out.
#[repr(C)]
pub struct Contents<V> {
    pub(super) table: Table<2>,
    pub(super) slab: Chunks<Option<Entry<V>>>,
    /// By slot, as the slab.
    pub(super) origins: Chunks<Origin>,
    pub(super) slots: Slots,
    /// When entries are to be dropped.
    pub(super) wheel: Wheel,
    pub cells: Owned,
    /// The order of main and former copies. Near copies have a budget of their own, and so an order.
    pub(super) main: AnyPolicy,
    near: Lru,
    /// Weights of all entries, and of the near copies among them.
    pub bytes: u64,
    pub near_bytes: u64,
    /// How long entries stay after the end of their ttl, near copies excepted.
    pub linger: u64,
}

impl<V: Value> Contents<V> {
    pub fn new(main: AnyPolicy, near: Lru, linger: u64) -> Self {
        Self {
            table: Table::default(),
            slab: Chunks::default(),
            origins: Chunks::default(),
            slots: Slots::default(),
            wheel: Wheel::default(),
            cells: Owned::default(),
            main,
            near,
            bytes: 0,
            near_bytes: 0,
            linger,
        }
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    #[inline]
    pub fn find(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        self.entry(hash, key).map(|(slot, _)| slot)
    }

    #[inline(always)]
    pub fn entry(&self, hash: u64, key: &[u8]) -> Option<(Slot, &Entry<V>)> {
        let found = self.table.find_moved(hash, |slot, hint| self.seen(slot, hint, key));
        if found.is_none() && self.table.is_moving() { self.unmoved(hash, key) } else { found }
    }

    #[cold]
    #[inline(never)]
    fn unmoved(&self, hash: u64, key: &[u8]) -> Option<(Slot, &Entry<V>)> {
        self.table.find_unmoved(hash, |slot, hint| self.seen(slot, hint, key))
    }

    #[inline(always)]
    fn seen(&self, slot: Slot, hint: usize, key: &[u8]) -> Option<(Slot, &Entry<V>)> {
        V::prefetch(hint);
        let entry = self.get(slot);
        entry.key.is(key).then_some((slot, entry))
    }

    /// Finds what may be read: no entry of which a tag was deleted.
    #[inline]
    pub fn alive(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        self.find(hash, key).filter(|&slot| self.is_alive(slot, self.get(slot)))
    }

    #[inline]
    pub fn is_alive(&self, slot: Slot, entry: &Entry<V>) -> bool {
        entry.tagged == 0 || self.has_living_tags(slot)
    }

    #[cold]
    fn has_living_tags(&self, slot: Slot) -> bool {
        self.cells.get(slot).is_none_or(|cells| !cells.iter().any(|cell| cell.is_dead()))
    }

    pub fn cells(&self, slot: Slot) -> Cells {
        self.cells.get(slot).cloned().unwrap_or_default()
    }

    /// Slots come from this shard's own table and policies, which name resident entries only.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Entry<V> {
        self.slab[slot as usize].as_ref().expect("resident")
    }

    /// Returns what a slot has now that may have been given to another entry.
    pub fn peek(&self, slot: Slot) -> Option<&Entry<V>> {
        self.slab.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub fn origin(&self, slot: Slot) -> &Origin {
        &self.origins[slot as usize]
    }

    pub fn originate(&mut self, slot: Slot, version: u128) {
        self.origins[slot as usize].version = version;
    }

    #[inline]
    pub fn get_mut(&mut self, slot: Slot) -> &mut Entry<V> {
        self.slab[slot as usize].as_mut().expect("resident")
    }

    /// Returns the time at which an entry is to be dropped.
    pub fn gone(&self, slot: Slot) -> u64 {
        gone(self.get(slot).kind, self.origin(slot), self.linger)
    }

    /// Notifies the policy that the entry was asked for. A former copy stays the next to go. Returns whether what all
    /// know of the shard has changed.
    #[inline(always)]
    pub fn touch(&mut self, slot: Slot, kind: Kind) -> bool {
        match kind {
            Kind::Main => self.main.hit(slot),
            Kind::Near => self.near.hit(slot),
            Kind::Former => false,
        }
    }

    /// Stores an entry, in place of the one of the same key, which it returns. The second result is the stamp of one that
    /// has come to a queue.
    pub fn store(&mut self, entry: Entry<V>, origin: Origin, cells: Cells, overhead: u64) -> (Option<Entry<V>>, u64) {
        let weight = entry.weight(overhead);
        let due = gone(entry.kind, &origin, self.linger);
        self.bytes += weight;
        if entry.kind == Kind::Near {
            self.near_bytes += weight;
        }
        if let Some(slot) = self.find(origin.hash, entry.key.as_bytes()) {
            let kind = entry.kind;
            self.table.rehint(origin.hash, slot, entry.hint());
            let old = self.slab[slot as usize].replace(entry).expect("resident");
            self.origins[slot as usize] = origin;
            self.link(slot, cells, old.tagged > 0);
            self.wheel.schedule(slot, due);
            self.discount(&old, overhead);
            if kind == old.kind {
                self.policy(kind).reweigh(slot, weight);
                return (Some(old), NO_STAMP);
            }
            self.policy(old.kind).remove(slot);
            return (Some(old), self.admit(slot, kind, origin.hash, weight));
        }
        let (hash, hint, kind) = (origin.hash, entry.hint(), entry.kind);
        let slot = self.slots.take();
        self.slab.reserve(slot as usize, |_| None);
        self.slab[slot as usize] = Some(entry);
        self.origins.reserve(slot as usize, |_| Origin::default());
        self.origins[slot as usize] = origin;
        self.table.insert(hash, slot, hint);
        self.wheel.schedule(slot, due);
        self.link(slot, cells, false);
        (None, self.admit(slot, kind, hash, weight))
    }

    /// Gives an entry these cells in the place of those that the one before `had`.
    fn link(&mut self, slot: Slot, cells: Cells, had: bool) {
        if !cells.is_empty() {
            self.cells.give(slot, cells);
        } else if had {
            self.cells.take(slot, &[]);
        }
    }

    /// Puts a value of the same bytes in the place of the entry's, and returns the one before.
    pub fn replace(&mut self, slot: Slot, value: V, overhead: u64) -> Option<V> {
        let old = self.change(slot, overhead, |entry| entry.value.replace(value));
        let hint = self.get(slot).hint();
        self.table.rehint(self.origin(slot).hash, slot, hint);
        old
    }

    /// Runs a change of an entry by which its value may take more memory, or less.
    pub fn change<R>(&mut self, slot: Slot, overhead: u64, change: impl FnOnce(&mut Entry<V>) -> R) -> R {
        let entry = self.get_mut(slot);
        let (kind, before) = (entry.kind, entry.weight(overhead));
        let result = change(entry);
        let weight = entry.weight(overhead);
        if weight != before {
            self.bytes = self.bytes - before + weight;
            if kind == Kind::Near {
                self.near_bytes = self.near_bytes - before + weight;
            }
            self.policy(kind).reweigh(slot, weight);
        }
        result
    }

    /// Makes an entry known to its policy, and returns its stamp.
    fn admit(&mut self, slot: Slot, kind: Kind, hash: u64, weight: u64) -> u64 {
        let stamp = self.policy(kind).insert(slot, hash, weight);
        if kind == Kind::Former { self.main.demote(slot) } else { stamp }
    }

    /// Returns what the queues of main and former copies show.
    pub fn front(&self) -> Front {
        self.main.front()
    }

    /// Returns the stamp of the oldest entry of a queue.
    pub fn oldest(&self, queue: usize) -> u64 {
        if queue == NEAR { self.near.front().oldest[0] } else { self.front().oldest[queue] }
    }

    /// See [`Policy::step`]. `take_out` must follow if it returns a slot.
    pub fn step(&mut self, queue: usize, all: &Front, newcomer: &mut u64, must: bool) -> Option<Slot> {
        if queue == NEAR { self.near.step(0, all, newcomer, must) } else { self.main.step(queue, all, newcomer, must) }
    }

    /// Removes an entry that its policy chose.
    pub fn take_out(&mut self, slot: Slot, overhead: u64) -> Entry<V> {
        let entry = self.slab[slot as usize].take().expect("resident");
        self.table.remove(self.origins[slot as usize].hash, slot);
        self.wheel.cancel(slot);
        if let Some(piece) = self.slots.give(slot) {
            self.slab.release(piece);
            self.origins.release(piece);
            self.wheel.release(piece);
            self.main.release(piece);
            self.near.release(piece);
        }
        self.link(slot, Cells::default(), entry.tagged > 0);
        self.discount(&entry, overhead);
        entry
    }

    /// Removes an entry for another reason than eviction.
    pub fn remove(&mut self, slot: Slot, overhead: u64) -> Entry<V> {
        let kind = self.get(slot).kind;
        self.policy(kind).remove(slot);
        self.take_out(slot, overhead)
    }

    pub fn into_entries(self) -> impl Iterator<Item = Entry<V>> {
        self.slab.into_values().flatten()
    }

    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.into_entries().filter_map(|entry| entry.value)
    }

    pub fn policy(&mut self, kind: Kind) -> &mut dyn Policy {
        if kind == Kind::Near { &mut self.near } else { &mut self.main }
    }

    fn discount(&mut self, entry: &Entry<V>, overhead: u64) {
        let weight = entry.weight(overhead);
        self.bytes -= weight;
        if entry.kind == Kind::Near {
            self.near_bytes -= weight;
        }
    }
}

/// The parts that a hit touches stand first.
#[repr(C)]
pub struct Shard<V> {
    pub counts: Counts,
    pub hot: Hot,
    pub contents: Contents<V>,
    pub writes: Writes,
    pub pending: Pending,
    /// The version of the last clear: no entry here is older.
    pub floor: u128,
    /// The number of the arrival of that clear.
    pub raised: u64,
    /// No entry and no remembered write here is newer.
    pub newest: u128,
    pub watch: Option<Watch>,
    pub tags: Tags,
    pub prefixes: Prefixes,
    /// Loads that began before this number are not kept: see `forget_entries`.
    pub stale: u64,
    pub index: usize,
    /// The part of the store's figures that stands for this shard.
    pub accounted: Used,
}

impl<V: Value> Shard<V> {
    pub fn used(&self) -> Used {
        let writes = self.writes.bytes();
        Used { bytes: self.contents.bytes + writes, near: self.contents.near_bytes, writes }
    }
}

impl<V> Shard<V> {
    /// Returns whether every write that arrived since the mark is still known by its key, or covered by the floor.
    pub fn is_complete_since(&self, mark: Mark) -> bool {
        self.stale <= mark.arrived && self.writes.complete_since(mark)
    }
}
