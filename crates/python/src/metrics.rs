//! What a node shows of itself: `Histogram`, the times in its metrics, `Scrape`, requests for them, its hot keys, and what
//! other members show.
use std::time::Duration;

use kamacache_engine::{events, histogram, peer::contact, sync::Mutex};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    pybacked::PyBackedStr,
    types::{PyBytes, PyTuple},
};

use crate::{
    errors::duration,
    failure::{objects, peer_error},
    store::Store,
    transport::Transport,
};

/// A key, its samples, and how many of them may be of other keys.
type Hot = (String, u32, u32);

/// Returns the number of samples, and the keys that had most of them. See the stub.
#[pyfunction]
#[pyo3(signature = (store, most, /))]
pub fn hot(py: Python<'_>, store: &Store, most: usize) -> (u64, Vec<Hot>) {
    let (sampled, counted) = py.detach(|| store.engine().hot(most));
    (sampled, counted.into_iter().map(|it| (it.key.into(), it.count, it.error)).collect())
}

/// Counts gets of clients of keys that are not here. See the stub.
#[pyfunction]
#[pyo3(signature = (store, keys, /))]
pub fn count_misses(py: Python<'_>, store: &Store, keys: Vec<PyBackedStr>) {
    py.detach(|| keys.iter().for_each(|key| store.engine().count_miss(key)));
}

/// Asks members what they show of themselves. See the stub.
#[pyfunction]
#[pyo3(signature = (transport, addresses, timeout, /))]
pub fn statuses<'py>(
    py: Python<'py>,
    transport: &Transport,
    addresses: Vec<String>,
    timeout: f64,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    let timeout = duration(timeout)?;
    let pool = transport.pool().map_err(|failure| peer_error(py, &failure))?;
    let told = py.detach(|| contact::statuses(pool, addresses, timeout));
    objects(py, told, |text| Ok(PyBytes::new(py, &text).into_any()))
}

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
