//! The keys in memory, for people and tests.
use std::cmp::Reverse;

use super::{Kind, Store, hot::Counted};
use crate::memory::Value;

impl<V: Value> Store<V> {
    /// Returns the keys that begin so, and that have a value here, shard by shard.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let now = self.options.clock.coarse();
        let mut keys = Vec::new();
        if self.is_shut() {
            return keys;
        }
        for index in 0..self.shards.len() {
            let mut end = usize::MAX;
            while end > 0 {
                let shard = self.lock_next(index);
                end = shard.contents.visit(end, |slot, entry, origin| {
                    let alive = origin.ends > now && shard.contents.is_alive(slot, entry);
                    let named = entry.value.is_some() && entry.kind != Kind::Former;
                    if alive && named && entry.key.as_str().starts_with(prefix) {
                        keys.push(entry.key.as_str().to_owned());
                    }
                });
            }
        }
        keys
    }

    /// Returns how many gets were sampled of late, and of the keys that had most of them `most` at most, in this order.
    pub fn hot(&self, most: usize) -> (u64, Vec<Counted>) {
        let (mut sampled, mut hot) = (0, Vec::new());
        for index in 0..self.shards.len() {
            let shard = self.lock(index);
            sampled += shard.hot.sampled();
            hot.extend(shard.hot.counted().cloned());
        }
        hot.sort_by(|one, other| (Reverse(one.certain()), &one.key).cmp(&(Reverse(other.certain()), &other.key)));
        hot.truncate(most);
        (sampled, hot)
    }
}
