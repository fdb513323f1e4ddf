//! What a forked child does before user code runs.
//!
//! Nothing is locked around a fork. Holding the stores' locks from a Python fork handler would deadlock: handlers that
//! run later may lose the GIL to a thread that then waits for such a lock, GIL in hand. Instead the child takes new
//! stores and leaks the old ones, whose locks may be held and whose contents may be torn by threads that do not exist
//! there; they are memory shared with the parent until somebody touches it.
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use kamacache_engine::fork::next_generation;
use pyo3::prelude::*;

use crate::{cell::Cell, inherited::close_sockets};

/// The process that has done so last.
static CHILD: AtomicU32 = AtomicU32::new(0);

/// All stores. Locked by attached threads alone, and the thread that forks is one: never held across a fork.
static STORES: Mutex<Vec<Weak<Cell>>> = Mutex::new(Vec::new());

pub fn register(_py: Python<'_>, store: &Arc<Cell>) {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if stores.len() == stores.capacity() {
        stores.retain(|store| store.strong_count() > 0);
    }
    stores.push(Arc::downgrade(store));
}

/// Empties every store and starts a new generation: older transports are dead from now on. Once in each process.
#[pyfunction]
pub fn after_fork_in_child(_py: Python<'_>) {
    let pid = std::process::id();
    if CHILD.swap(pid, Ordering::Relaxed) == pid {
        return; // done already: what was made since belongs to this process
    }
    next_generation();
    close_sockets();
    let stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    for store in stores.iter().filter_map(Weak::upgrade) {
        store.renew();
    }
}
