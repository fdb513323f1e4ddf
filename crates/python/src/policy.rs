//! PolicyRun: an eviction policy alone, without store, values or time.

use kamacache_engine::hash::mix64;
use kamacache_engine::policy::{Alone, Policy, Rule, Slot};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::collections::HashMap;

/// An eviction policy alone: one shard, weight one for each key until reweighed. For tests, simulations and hit ratios.
#[pyclass(module = "kamacache._engine")]
pub struct PolicyRun {
    alone: Alone,
    capacity: u64,
    used: u64,
    slots: HashMap<i64, Slot>,
    entries: Vec<(i64, u64)>,
    free: Vec<Slot>,
}

impl PolicyRun {
    fn ask(&mut self, key: i64) -> bool {
        if let Some(&slot) = self.slots.get(&key) {
            self.alone.policy.hit(slot);
            return true;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, 0));
            self.entries.len() as Slot - 1
        });
        self.entries[slot as usize] = (key, 1);
        self.slots.insert(key, slot);
        self.used += 1;
        self.alone.insert(slot, mix64(key as u64), 1);
        self.shrink();
        false
    }

    fn shrink(&mut self) {
        while self.used > self.capacity {
            let Some(slot) = self.alone.evict() else { break };
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: Slot) {
        let (key, weight) = self.entries[slot as usize];
        self.slots.remove(&key);
        self.used -= weight;
        self.free.push(slot);
    }
}

#[pymethods]
impl PolicyRun {
    #[new]
    fn new(policy: &str, capacity: u64) -> PyResult<Self> {
        if capacity == 0 {
            return Err(PyValueError::new_err("capacity must be at least 1"));
        }
        let alone = Alone::new(policy, capacity)
            .ok_or_else(|| PyValueError::new_err(format!("policy must be one of {:?}, not {policy:?}", Rule::NAMES)))?;
        Ok(PolicyRun { alone, capacity, used: 0, slots: HashMap::new(), entries: Vec::new(), free: Vec::new() })
    }

    fn access(&mut self, key: i64) -> bool {
        self.ask(key)
    }

    fn run(&mut self, py: Python<'_>, keys: Vec<i64>) -> usize {
        py.detach(|| keys.into_iter().filter(|&key| self.ask(key)).count())
    }

    fn remove(&mut self, key: i64) -> bool {
        let Some(&slot) = self.slots.get(&key) else {
            return false;
        };
        self.alone.policy.remove(slot);
        self.forget(slot);
        true
    }

    fn demote(&mut self, key: i64) -> bool {
        let Some(&slot) = self.slots.get(&key) else {
            return false;
        };
        self.alone.policy.demote(slot);
        true
    }

    fn reweigh(&mut self, key: i64, weight: u64) -> PyResult<bool> {
        if weight == 0 {
            return Err(PyValueError::new_err("weight must be at least 1"));
        }
        let Some(&slot) = self.slots.get(&key) else {
            return Ok(false);
        };
        let old = std::mem::replace(&mut self.entries[slot as usize].1, weight);
        self.used = self.used - old + weight;
        self.alone.policy.reweigh(slot, weight);
        self.shrink();
        Ok(true)
    }

    fn contents(&self) -> Vec<i64> {
        self.alone.policy.order().into_iter().map(|slot| self.entries[slot as usize].0).collect()
    }
}
