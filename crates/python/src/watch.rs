//! `Watch`: waiting until a directory changes or a lock becomes free.
use std::{
    os::fd::{BorrowedFd, RawFd},
    path::PathBuf,
};

use kamacache_engine::watch;
use pyo3::prelude::*;

use crate::errors::duration;

#[pyclass(frozen, module = "kamacache._engine")]
#[derive(Default)]
pub struct Watch(watch::Watch);

#[pymethods]
impl Watch {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (path, /))]
    fn begin(&self, py: Python<'_>, path: PathBuf) {
        py.detach(|| self.0.begin(path));
    }

    #[pyo3(signature = (locks, again, /))]
    fn watch(&self, py: Python<'_>, locks: Vec<RawFd>, again: f64) -> PyResult<()> {
        let again = duration(again)?;
        // SAFETY: the caller keeps these descriptors open until it has called `begin`, which takes them out.
        let locks = locks.into_iter().map(|lock| unsafe { BorrowedFd::borrow_raw(lock) }).collect();
        py.detach(|| self.0.watch(locks, again));
        Ok(())
    }

    fn differs(&self, py: Python<'_>) -> bool {
        py.detach(|| self.0.differs())
    }

    #[pyo3(signature = (every, /))]
    fn wait(&self, py: Python<'_>, every: f64) -> PyResult<bool> {
        let every = duration(every)?;
        Ok(py.detach(|| self.0.wait(every)))
    }

    fn end(&self, py: Python<'_>) {
        py.detach(|| self.0.end());
    }
}
