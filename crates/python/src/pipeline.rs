//! `Pipeline`: a connection to a peer's memory for one event loop.
use std::time::Duration;

use kamacache_engine::{
    peer::{self, Failure, link::Link, reactor},
    transport,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyList, PyString},
};

use crate::{answers, failure::peer_error};

/// One non-blocking connection to a member's memory, driven by an event loop; used by that loop alone.
#[pyclass(module = "kamacache._engine")]
pub struct Pipeline {
    inner: reactor::Pipeline<Py<PyAny>>,
    address: String,
}

/// The end of a receive: a failure of the connection, or an exception of Python.
enum Ended {
    Failure(peer::Failure),
    Error(PyErr),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<PyErr> for Ended {
    fn from(error: PyErr) -> Self {
        Self::Error(error)
    }
}

impl Pipeline {
    pub fn new(transport: &transport::Transport, address: String, link: Link) -> Self {
        Self { inner: transport.pipeline(address.clone(), link), address }
    }
}

#[pymethods]
impl Pipeline {
    fn fileno(&mut self, py: Python<'_>) -> PyResult<i32> {
        self.inner.fd().map_err(|failure| peer_error(py, &failure))
    }

    #[pyo3(signature = (token, group, keys, former, /))]
    fn ask(
        &mut self,
        py: Python<'_>,
        token: Py<PyAny>,
        group: &str,
        keys: &Bound<'_, PyList>,
        former: bool,
    ) -> PyResult<()> {
        let keys: Vec<Bound<'_, PyString>> = keys.extract()?;
        if keys.is_empty() {
            return Err(PyValueError::new_err("no keys to ask for"));
        }
        let keys = keys.iter().map(|key| key.to_str()).collect::<PyResult<Vec<_>>>()?;
        let asked = self.inner.ask(token, group, keys.iter().copied(), former);
        asked.map_err(|failure| peer_error(py, &failure))
    }

    fn flush(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.inner.flush().map_err(|failure| peer_error(py, &failure))
    }

    fn receive<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let answered = PyList::empty(py);
        let address = &self.address;
        let received = self.inner.receive(|token, keys, reply, input| {
            let answers = answers::many(py, address, keys, &reply, input)?;
            Ok(answered.append((token, answers))?)
        });
        match received {
            Ok(()) => Ok(answered),
            Err(Ended::Failure(failure)) => Err(peer_error(py, &failure)),
            Err(Ended::Error(error)) => Err(error),
        }
    }

    #[pyo3(signature = (silence, whole, /))]
    fn patience(&self, silence: f64, whole: f64) -> Option<f64> {
        let (silence, whole) = (Duration::from_secs_f64(silence), Duration::from_secs_f64(whole));
        self.inner.patience(silence, whole).map(|left| left.as_secs_f64())
    }

    fn close(&mut self) -> Vec<Py<PyAny>> {
        self.inner.close().collect()
    }
}
