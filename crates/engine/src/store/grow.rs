//! A value that takes more memory than it did, as a decoded object is kept beside its bytes.
use super::{Gone, Store};
use crate::{memory::Value, policy::NO_STAMP};

impl<V: Value> Store<V> {
    /// Runs a change of a key's value that lets it take so many bytes more, if that still `is` the one meant. The change
    /// learns whether they fit, and if not, must not take them.
    pub fn grow(
        &self,
        key: &str,
        is: impl FnOnce(&V) -> bool,
        bytes: usize,
        change: impl FnOnce(&V, bool),
        gone: &mut Gone<V>,
    ) {
        let hash = self.hash(key);
        let mut shard = self.shard(hash);
        let Some(slot) = shard.contents.find(hash, key.as_bytes()) else { return };
        let Some(value) = shard.contents.get(slot).value.clone().filter(is) else { return };
        let fits = self.fits(key, value.size().saturating_add(bytes));
        let overhead = self.options.overhead;
        self.account(&mut shard, |shard| shard.contents.change(slot, overhead, |_| change(&value, fits)));
        drop(shard);
        gone.0.push(value);
        self.make_room(NO_STAMP, gone);
    }
}
