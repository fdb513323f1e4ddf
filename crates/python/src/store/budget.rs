//! The budget of a store, for a node that divides its memory among its groups.
use std::sync::Arc;

use kamacache_engine::store::Gone;
use pyo3::prelude::*;

use super::Store;
use crate::{cell::Cell, handle::drain, value::release};

/// Changes what a store may use, and tells what it lacks.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Budget(Arc<Cell>);

#[pymethods]
impl Budget {
    #[new]
    fn new(store: &Bound<'_, Store>) -> Self {
        let cell = store.get().cell();
        cell.get().watch();
        Self(cell)
    }

    #[pyo3(signature = (max_bytes, /))]
    fn limit(&self, py: Python<'_>, max_bytes: u64) -> u64 {
        let mut gone = Gone::default();
        let engine = self.0.share();
        let budget = py.detach(|| engine.limit(max_bytes, &mut gone));
        release(py, gone);
        drain(py);
        budget
    }

    fn returned(&self) -> u64 {
        self.0.get().returned()
    }
}
