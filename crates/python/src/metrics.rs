//! `Histogram` and `Scrape`: the times in a node's metrics, and requests for them.
use std::time::Duration;

use kamacache_engine::{events, histogram, sync::Mutex};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyTuple,
};

/// Times counted in buckets, from any thread.
#[pyclass(frozen, module = "kamacache._engine")]
#[derive(Default)]
pub struct Histogram(pub histogram::Histogram);

#[pymethods]
impl Histogram {
    /// The buckets' upper bounds in seconds; one more bucket has none.
    #[classattr]
    #[pyo3(name = "BOUNDS")]
    fn bounds(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, histogram::BOUNDS.map(|bound| bound.as_secs_f64()))
    }

    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (seconds, /))]
    fn observe(&self, seconds: f64) -> PyResult<()> {
        let time = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.0.observe(time);
        Ok(())
    }

    fn read(&self) -> (Vec<u64>, f64) {
        let (counts, sum) = self.0.read();
        (counts, sum.as_secs_f64())
    }
}

/// A request for the metrics, waiting for its answer. If it is dropped without one, the reply says that there are none.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Scrape(Mutex<Option<events::Scrape>>);

impl Scrape {
    pub fn new(scrape: events::Scrape) -> Self {
        Self(Mutex::new(Some(scrape)))
    }
}

#[pymethods]
impl Scrape {
    #[pyo3(signature = (text, /))]
    fn reply(&self, text: String) -> PyResult<()> {
        let scrape = self.0.lock().take();
        let scrape = scrape.ok_or_else(|| PyRuntimeError::new_err("answered already"))?;
        scrape.reply(text);
        Ok(())
    }
}
