//! The work of a forked child before user code runs.
//!
//! No store is locked around a fork. Holding their locks from a Python fork handler would deadlock: handlers that run
//! later may lose the GIL to a thread that then waits for such a lock while it holds the GIL. Instead the child makes
//! new stores and leaks the old ones, whose locks may be held and whose contents may be torn by threads that do not
//! exist there. Their memory stays shared with the parent until it is written to.
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
    atomic::{AtomicU32, Ordering},
};

use kamacache_engine::fork::next_generation;
use pyo3::prelude::*;

use crate::{cell::Cell, inherited::close_sockets};

/// The process that has done it last.
static CHILD: AtomicU32 = AtomicU32::new(0);

/// All stores. Only attached threads take the lock, and the thread that forks is one: so it is never held across a
/// fork.
static STORES: Mutex<Vec<Weak<Cell>>> = Mutex::new(Vec::new());

pub fn register(_py: Python<'_>, store: &Arc<Cell>) {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if stores.len() == stores.capacity() {
        stores.retain(|store| store.strong_count() > 0);
    }
    stores.push(Arc::downgrade(store));
}

/// Empties every store and starts a new generation, in which older transports are dead. Runs once in each process.
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
