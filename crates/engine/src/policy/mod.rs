//! Eviction policies: which entry goes when the budget is full. A policy knows no lock, no value and no time.

mod ghost;
pub(crate) mod list;
mod lru;
mod s3fifo;
mod two_level;

pub use ghost::Ghost;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use two_level::TwoLevel;

/// The store's name for an entry: an index in the shard's slab, reused once the entry is gone.
pub use crate::chunks::Slot;

/// The order in which entries leave. One instance serves one shard, under that shard's lock.
///
/// Duties of the caller: a slot is given to `insert` once, until `evict` returned it or `remove` took it; `hit`,
/// `remove`, `reweigh` and `demote` name resident slots only; after `insert` and `reweigh` the caller evicts until its
/// own sum of weights fits again. Weights are at least 1.
pub trait Policy: Send {
    /// Adds an entry just stored. `hash` stays the key's name after the slot is gone (ghosts).
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64);
    /// Notes that the entry was asked for.
    fn hit(&mut self, slot: Slot);
    /// Notes that the entry was replaced in place by one of another weight.
    fn reweigh(&mut self, slot: Slot, weight: u64);
    /// Removes an entry for another reason than eviction (deleted, expired).
    fn remove(&mut self, slot: Slot);
    /// Makes the entry the next to go. A later hit takes that back.
    fn demote(&mut self, slot: Slot);
    /// Chooses the next entry to go and forgets it; None when empty.
    fn evict(&mut self) -> Option<Slot>;
    /// Takes note of another capacity; the caller evicts until its sum of weights fits.
    fn resize(&mut self, _capacity: u64) {}
    /// Gives the memory of a piece of slots back, none of which is resident.
    fn release(&mut self, piece: usize);
    /// Returns the slot that goes right before another; without one, the last to go. None: there is none, or the other is
    /// not resident.
    fn older(&self, slot: Option<Slot>) -> Option<Slot>;
    /// Returns the resident slots in the policy's own order, the next to go first.
    fn order(&self) -> Vec<Slot>;
}

/// Caps the weight at 4 GiB in the queues among which a policy divides the budget: that takes half the memory.
fn stored_weight(weight: u64) -> u32 {
    u32::try_from(weight).unwrap_or(u32::MAX)
}

/// The policy that a user named. It dispatches by match, so that a hit may be inlined.
#[expect(clippy::large_enum_variant, reason = "a hit follows no pointer to it; there is one for each shard")]
pub enum AnyPolicy {
    S3Fifo(S3Fifo),
    Lru(Lru),
    TwoLevel(TwoLevel),
}

/// A policy's name, and its constructor for a shard of some capacity in weight.
type Named = (&'static str, fn(u64) -> AnyPolicy);

/// Every policy, the default first.
const POLICIES: [Named; 3] = [
    ("s3fifo", |capacity| AnyPolicy::S3Fifo(S3Fifo::new(capacity))),
    ("lru", |_| AnyPolicy::Lru(Lru::default())),
    ("lru2", |capacity| AnyPolicy::TwoLevel(TwoLevel::new(capacity))),
];

impl AnyPolicy {
    /// The names that users may ask for, the default first.
    pub const NAMES: [&'static str; POLICIES.len()] = {
        let (mut names, mut n) = ([""; POLICIES.len()], 0);
        while n < names.len() {
            names[n] = POLICIES[n].0;
            n += 1;
        }
        names
    };

    /// Returns the policy of that name for a shard of `capacity`.
    pub fn new(name: &str, capacity: u64) -> Option<Self> {
        let (_, make) = POLICIES.iter().find(|(known, _)| *known == name)?;
        Some(make(capacity))
    }
}

macro_rules! each {
    ($any:expr, $policy:ident => $call:expr) => {
        match $any {
            AnyPolicy::S3Fifo($policy) => $call,
            AnyPolicy::Lru($policy) => $call,
            AnyPolicy::TwoLevel($policy) => $call,
        }
    };
}

impl Policy for AnyPolicy {
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        each!(self, policy => policy.insert(slot, hash, weight));
    }

    #[inline(always)]
    fn hit(&mut self, slot: Slot) {
        each!(self, policy => policy.hit(slot));
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        each!(self, policy => policy.reweigh(slot, weight));
    }

    fn remove(&mut self, slot: Slot) {
        each!(self, policy => policy.remove(slot));
    }

    fn demote(&mut self, slot: Slot) {
        each!(self, policy => policy.demote(slot));
    }

    fn evict(&mut self) -> Option<Slot> {
        each!(self, policy => policy.evict())
    }

    fn resize(&mut self, capacity: u64) {
        each!(self, policy => policy.resize(capacity));
    }

    fn release(&mut self, piece: usize) {
        each!(self, policy => policy.release(piece));
    }

    fn older(&self, slot: Option<Slot>) -> Option<Slot> {
        each!(self, policy => policy.older(slot))
    }

    fn order(&self) -> Vec<Slot> {
        each!(self, policy => policy.order())
    }
}
