//! The generation of this process. Every object with threads or sockets compares it before use.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Returns a number that grows by one in each forked child. A handle of an earlier generation is dead; it must be
/// leaked if dropping it would join threads, which do not exist here.
pub fn generation() -> u64 {
    GENERATION.load(Relaxed)
}

/// Begins a new generation. Only the fork handler of a child calls this.
pub fn next_generation() {
    GENERATION.fetch_add(1, Relaxed);
}
