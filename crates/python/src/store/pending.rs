//! A write that waits to be sent.
use std::{
    ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use pyo3::prelude::*;

use super::Store;
use crate::{cell::Cell, errors::key as text};

/// As long as it lives and is not settled, the store keeps no load of its key, and no flight of it is joined.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct PendingWrite {
    key: String,
    cell: Arc<Cell>,
    /// The address of its engine: a forked child has another.
    engine: usize,
    settled: AtomicBool,
}

#[pymethods]
impl PendingWrite {
    #[new]
    #[pyo3(signature = (store, key, /))]
    fn new(store: &Bound<'_, Store>, key: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (key, cell) = (text(key)?.to_owned(), store.get().cell());
        let engine = ptr::from_ref(cell.get()).addr();
        cell.get().expect(&key);
        Ok(Self { key, cell, engine, settled: AtomicBool::new(false) })
    }

    fn settle(&self) {
        if !self.settled.swap(true, Relaxed) && ptr::from_ref(self.cell.get()).addr() == self.engine {
            self.cell.get().settle(&self.key);
        }
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        self.settle();
    }
}
