//! `Incoming`: a call from a peer or a client.
use kamacache_engine::{
    call::{self, Refusal},
    sync::Mutex,
};
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    sync::PyOnceLock,
};

use crate::messages;

/// A call from a peer or a client, waiting for its answer. If it is dropped without one, it fails as `unavailable`.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Incoming {
    call: Mutex<call::Incoming>,
    message: PyOnceLock<Py<PyAny>>,
}

impl Incoming {
    pub fn new(call: call::Incoming) -> Self {
        Self { call: Mutex::new(call), message: PyOnceLock::new() }
    }
}

#[pymethods]
impl Incoming {
    #[getter]
    fn message<'py>(&'py self, py: Python<'py>) -> PyResult<&'py Py<PyAny>> {
        self.message.get_or_try_init(py, || messages::from_request(py, &self.call.lock().request).map(Bound::unbind))
    }

    fn accept(&self) {
        self.call.lock().accept();
    }

    #[pyo3(signature = (message, /))]
    fn reply(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let reply = messages::reply(message)?;
        answered_once(self.call.lock().reply(reply))
    }

    #[getter]
    fn gone(&self) -> bool {
        self.call.lock().is_gone()
    }

    #[pyo3(signature = (status, text = ""))]
    fn fail(&self, status: &str, text: &str) -> PyResult<()> {
        let refusal = match status {
            "overloaded" => Refusal::Overloaded,
            "unknown_group" => Refusal::UnknownGroup,
            "closed" => Refusal::Closed,
            "internal" => Refusal::Internal,
            "load" => Refusal::Load,
            "invalid" => Refusal::Invalid,
            _ => return Err(PyValueError::new_err(format!("not a status: {status:?}"))),
        };
        answered_once(self.call.lock().fail(refusal, text))
    }
}

fn answered_once(answered: bool) -> PyResult<()> {
    if answered {
        return Ok(());
    }
    Err(PyRuntimeError::new_err("answered already, or with the answer to another question"))
}
