//! Eviction policies: which entry goes when the budget is full. A policy knows no lock, no value and no time.

mod ghost;
pub(crate) mod list;
mod lru;
mod s3fifo;
mod sequence;
mod two_level;

use std::sync::Arc;

pub use ghost::Ghost;
pub use lru::Lru;
pub use s3fifo::S3Fifo;
pub use sequence::{Front, NO_STAMP, NONE, QUEUES, Sequence};
pub use two_level::TwoLevel;

/// The store's name for an entry: an index in the shard's slab, reused once the entry is gone.
pub use crate::chunks::Slot;

/// The order in which entries leave. One instance serves one shard, under that shard's lock; those of all shards stamp
/// their entries by one sequence, so that together they evict as one would.
///
/// To evict: join the fronts of all, have the [`Rule`] choose a queue, and let the one whose entry there is the oldest
/// make a step, until one returns a slot.
///
/// Duties of the caller: a slot is given to `insert` once, until `step` returned it or `remove` took it; `hit`,
/// `remove`, `reweigh` and `demote` name resident slots only; after `insert` and `reweigh` the caller evicts until its
/// own sum of weights fits again. Weights are at least 1.
pub trait Policy: Send {
    /// Adds an entry just stored, and returns its stamp. `hash` stays the key's name after the slot is gone (ghosts).
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) -> u64;
    /// Notes that the entry was asked for. Returns whether that changed the weight that `front` shows.
    fn hit(&mut self, slot: Slot) -> bool;
    /// Notes that the entry was replaced in place by one of another weight.
    fn reweigh(&mut self, slot: Slot, weight: u64);
    /// Removes an entry for another reason than eviction (deleted, expired).
    fn remove(&mut self, slot: Slot);
    /// Makes the entry the next to go, and returns its stamp. A later hit takes that back.
    fn demote(&mut self, slot: Slot) -> u64;
    /// Returns what the queues show here.
    fn front(&self) -> Front;
    /// Evicts the oldest entry of a queue and returns its slot, or gives it another place: None. `all` is the front of
    /// all shards. A `newcomer` makes no room for itself while others can; its stamp follows it. Any other leaves if it
    /// `must`, whatever its hits.
    fn step(&mut self, queue: usize, all: &Front, newcomer: &mut u64, must: bool) -> Option<Slot>;
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

/// Chooses the queue of which all the shards' oldest entry is to make a step; None: all queues are empty. Its arguments are
/// the front of all, the capacity, and the stamp of an entry that has just come.
type Giver = fn(&Front, u64, u64) -> Option<usize>;

/// A policy by its name.
pub struct Rule {
    name: &'static str,
    make: fn(Arc<Sequence>) -> AnyPolicy,
    pub giver: Giver,
}

/// Every policy, the default first.
const EVERY: [Rule; 3] = [
    Rule { name: "s3fifo", make: |sequence| AnyPolicy::S3Fifo(S3Fifo::new(sequence)), giver: S3Fifo::giver },
    Rule { name: "lru", make: |sequence| AnyPolicy::Lru(Lru::new(sequence)), giver: Lru::giver },
    Rule { name: "lru2", make: |sequence| AnyPolicy::TwoLevel(TwoLevel::new(sequence)), giver: TwoLevel::giver },
];

static RULES: [Rule; EVERY.len()] = EVERY;

impl Rule {
    /// The names that users may ask for, the default first.
    pub const NAMES: [&'static str; EVERY.len()] = {
        let (mut names, mut n) = ([""; EVERY.len()], 0);
        while n < names.len() {
            names[n] = EVERY[n].name;
            n += 1;
        }
        names
    };

    /// Returns the policy of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.name == name)
    }

    /// Makes the policy of one shard.
    pub fn make(&self, sequence: Arc<Sequence>) -> AnyPolicy {
        (self.make)(sequence)
    }
}

/// A policy whose one shard is all.
pub struct Alone {
    pub policy: AnyPolicy,
    rule: &'static Rule,
    sequence: Arc<Sequence>,
    newcomer: u64,
}

impl Alone {
    /// Makes the policy of that name. None: there is no such policy.
    pub fn new(name: &str, capacity: u64) -> Option<Self> {
        let (rule, sequence) = (Rule::named(name)?, Sequence::new(capacity));
        Some(Self { policy: rule.make(sequence.clone()), rule, sequence, newcomer: NO_STAMP })
    }

    pub fn insert(&mut self, slot: Slot, hash: u64, weight: u64) {
        self.newcomer = self.policy.insert(slot, hash, weight);
    }

    /// Chooses the next entry to go and forgets it; None when empty.
    pub fn evict(&mut self) -> Option<Slot> {
        loop {
            let all = self.policy.front();
            let queue = (self.rule.giver)(&all, self.sequence.capacity(), self.newcomer)?;
            if let Some(slot) = self.policy.step(queue, &all, &mut self.newcomer, false) {
                return Some(slot);
            }
        }
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
    fn insert(&mut self, slot: Slot, hash: u64, weight: u64) -> u64 {
        each!(self, policy => policy.insert(slot, hash, weight))
    }

    #[inline(always)]
    fn hit(&mut self, slot: Slot) -> bool {
        each!(self, policy => policy.hit(slot))
    }

    fn reweigh(&mut self, slot: Slot, weight: u64) {
        each!(self, policy => policy.reweigh(slot, weight));
    }

    fn remove(&mut self, slot: Slot) {
        each!(self, policy => policy.remove(slot));
    }

    fn demote(&mut self, slot: Slot) -> u64 {
        each!(self, policy => policy.demote(slot))
    }

    fn front(&self) -> Front {
        each!(self, policy => policy.front())
    }

    fn step(&mut self, queue: usize, all: &Front, newcomer: &mut u64, must: bool) -> Option<Slot> {
        each!(self, policy => policy.step(queue, all, newcomer, must))
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
