//! One flight, and the part that it shares with the others of its lead.
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use kamacache_engine::store::Mark;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict, PyType},
};

use super::{Flights, chain::Part, lock};
use crate::errors::key as text;

/// The part that the flights of one lead share. It is a class, so that the collector sees its references once.
#[pyclass(frozen, module = "kamacache._engine")]
pub(super) struct Plan {
    pub flights: Py<Flights>,
    /// The numbers of its Flights and of its Lead.
    pub group: u64,
    pub number: u64,
    /// They load in this process, and so never wait for the load of another node.
    pub here: bool,
    /// They load what is in memory anew.
    pub anew: bool,
    /// A function that a caller brings loads them, here or on another node.
    pub given: bool,
    /// One thread loads their keys one after the other.
    pub serial: bool,
    pub began: Instant,
    pub deadline: Option<Instant>,
    /// The event loop that runs them or is to begin them, if there is one.
    pub driver: Mutex<Option<Py<PyAny>>>,
    /// A loop runs them from the beginning, and ends them in time.
    pub timed: bool,
    /// The thread that runs them, 0 for none. It must not wait for itself in a signal handler or a finaliser.
    pub thread: AtomicUsize,
    /// The load that the leading code is part of, and how many loaders are then inside each other, theirs included.
    pub outer: Option<Part>,
    pub depth: usize,
    /// The callers that wait for any of these flights, the one that leads them included.
    pub callers: AtomicUsize,
    pub rest: Mutex<Rest>,
}

/// The number of open flights of a lead, and the wakers to call when none is open.
#[derive(Default)]
pub(super) struct Rest {
    pub open: usize,
    pub wakers: Vec<Py<PyAny>>,
}

impl Plan {
    pub fn late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    pub fn left(&self) -> f64 {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now()).as_secs_f64();
        self.deadline.map_or(f64::INFINITY, left)
    }

    /// Takes note that a caller waits no more for these flights, nor for those that it joined.
    pub fn leave(&self, joined: &Bound<'_, PyDict>) -> PyResult<()> {
        self.callers.fetch_sub(1, Relaxed);
        for flight in joined.values().iter() {
            flight.cast::<Flight>()?.get().plan.get().callers.fetch_sub(1, Relaxed);
        }
        Ok(())
    }

    pub fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        lock(&self.driver).as_ref().map(|driver| driver.clone_ref(py))
    }
}

#[pymethods]
impl Plan {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.flights)?;
        self.outer.as_ref().map_or(Ok(()), |outer| outer.traverse(&visit))?;
        if let Ok(driver) = self.driver.try_lock() {
            visit.call(&*driver)?;
        }
        let Ok(rest) = self.rest.try_lock() else { return Ok(()) };
        rest.wakers.iter().try_for_each(|waker| visit.call(waker))
    }
}

thread_local!(static ME: u8 = const { 0 });

/// Returns a number that no other living thread has.
pub(super) fn this_thread() -> usize {
    ME.with(|me| std::ptr::from_ref(me) as usize)
}

/// One running load of a key.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Flight {
    pub(super) key: Arc<str>,
    pub(super) plan: Py<Plan>,
    /// The time when its load began, by the store's clock.
    pub(super) began: u64,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub mark: Mark,
    pub end: Option<End>,
    pub wakers: Vec<Py<PyAny>>,
}

/// The end of a flight. A loaded value becomes an Outcome only when the outcome is read.
pub(super) enum End {
    Outcome(Py<PyAny>),
    Loaded(Py<PyType>, Loaded),
}

/// The value (None: absence), its version, remaining seconds, how the load counts, and whether the value is too large.
pub(super) type Loaded = (Option<Py<PyBytes>>, u128, Option<f64>, usize, bool);

impl Flight {
    pub(super) fn is_open(&self) -> bool {
        lock(&self.state).end.is_none()
    }

    pub(super) fn loads(&self, group: u64, key: &str) -> bool {
        self.plan.get().group == group && *self.key == *key && self.is_open()
    }
}

#[pymethods]
impl Flight {
    #[getter]
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    #[getter]
    fn here(&self) -> bool {
        self.plan.get().here
    }

    #[getter]
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.plan.get().driver(py)
    }

    #[getter]
    fn timed(&self) -> bool {
        self.plan.get().timed
    }

    #[getter]
    fn depth(&self) -> usize {
        self.plan.get().depth
    }

    #[getter]
    fn ended(&self) -> bool {
        !self.is_open()
    }

    #[getter]
    pub(super) fn outcome(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (class, loaded) = match &lock(&self.state).end {
            None => return Ok(None),
            Some(End::Outcome(outcome)) => return Ok(Some(outcome.clone_ref(py))),
            Some(End::Loaded(class, (value, version, remaining, how, too_large))) => {
                let value = value.as_ref().map(|value| value.clone_ref(py));
                (class.clone_ref(py), (value, *version, *remaining, *how, py.None(), *too_large))
            }
        };
        class.call1(py, loaded).map(Some)
    }

    #[getter]
    fn version(&self) -> u128 {
        lock(&self.state).mark.version
    }

    fn left(&self) -> f64 {
        self.plan.get().left()
    }

    #[pyo3(signature = (waker, /))]
    fn wake(&self, waker: Py<PyAny>) -> bool {
        let mut state = lock(&self.state);
        let open = state.end.is_none();
        if open {
            state.wakers.push(waker);
        }
        open
    }

    fn open(this: Py<Self>, py: Python<'_>) -> Option<Py<PyAny>> {
        if this.get().is_open() { Some(this.into_any()) } else { this.get().plan.get().open_around(py) }
    }

    #[pyo3(signature = (flights, key, /))]
    fn inside(&self, flights: &Bound<'_, Flights>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (group, key) = (flights.get().number, text(key)?);
        Ok(self.loads(group, key) || self.plan.get().is_inside(group, key))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.plan)?;
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        if let Some(End::Outcome(outcome)) = &state.end {
            visit.call(outcome)?;
        }
        state.wakers.iter().try_for_each(|waker| visit.call(waker))
    }

    fn __clear__(&self) {
        // The traceback of an outcome's error has the frames that have the flight.
        let end = lock(&self.state).end.take();
        drop(end);
    }
}
