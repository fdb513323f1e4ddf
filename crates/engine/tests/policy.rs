//! Every policy against what the trait promises, under random operations.

use kamacache_engine::policy::{Alone, Front, NO_STAMP, Policy, Rule, Sequence, Slot};
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: u64 = 40;

#[derive(Clone, Debug)]
enum Op {
    Insert { hash: u64, weight: u64 },
    Hit(usize),
    Reweigh(usize, u64),
    Remove(usize),
    Demote(usize),
    Evict,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        16 => (0..60_u64, 1..12_u64).prop_map(|(hash, weight)| Op::Insert { hash, weight }),
        24 => any::<usize>().prop_map(Op::Hit),
        4 => (any::<usize>(), 1..12_u64).prop_map(|(nth, weight)| Op::Reweigh(nth, weight)),
        4 => any::<usize>().prop_map(Op::Remove),
        2 => any::<usize>().prop_map(Op::Demote),
        2 => Just(Op::Evict),
    ]
}

/// The store's side of the bargain: which slots are in use, with their hashes and weights.
struct Shard {
    alone: Alone,
    resident: BTreeMap<Slot, (u64, u64)>,
}

impl Shard {
    fn evict(&mut self) -> Result<(), TestCaseError> {
        let gone = self.alone.evict();
        prop_assert_eq!(gone.is_none(), self.resident.is_empty());
        if let Some(slot) = gone {
            prop_assert!(self.resident.remove(&slot).is_some(), "{} was not resident", slot);
        }
        Ok(())
    }

    fn shrink(&mut self) -> Result<(), TestCaseError> {
        while self.resident.values().map(|(_, weight)| weight).sum::<u64>() > CAPACITY {
            self.evict()?;
        }
        Ok(())
    }

    fn insert(&mut self, hash: u64, weight: u64) -> Result<(), TestCaseError> {
        if self.resident.values().any(|(other, _)| *other == hash) {
            return Ok(());
        }
        let slot = (0..).find(|slot| !self.resident.contains_key(slot)).expect("slots do not run out");
        self.alone.insert(slot, hash, weight);
        self.resident.insert(slot, (hash, weight));
        self.shrink()?;
        prop_assert!(self.resident.contains_key(&slot), "a newcomer evicted itself");
        Ok(())
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        let nth = |nth: usize| self.resident.keys().nth(nth % self.resident.len().max(1)).copied();
        match *op {
            Op::Insert { hash, weight } => self.insert(hash, weight)?,
            Op::Evict => self.evict()?,
            Op::Hit(number) => {
                if let Some(slot) = nth(number) {
                    self.alone.policy.hit(slot);
                }
            }
            Op::Reweigh(number, weight) => {
                if let Some(slot) = nth(number) {
                    self.alone.policy.reweigh(slot, weight);
                    self.resident.entry(slot).and_modify(|entry| entry.1 = weight);
                    self.shrink()?;
                }
            }
            Op::Remove(number) => {
                if let Some(slot) = nth(number) {
                    self.alone.policy.remove(slot);
                    self.resident.remove(&slot);
                }
            }
            Op::Demote(number) => {
                if let Some(slot) = nth(number) {
                    self.alone.policy.demote(slot);
                    prop_assert_eq!(self.alone.policy.order()[0], slot);
                }
            }
        }
        let mut order = self.alone.policy.order();
        order.sort_unstable();
        prop_assert_eq!(order, self.resident.keys().copied().collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_policy_keeps_its_promises(ops in prop::collection::vec(op(), 0..200)) {
        for name in Rule::NAMES {
            let alone = Alone::new(name, CAPACITY).expect("a known name");
            let mut shard = Shard { alone, resident: BTreeMap::new() };
            ops.iter().try_for_each(|op| shard.apply(op))?;
            while !shard.resident.is_empty() {
                shard.evict()?;
            }
            shard.evict()?;
        }
    }
}

#[test]
fn a_scan_leaves_the_popular_ones() {
    for name in ["s3fifo", "lru2"] {
        let mut alone = Alone::new(name, 100).expect("a known name");
        (0..30).for_each(|slot| alone.insert(slot, u64::from(slot), 1));
        for nth in 0..60 {
            alone.policy.hit(nth % 30);
        }
        for slot in 30..1000 {
            alone.insert(slot, u64::from(slot), 1);
            if slot >= 100 {
                alone.evict();
            }
        }
        let popular = alone.policy.order().into_iter().filter(|slot| *slot < 30).count();
        assert_eq!(popular, 30, "{name}");
    }
}

/// The same requests to one shard and to several of one sequence: they keep the same keys. Under LRU, hits between two
/// inserts have one stamp, so that shards may differ there.
#[test]
fn several_shards_choose_as_one() {
    let run = |shards: usize| {
        let (rule, sequence) = (Rule::named("s3fifo").expect("a known name"), Sequence::new(64));
        let mut policies: Vec<_> = (0..shards).map(|_| rule.make(sequence.clone())).collect();
        let mut resident: Vec<Vec<Option<u64>>> = vec![Vec::new(); shards];
        let (mut random, mut used, mut all) = (1_u64, 0, Vec::new());
        for _ in 0..5_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = ((random >> 40) % 500).min((random >> 20) % 500);
            let shard = key as usize % shards;
            let mut newcomer = NO_STAMP;
            match resident[shard].iter().position(|&held| held == Some(key)) {
                Some(slot) if random >> 60 == 0 => drop(policies[shard].demote(slot as Slot)),
                Some(slot) => {
                    policies[shard].hit(slot as Slot);
                }
                None => {
                    let held = &mut resident[shard];
                    let slot = held.iter().position(Option::is_none).unwrap_or(held.len());
                    held.resize(held.len().max(slot + 1), None);
                    held[slot] = Some(key);
                    newcomer = policies[shard].insert(slot as Slot, key, 1 + key % 3);
                    used += 1 + key % 3;
                }
            }
            while used > 64 {
                let fronts: Vec<_> = policies.iter().map(Policy::front).collect();
                let mut front = Front::default();
                fronts.iter().for_each(|one| front.join(one));
                let queue = (rule.giver)(&front, 64, newcomer).expect("something is resident");
                let shard = (0..shards).min_by_key(|&shard| fronts[shard].oldest[queue]).expect("one at least");
                if let Some(slot) = policies[shard].step(queue, &front, &mut newcomer, false) {
                    used -= 1 + resident[shard][slot as usize].take().expect("resident") % 3;
                }
            }
            let mut keys: Vec<_> = resident.iter().flatten().flatten().copied().collect();
            keys.sort_unstable();
            all.push(keys);
        }
        all
    };
    assert!(run(1) == run(8));
}

#[test]
fn unknown_names_are_refused() {
    assert!(Alone::new("lfu", 100).is_none());
}
