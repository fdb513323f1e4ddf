//! The keys in memory, for people and tests.
use super::{Kind, Store};
use crate::{memory::Value, policy::Slot};

impl<V: Value> Store<V> {
    /// Returns the keys that begin so, and that have a value here, shard by shard.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let now = self.options.clock.coarse();
        let mut keys = Vec::new();
        if self.is_shut() {
            return keys;
        }
        for index in 0..self.shards.len() {
            let shard = self.lock(index);
            let slots = shard.contents.slab.iter().zip(&shard.contents.origins).enumerate();
            let alive = slots.filter_map(|(slot, (entry, origin))| {
                entry.as_ref().filter(|entry| origin.ends > now && shard.contents.is_alive(slot as Slot, entry))
            });
            let there = alive.filter(|entry| entry.value.is_some() && entry.kind != Kind::Former);
            let named = there.map(|entry| entry.key.as_str()).filter(|key| key.starts_with(prefix));
            keys.extend(named.map(str::to_owned));
        }
        keys
    }
}
