//! Every policy against what the trait promises, under random operations.

use kamacache_engine::policy::{AnyPolicy, Policy, Slot};
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
    policy: AnyPolicy,
    resident: BTreeMap<Slot, (u64, u64)>,
}

impl Shard {
    fn evict(&mut self) -> Result<(), TestCaseError> {
        let gone = self.policy.evict();
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
        self.policy.insert(slot, hash, weight);
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
                    self.policy.hit(slot);
                }
            }
            Op::Reweigh(number, weight) => {
                if let Some(slot) = nth(number) {
                    self.policy.reweigh(slot, weight);
                    self.resident.entry(slot).and_modify(|entry| entry.1 = weight);
                    self.shrink()?;
                }
            }
            Op::Remove(number) => {
                if let Some(slot) = nth(number) {
                    self.policy.remove(slot);
                    self.resident.remove(&slot);
                }
            }
            Op::Demote(number) => {
                if let Some(slot) = nth(number) {
                    self.policy.demote(slot);
                    prop_assert_eq!(self.policy.order()[0], slot);
                }
            }
        }
        let mut order = self.policy.order();
        order.sort_unstable();
        prop_assert_eq!(order, self.resident.keys().copied().collect::<Vec<_>>());
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_policy_keeps_its_promises(ops in prop::collection::vec(op(), 0..200)) {
        for name in AnyPolicy::NAMES {
            let policy = AnyPolicy::new(name, CAPACITY).expect("a known name");
            let mut shard = Shard { policy, resident: BTreeMap::new() };
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
        let mut policy = AnyPolicy::new(name, 100).expect("a known name");
        (0..30).for_each(|slot| policy.insert(slot, u64::from(slot), 1));
        (0..60).for_each(|nth| policy.hit(nth % 30));
        for slot in 30..1000 {
            policy.insert(slot, u64::from(slot), 1);
            if slot >= 100 {
                policy.evict();
            }
        }
        let popular = policy.order().into_iter().filter(|slot| *slot < 30).count();
        assert_eq!(popular, 30, "{name}");
    }
}

#[test]
fn unknown_names_are_refused() {
    assert!(AnyPolicy::new("lfu", 100).is_none());
}
