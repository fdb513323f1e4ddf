//! One flight, and the chain of flights that code is inside of.
use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use kamacache_engine::store::Mark;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyType},
};

use super::{Flights, Lead, lock};
use crate::errors::key as text;

/// What the flights of one lead have in common.
pub(super) struct Plan {
    pub flights: Py<Flights>,
    /// The numbers of its Flights and of its Lead.
    pub group: u64,
    pub number: u64,
    /// They load in this process, and so never wait for another node's load.
    pub here: bool,
    /// One thread loads their keys one after the other.
    pub serial: bool,
    pub began: Instant,
    pub deadline: Option<Instant>,
    /// What runs them, where that is an event loop.
    pub driver: Option<Py<PyAny>>,
    /// What the code that leads them is inside of, and how many loaders that makes with theirs.
    pub outer: Option<Py<PyAny>>,
    pub depth: usize,
    pub rest: Mutex<Rest>,
}

/// How many flights of a lead are open, and whom to wake when none is.
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

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.flights)?;
        visit.call(&self.outer)?;
        visit.call(&self.driver)
    }
}

/// One running load of a key.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Flight {
    pub(super) key: Arc<str>,
    pub(super) plan: Arc<Plan>,
    /// By the store's clock.
    pub(super) began: u64,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub mark: Mark,
    pub end: Option<End>,
    pub wakers: Vec<Py<PyAny>>,
}

/// How a flight ended. What the loader brought becomes an Outcome only if somebody asks for it.
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
}

#[pymethods]
impl Flight {
    #[getter]
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    #[getter]
    fn here(&self) -> bool {
        self.plan.here
    }

    #[getter]
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.plan.driver.as_ref().map(|driver| driver.clone_ref(py))
    }

    #[getter]
    fn depth(&self) -> usize {
        self.plan.depth
    }

    #[getter]
    fn ended(&self) -> bool {
        !self.is_open()
    }

    /// How it ended; None while it is open.
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

    /// The greatest version of its key that was known when its load began.
    #[getter]
    fn version(&self) -> u128 {
        lock(&self.state).mark.version
    }

    /// Return the seconds left, infinite without a limit.
    fn left(&self) -> f64 {
        self.plan.left()
    }

    /// Have `waker` called, from any thread, when the flight ends. Return False if it has ended.
    #[pyo3(signature = (waker, /))]
    fn wake(&self, waker: Py<PyAny>) -> bool {
        let mut state = lock(&self.state);
        if state.end.is_none() {
            state.wakers.push(waker);
            return true;
        }
        drop(state);
        false
    }

    /// Return the innermost part of a chain, from here outwards, that is still open.
    pub(super) fn open(this: Py<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if this.get().is_open() {
            return Ok(Some(this.into_any()));
        }
        still_open(py, this.get().plan.outer.as_ref())
    }

    /// Return whether the code around the caller loads this key.
    #[pyo3(signature = (flights, key, /))]
    pub(super) fn inside(
        &self,
        py: Python<'_>,
        flights: &Bound<'_, Flights>,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let own = self.plan.group == flights.get().number && text(key)? == &*self.key && self.is_open();
        Ok(own || is_inside(py, self.plan.outer.as_ref(), flights, key)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.plan.traverse(&visit)?;
        let Ok(state) = self.state.try_lock() else {
            return Ok(());
        };
        if let Some(End::Outcome(outcome)) = &state.end {
            visit.call(outcome)?;
        }
        state.wakers.iter().try_for_each(|waker| visit.call(waker))
    }

    /// The outcome's error has a traceback, which has the frames that have the flight.
    fn __clear__(&self) {
        let end = lock(&self.state).end.take();
        drop(end);
    }
}

/// What a part of a chain is: the flight, or in load_many the lead, that code is inside of.
enum Part<'a, 'py> {
    Flight(&'a Bound<'py, Flight>),
    Lead(&'a Bound<'py, Lead>),
}

fn part<'a, 'py>(object: &'a Bound<'py, PyAny>) -> PyResult<Part<'a, 'py>> {
    if let Ok(flight) = object.cast::<Flight>() {
        return Ok(Part::Flight(flight));
    }
    Ok(Part::Lead(object.cast::<Lead>()?))
}

pub(super) fn still_open(py: Python<'_>, outer: Option<&Py<PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    let Some(outer) = outer else { return Ok(None) };
    match part(outer.bind(py))? {
        Part::Flight(flight) => Flight::open(flight.clone().unbind(), py),
        Part::Lead(lead) => Lead::open(lead.clone().unbind(), py),
    }
}

pub(super) fn is_inside(
    py: Python<'_>,
    outer: Option<&Py<PyAny>>,
    flights: &Bound<'_, Flights>,
    key: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let Some(outer) = outer else { return Ok(false) };
    match part(outer.bind(py))? {
        Part::Flight(flight) => flight.get().inside(py, flights, key),
        Part::Lead(lead) => lead.get().inside(py, flights, key),
    }
}

/// The numbers of the leads that the code is inside of.
pub(super) fn around(py: Python<'_>, outer: Option<&Py<PyAny>>) -> PyResult<Vec<u64>> {
    let Some(outer) = outer else { return Ok(Vec::new()) };
    let plan = match part(outer.bind(py))? {
        Part::Flight(flight) => &flight.get().plan,
        Part::Lead(lead) => &lead.get().plan,
    };
    let mut numbers = around(py, plan.outer.as_ref())?;
    numbers.push(plan.number);
    Ok(numbers)
}
