//! Which generation of processes this is: whatever owns threads or sockets compares it before use.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Grows by one in each forked child: a handle made in an earlier generation is dead (and must be leaked, not dropped,
/// where dropping would join threads that do not exist here).
pub fn generation() -> u64 {
    GENERATION.load(Relaxed)
}

/// For the child's fork handler alone.
pub fn next_generation() {
    GENERATION.fetch_add(1, Relaxed);
}
