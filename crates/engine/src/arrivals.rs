//! The numbers of writes: each that a store of this process remembers, and each floor that it raises, takes the next one.
use crate::sync::{
    atomic::{AtomicU64, Ordering::Relaxed},
    global,
};

global! {
    /// The number of the last arrival. It begins at 1: members say 0 if they know of no number.
    ARRIVED: AtomicU64 = AtomicU64::new(1)
}

/// Returns the number of the last arrival in this process. A shard takes the next number under its lock. So if a number
/// is read before the shard is locked, everything that arrived in it up to that number is there.
pub fn arrived() -> u64 {
    ARRIVED.load(Relaxed)
}

/// Returns the number of an arrival of now. The caller has the shard's lock.
pub fn next_number() -> u64 {
    ARRIVED.fetch_add(1, Relaxed) + 1
}
