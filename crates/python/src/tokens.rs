//! `Tokens`: what a transport gives back with the end of a call or connect.
//!
//! Each token leaves the table once: its taker, or `close`, ends what waits for it. So none waits for an end that a closed
//! transport has no thread to report.
use std::collections::HashMap;

use kamacache_engine::{peer::Failure, sync::Mutex};
use pyo3::prelude::*;

use crate::{failure::exception, promise::Promise};

/// The tokens of calls and connects under way; None once closed. Only attached threads take the lock, for a moment: no
/// Python object is made, dropped or called under it.
pub struct Tokens(Mutex<Option<HashMap<u64, Py<PyAny>>>>);

impl Tokens {
    pub fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    /// Keeps a token under a new id, or gives it back if the table is closed.
    pub fn put(&self, id: u64, token: Py<PyAny>) -> Result<(), Py<PyAny>> {
        match &mut *self.0.lock() {
            Some(tokens) => tokens.insert(id, token).map_or(Ok(()), Err),
            None => Err(token),
        }
    }

    pub fn take(&self, id: u64) -> Option<Py<PyAny>> {
        self.0.lock().as_mut()?.remove(&id)
    }

    /// Returns the id of a token.
    pub fn id(&self, token: &Bound<'_, PyAny>) -> Option<u64> {
        self.0.lock().iter().flatten().find_map(|(&id, each)| each.is(token).then_some(id))
    }

    /// Closes the table, and ends every promise that is in it with NodeClosed. An interrupt is raised after that.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        let left = self.0.lock().take();
        let mut interrupt = Ok(());
        for token in left.into_iter().flat_map(HashMap::into_values) {
            if let Ok(promise) = token.cast_bound::<Promise>(py) {
                let ended = promise.get().end(py, Err(exception(py, &Failure::ended()).unbind()));
                interrupt = interrupt.and(ended.map(drop));
            }
        }
        interrupt
    }
}
