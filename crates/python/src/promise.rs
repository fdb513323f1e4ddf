//! A result that one thread will set and others wait for. concurrent.futures.Future does the same in Python, where an
//! interrupt between two instructions of a waiter can leave its lock taken forever.
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyRecursionError, PyRuntimeError, PyValueError},
    prelude::*,
    types::PyTuple,
};

use crate::guarded::call;

/// The most calls of one waker, which is called again if it was interrupted: interrupts come to an end.
const CALLS: usize = 1_000;

/// Wakers that could not be called, on a stack too deep for any Python.
static LATE: Mutex<Vec<Py<PyAny>>> = Mutex::new(Vec::new());

/// Calls the wakers that could not be called before.
#[pyfunction]
pub fn wake_late(py: Python<'_>) -> PyResult<()> {
    let late = std::mem::take(&mut *LATE.lock().unwrap_or_else(PoisonError::into_inner));
    wake(py, late)
}

/// Calls every waker, again if it was interrupted; the first interrupt is raised when all have been called.
pub fn wake(py: Python<'_>, wakers: Vec<Py<PyAny>>) -> PyResult<()> {
    let mut interrupt = None;
    for waker in wakers {
        for left in (0..CALLS).rev() {
            match call(waker.bind(py), &PyTuple::empty(py)) {
                Ok(_) => break,
                // Its loop is closed, so no task waits.
                Err(error) if error.get_type(py).is(py.get_type::<PyRuntimeError>()) => break,
                Err(error) if left == 0 || error.is_instance_of::<PyRecursionError>(py) => {
                    LATE.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
                    break;
                }
                Err(error) => interrupt = interrupt.or(Some(error)),
            }
        }
    }
    interrupt.map_or(Ok(()), Err)
}

/// Invariant: there are wakers only while there is no end. Only attached threads take the lock, for a moment: no Python
/// object is made, dropped or called under it.
#[pyclass(frozen, module = "kamacache._engine")]
#[derive(Default)]
pub struct Promise(Mutex<State>);

#[derive(Default)]
struct State {
    end: Option<Result<Py<PyAny>, Py<PyAny>>>,
    begun: bool,
    wakers: Vec<Py<PyAny>>,
}

impl Promise {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn end(&self, py: Python<'_>, end: Result<Py<PyAny>, Py<PyAny>>) -> PyResult<bool> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Ok(false);
        }
        state.end = Some(end);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wake(py, wakers).map(|()| true)
    }
}

#[pymethods]
impl Promise {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (value, /))]
    fn set_result(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<bool> {
        self.end(py, Ok(value))
    }

    #[pyo3(signature = (error, /))]
    fn set_exception(&self, py: Python<'_>, error: Py<PyAny>) -> PyResult<bool> {
        self.end(py, Err(error))
    }

    fn begin(&self) -> bool {
        let mut state = self.lock();
        let first = state.end.is_none() && !state.begun;
        state.begun |= first;
        first
    }

    #[getter]
    fn ended(&self) -> bool {
        self.lock().end.is_some()
    }

    fn exception(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.lock().end.as_ref()? {
            Ok(_) => None,
            Err(error) => Some(error.clone_ref(py)),
        }
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.lock().end.as_ref() {
            Some(Ok(value)) => Ok(value.clone_ref(py)),
            Some(Err(error)) => Err(PyErr::from_value(error.bind(py).clone())),
            None => Err(PyValueError::new_err("the promise has not ended")),
        }
    }

    #[pyo3(signature = (waker, /))]
    fn wake(&self, waker: Py<PyAny>) -> bool {
        let mut state = self.lock();
        let open = state.end.is_none();
        if open {
            state.wakers.push(waker);
        }
        open
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(state) = self.0.try_lock() else { return Ok(()) };
        if let Some(Ok(end) | Err(end)) = &state.end {
            visit.call(end)?;
        }
        state.wakers.iter().try_for_each(|waker| visit.call(waker))
    }

    fn __clear__(&self) {
        // The traceback of an exception has the frames that have the promise.
        let end = self.lock().end.take();
        drop(end);
    }
}
