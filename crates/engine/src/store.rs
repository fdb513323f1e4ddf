//! The memory of one group in one process: its entries, their expiry, and the write that each comes after.
//!
//! Invariants: each operation holds one shard's lock at a time, runs no foreign code under it, and drops values after
//! it. `used`, `near_used` and `writes_used` are the sums of the shards' bytes whenever no lock is held, and within their
//! budgets whenever no operation is under way.
mod age;
mod attic;
mod budget;
mod cells;
mod counts;
mod decide;
mod entry;
mod grow;
mod handover;
mod hot;
mod key;
mod keys;
mod lock;
mod log;
mod missed;
mod order;
mod read;
mod room;
mod served;
mod shard;
mod shut;
mod slices;
mod sweep;
mod tags;
mod watch;
mod wheel;
mod write;
mod writes;

use std::sync::Arc;

use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};

pub use self::{
    age::{Aged, Freshness, Use},
    attic::{EVICTED, Evicted},
    cells::{PREFIX, TAG},
    entry::{Fill, Kind},
    hot::Counted,
    key::Key,
    order::Candidacy,
    read::{Lookup, Stats},
    writes::Mark,
};
use self::{
    attic::Attic,
    cells::{Prefixes, Tags},
    counts::{Counts, Used},
    entry::Entry,
    hot::Hot,
    lock::Place,
    room::Shown,
    shard::{Contents, Shard},
    writes::{Forgotten, Pending, Writes},
};
use crate::{
    clock::Clock,
    memory::Value,
    outcome::OUTCOMES,
    policy::{AnyPolicy, Lru, Rule, Sequence},
    sync::{
        Guard, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    version::Hlc,
};

/// The most shards of a store.
const SHARDS: usize = 16;

/// The options of a store. Times are nanoseconds.
#[derive(Clone)]
pub struct Options {
    pub name: String,
    pub max_bytes: u64,
    /// One of [`Rule::NAMES`].
    pub policy: String,
    pub clock: Arc<Clock>,
    /// How long a near copy lives, and how long a former copy is served here.
    pub near_ttl: u64,
    /// How long a write is remembered at least.
    pub remember: u64,
    /// None: an entry is dropped at the end of its ttl.
    pub freshness: Option<Freshness>,
    /// The true cost of an entry beyond its key and value.
    pub overhead: u64,
    /// Whether `sweep` returns what was evicted.
    pub keep_evicted: bool,
    /// Values that begin with [`crate::memory::PACKED`] are packed: only Python can unpack them.
    pub packs: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Capacity,
    Expired,
}

/// Values that an operation removed, to be dropped by the caller: dropping a value may run code.
pub struct Gone<V>(pub Vec<V>);

impl<V> Default for Gone<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Gone<V> {
    fn add(&mut self, entry: Entry<V>) {
        self.0.extend(entry.value);
    }
}

pub struct Store<V> {
    options: Options,
    shards: Box<[Place<Shard<V>>]>,
    /// By shard: what its queues show.
    shown: Box<[Shown]>,
    rule: &'static Rule,
    /// The order of all entries; its capacity is how much of `max_bytes` may be used now.
    sequence: Arc<Sequence>,
    secrets: RapidSecrets,
    used: AtomicU64,
    near_used: AtomicU64,
    /// The part of `used` in remembered writes.
    writes_used: AtomicU64,
    /// A write found no room of late, as the last sweep saw it.
    full: AtomicBool,
    /// The number of cells of tags that entries have lost, as the last sweep saw it.
    lost_cells: AtomicU64,
    outcomes: [AtomicU64; OUTCOMES.len()],
    closed: AtomicBool,
    shut: AtomicBool,
    /// The clock that makes versions; None before the node lends it.
    hlc: Mutex<Option<Arc<Hlc>>>,
    candidacy: Mutex<Candidacy>,
    inheritance: decide::Inheritance,
    forgotten: Arc<Forgotten>,
    /// The number of the last arrival of a deleted tag, or a later one.
    tag_deleted: AtomicU64,
    attic: Attic<V>,
    /// The number of threads that wait for the lock of each shard.
    waiting: Box<[AtomicU64]>,
}

impl<V: Value> Store<V> {
    /// Makes an empty store. None: there is no such policy.
    pub fn new(options: Options) -> Option<Self> {
        // One for each MiB, as small groups are seldom used by many threads.
        let shards = (options.max_bytes >> 20).clamp(1, SHARDS as u64);
        let shards: u64 = 1 << shards.ilog2();
        let chunk = (options.max_bytes / shards / 16) as usize;
        let (rule, sequence) = (Rule::named(&options.policy)?, Sequence::new(options.max_bytes));
        let linger = options.freshness.as_ref().map_or(0, Freshness::linger);
        let secrets = RapidSecrets::seed(seed());
        let forgotten = Arc::new(Forgotten::default());
        let (shown, shards): (Vec<_>, Vec<_>) = (0..shards as usize)
            .map(|index| {
                let (main, near) = policies(rule, &sequence);
                let contents = Contents::new(main, near, linger);
                let shown = Shown::new(&contents);
                let mut hot = Hot::new(seed());
                let shard = Place::new(Shard {
                    contents,
                    writes: Writes::new(options.remember, chunk, secrets, forgotten.clone()),
                    pending: Pending::default(),
                    tags: Tags::default(),
                    prefixes: Prefixes::default(),
                    floor: 0,
                    raised: 0,
                    newest: 0,
                    stale: 0,
                    watch: None,
                    index,
                    accounted: Used::default(),
                    counts: Counts { sample_at: hot.gap(), ..Counts::default() },
                    hot,
                });
                (shown, shard)
            })
            .unzip();
        Some(Self {
            options,
            waiting: shards.iter().map(|_| AtomicU64::new(0)).collect(),
            shards: shards.into(),
            shown: shown.into(),
            rule,
            sequence,
            secrets,
            used: AtomicU64::new(0),
            near_used: AtomicU64::new(0),
            writes_used: AtomicU64::new(0),
            full: AtomicBool::new(false),
            lost_cells: AtomicU64::new(0),
            outcomes: Default::default(),
            closed: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            hlc: Mutex::default(),
            candidacy: Mutex::default(),
            inheritance: decide::Inheritance::default(),
            forgotten,
            tag_deleted: AtomicU64::new(0),
            attic: Attic::default(),
        })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns whether an entry of that value size may be kept: it takes at most an eighth of the budget.
    pub fn fits(&self, key: &str, size: usize) -> bool {
        (key.len() as u64).saturating_add(size as u64).saturating_add(self.options.overhead)
            <= self.options.max_bytes / 8
    }

    /// Adds to a counter of [`OUTCOMES`]. Returns false if there is no such counter.
    pub fn count(&self, outcome: usize, n: u64) -> bool {
        self.outcomes.get(outcome).map(|counter| counter.fetch_add(n, Relaxed)).is_some()
    }

    pub fn closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub fn hash(&self, key: &str) -> u64 {
        rapidhash_v3_seeded(key.as_bytes(), &self.secrets)
    }

    fn shard(&self, hash: u64) -> Guard<'_, Shard<V>> {
        self.lock(self.index(hash))
    }

    /// Chooses the shard by bits that `Table` does not use, nor hashbrown in a table of fewer than 2^32 entries.
    fn index(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    /// Empties a shard in O(1). Its writes are `lost` unless the floor covers them.
    fn swap(&self, shard: &mut Shard<V>, lost: bool) -> Contents<V> {
        let contents = self.take_contents(shard); // first, as those may be torn
        self.account(shard, |shard| shard.writes = shard.writes.emptied(lost));
        shard.newest = 0;
        contents
    }

    /// Takes all entries of a shard in O(1).
    fn take_contents(&self, shard: &mut Shard<V>) -> Contents<V> {
        let (main, near) = policies(self.rule, &self.sequence);
        let mut emptied = Contents::new(main, near, shard.contents.linger);
        emptied.cells = shard.contents.cells.emptied();
        self.account(shard, |shard| std::mem::replace(&mut shard.contents, emptied))
    }
}

/// Makes the policies of a shard: for main and former copies, and for near ones.
fn policies(rule: &Rule, sequence: &Arc<Sequence>) -> (AnyPolicy, Lru) {
    (rule.make(sequence.clone()), Lru::new(sequence.clone()))
}

/// Returns a seed that differs between processes, so that keys that collide cannot be prepared.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
