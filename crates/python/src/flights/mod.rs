//! Singleflight: one running load per key, for threads and tasks alike.
//!
//! It is native for one reason: a signal handler that raises, or an exception that another thread sends, can come
//! between any two instructions of Python, but never inside one of these methods. So a flight either has not begun, or
//! has a leader whose `__exit__` ends it, or at last its destruction.
//!
//! Invariants: `table` holds no flight that has ended. Only attached threads take its lock and a flight's, for a
//! moment: no Python object is made, dropped or called under them. The end of a flight and its wakers change together.
//!
//! After Go's golang.org/x/sync/singleflight, whose calls know neither versions nor interrupts.
mod chain;
mod flight;
mod keep;
mod lead;

use std::{
    collections::HashMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use pyo3::{
    PyTraverseError, PyVisit, ffi,
    prelude::*,
    types::{PyList, PyType},
};
use rapidhash::fast::RandomState;

use self::{
    chain::Part,
    flight::{End, Plan, this_thread},
};
pub use self::{flight::Flight, lead::Lead};
use crate::{cell::Cell, errors::key as text, metrics::Histogram, promise::wake, store::Store};

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// The flights of one group.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Flights {
    store: Py<Store>,
    cell: Arc<Cell>,
    /// The class of outcomes, and the outcome of a flight whose leader was interrupted.
    outcome: Py<PyType>,
    aborted: Py<PyAny>,
    /// The times of the calls of the loader.
    times: Py<Histogram>,
    /// The size over which a value is not kept.
    max_value: usize,
    number: u64,
    table: Mutex<HashMap<Arc<str>, Py<Flight>, RandomState>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn texts(keys: &Bound<'_, PyList>) -> PyResult<Vec<Arc<str>>> {
    keys.iter().map(|key| text(&key).map(Into::into)).collect()
}

impl Flights {
    /// Returns whether a caller may join the flight: it is in time, and no write has become known since its load began.
    /// The caller that brings a function asks for it in its own name, so that a get which waits for one knows of it.
    fn joinable(&self, flight: &Flight, here: bool, given: bool) -> bool {
        let (plan, mark) = (flight.plan.get(), lock(&flight.state).mark);
        let own = plan.thread.load(Relaxed) == this_thread();
        (plan.here || !here && (plan.given || !given))
            && !own
            && !plan.late()
            && self.cell.get().fresh(&flight.key, mark)
    }

    /// Ends a flight, the only place where its state changes. Only the first end counts. Wakes every waiter, and
    /// returns the exception that interrupted that.
    fn finish(&self, py: Python<'_>, flight: &Py<Flight>, end: End) -> PyResult<bool> {
        let inner = flight.get();
        let mut table = lock(&self.table);
        let mut state = lock(&inner.state);
        if state.end.is_some() {
            return Ok(false);
        }
        let may_be_cyclic = matches!(end, End::Outcome(_));
        state.end = Some(end);
        let mut wakers = mem::take(&mut state.wakers);
        drop(state);
        let mut rest = lock(&inner.plan.get().rest);
        rest.open -= 1;
        if rest.open == 0 {
            wakers.append(&mut rest.wakers);
        }
        drop(rest);
        let removed = match table.get(&inner.key) {
            Some(current) if current.is(flight) => table.remove(&inner.key),
            _ => None,
        };
        drop(table);
        drop(removed);
        if may_be_cyclic {
            // SAFETY: it is untracked since it was made, and ends once. The traceback of an error has frames that have it.
            unsafe { ffi::PyObject_GC_Track(flight.as_ptr().cast()) };
        }
        wake(py, wakers).map(|()| true)
    }
}

#[pymethods]
impl Flights {
    #[new]
    #[pyo3(signature = (store, outcome, aborted, times, max_value, /))]
    fn new(store: Py<Store>, outcome: Py<PyType>, aborted: Py<PyAny>, times: Py<Histogram>, max_value: usize) -> Self {
        let cell = store.get().cell();
        let number = NUMBERS.fetch_add(1, Relaxed);
        let table = Mutex::default();
        Self { store, cell, outcome, aborted, times, max_value, number, table }
    }

    #[pyo3(signature = (
        keys, here, timeout, outer = None, depth = 0, driver = None, /, *, serial = false, anew = false, given = false
    ))]
    #[allow(clippy::too_many_arguments)]
    fn lead(
        this: Py<Self>,
        py: Python<'_>,
        keys: &Bound<'_, PyAny>,
        here: bool,
        timeout: Option<f64>,
        outer: Option<Part>,
        depth: usize,
        driver: Option<Py<PyAny>>,
        serial: bool,
        anew: bool,
        given: bool,
    ) -> PyResult<Lead> {
        let keys = match keys.cast::<PyList>() {
            Ok(keys) => keys.iter().map(|key| text(&key).map(Into::into)).collect::<PyResult<_>>()?,
            Err(_) => vec![text(keys)?.into()],
        };
        let timeout = timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok());
        let began = Instant::now();
        let plan = Plan {
            group: this.get().number,
            flights: this,
            here,
            began,
            deadline: timeout.and_then(|timeout| began.checked_add(timeout)),
            timed: driver.is_some(),
            driver: Mutex::new(driver),
            thread: AtomicUsize::new(this_thread()),
            number: NUMBERS.fetch_add(1, Relaxed),
            anew,
            given,
            serial,
            outer,
            depth: depth + 1,
            callers: AtomicUsize::new(1),
            rest: Mutex::default(),
        };
        Ok(Lead::new(keys, Py::new(py, plan)?))
    }

    #[pyo3(signature = (key, here = true, /))]
    fn running(&self, py: Python<'_>, key: &Bound<'_, PyAny>, here: bool) -> PyResult<Option<Py<Flight>>> {
        let key = text(key)?;
        let table = lock(&self.table);
        let found = table.get(key).filter(|flight| self.joinable(flight.get(), here, false));
        Ok(found.map(|flight| flight.clone_ref(py)))
    }

    #[pyo3(signature = (flight, outcome, /))]
    fn end(&self, py: Python<'_>, flight: Py<Flight>, outcome: Py<PyAny>) -> PyResult<bool> {
        self.finish(py, &flight, End::Outcome(outcome))
    }

    #[pyo3(signature = (outcome, /))]
    fn end_all(&self, py: Python<'_>, outcome: Py<PyAny>) -> PyResult<()> {
        let open: Vec<_> = lock(&self.table).values().map(|flight| flight.clone_ref(py)).collect();
        let end = || End::Outcome(outcome.clone_ref(py));
        open.iter().try_for_each(|flight| self.finish(py, flight, end()).map(drop))
    }

    fn watched(&self, py: Python<'_>) -> Vec<Py<Flight>> {
        let table = lock(&self.table);
        let watched = table.values().filter(|flight| {
            let plan = flight.get().plan.get();
            plan.given && plan.late() || lock(&plan.driver).is_some()
        });
        watched.map(|flight| flight.clone_ref(py)).collect()
    }

    fn oldest(&self) -> u64 {
        lock(&self.table).values().map(|flight| flight.get().began).min().unwrap_or(u64::MAX)
    }

    #[getter]
    fn store(&self, py: Python<'_>) -> Py<Store> {
        self.store.clone_ref(py)
    }

    fn __len__(&self) -> usize {
        lock(&self.table).len()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.store)?;
        visit.call(&self.aborted)?;
        let Ok(table) = self.table.try_lock() else {
            return Ok(());
        };
        table.values().try_for_each(|flight| visit.call(flight))
    }
}
