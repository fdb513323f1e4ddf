//! How other parts of the module reach the engine's side of a store.
use std::sync::Arc;

use kamacache_engine::{memory::Memory, store::Gone};
use pyo3::{prelude::*, types::PyBytes};

use super::Store;
use crate::{
    cell::{Cell, Engine},
    hit::Reader,
    value::{Value, drain, release},
};

impl Store {
    pub fn cell(&self) -> Arc<Cell> {
        self.cell.clone()
    }

    /// Returns what a transport serves. A forked child must ask again.
    pub fn memory(&self) -> Arc<dyn Memory> {
        self.cell.share()
    }

    pub fn value(&self, bytes: &Bound<'_, PyBytes>) -> Value {
        Value::new(bytes, !self.decodes)
    }

    /// Runs a change, then releases the values that it removed.
    pub fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&Engine, &mut Gone<Value>) -> R) -> R {
        let mut gone = Gone::default();
        let result = change(self.engine(), &mut gone);
        release(py, gone);
        drain(py);
        result
    }
}
