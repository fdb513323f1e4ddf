//! What a member fetches that missed writes: those that are remembered here, by the numbers of their arrivals.
use super::Store;
use crate::memory::{Missed, Value};

/// One part has at most this many writes, and about this many bytes.
const WRITES: usize = 4_000;
const BYTES: usize = 256 << 10;

impl<V: Value> Store<V> {
    /// Returns the remembered writes that arrived after the number `since`, in parts, the first of which is 0. A write
    /// that arrives meanwhile may be in a part or not, but its number is greater than `arrived` before the first.
    pub fn missed(&self, since: u64, part: usize) -> Missed {
        // A part is a shard, and how far beyond `since` the shard was read.
        let shards = self.shards.len();
        let mut after = since.saturating_add((part / shards) as u64);
        let mut missed = Missed::default();
        let mut bytes = 0;
        for index in part % shards..shards {
            let shard = self.lock(index);
            missed.forgotten |= shard.writes.forgotten() > since;
            for write in shard.writes.after(after) {
                if missed.writes.len() == WRITES || bytes > BYTES {
                    missed.next = Some((after - since) as usize * shards + index);
                    return missed;
                }
                missed.writes.push((write.name().to_owned(), write.version));
                bytes += write.key.len() + size_of::<u128>();
                after = write.number;
            }
            after = since;
        }
        missed
    }
}
