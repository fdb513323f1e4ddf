//! Eviction policies: which entry goes when the budget is full. A policy knows no lock, no value and no time.

/// The store's name for an entry: an index in the shard's slab, reused once the entry is gone.
pub type Slot = u32;

/// The order in which entries leave. One instance serves one shard, under that shard's lock.
///
/// Duties of the caller: a slot is given to `insert` once, until `evict` returned it or `remove` took it; `hit`,
/// `remove`, `reweigh` and `demote` name resident slots only; after `insert` and `reweigh` the caller evicts until its
/// own sum of weights fits again. Weights are at least 1.
pub trait Policy: Send {
    /// Takes in an entry just stored. `hash` stays the key's name after the slot is gone (ghosts).
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64);
    /// The entry was asked for.
    fn hit(&mut self, slot: Slot);
    /// The entry was replaced in place by one of another weight.
    fn reweigh(&mut self, slot: Slot, weight: u64);
    /// The entry leaves for another reason than eviction (deleted, expired).
    fn remove(&mut self, slot: Slot);
    /// The entry should be the next to go.
    fn demote(&mut self, slot: Slot);
    /// Chooses the next entry to go and forgets it; None when empty.
    fn evict(&mut self) -> Option<Slot>;
    /// Resident slots in the policy's own order, the next to go first.
    fn order(&self) -> Vec<Slot>;
    /// Forgets everything, ghosts too.
    fn clear(&mut self);
}
