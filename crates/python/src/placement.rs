//! Placement: the engine's table of candidates, shared with the stores.

use kamacache_engine::placement::{self, SLOTS};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use std::sync::Arc;

/// The owners of keys: an immutable table of 65,536 slots (weighted rendezvous hashing with bounded loads).
#[pyclass(module = "kamacache._engine", frozen)]
pub struct Placement {
    pub table: Arc<placement::Placement>,
}

#[pymethods]
impl Placement {
    #[classattr]
    const SLOTS: usize = SLOTS;

    #[new]
    fn new(py: Python<'_>, members: Vec<(String, f64)>) -> PyResult<Self> {
        let table = py.detach(|| placement::Placement::new(&members)).map_err(PyValueError::new_err)?;
        Ok(Self { table: Arc::new(table) })
    }

    #[pyo3(signature = (key, /))]
    fn candidates<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.table.candidates(key))
    }

    #[pyo3(signature = (key, /))]
    fn owner(&self, key: &str) -> u16 {
        self.table.owner(key)
    }

    fn slots(&self) -> Vec<u16> {
        self.table.owners().collect()
    }
}
