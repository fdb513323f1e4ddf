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

use super::{Flights, Lead, left, lock};
use crate::errors::key as text;

/// One running load of a key.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Flight {
    pub(super) key: Box<str>,
    /// The numbers of its Flights and of its Lead.
    pub(super) group: u64,
    pub(super) lead: u64,
    /// It loads in this process, and so never waits for another node's load.
    pub(super) here: bool,
    pub(super) deadline: Option<Instant>,
    /// What runs it, where that is an event loop.
    pub(super) driver: Option<Py<PyAny>>,
    /// One thread loads the keys of its lead one after the other.
    pub(super) serial: bool,
    pub(super) depth: usize,
    pub(super) outer: Option<Py<PyAny>>,
    /// By the store's clock.
    pub(super) began: u64,
    pub(super) state: Mutex<State>,
    /// Of its lead.
    pub(super) rest: Arc<Mutex<Rest>>,
}

pub(super) struct State {
    pub(super) mark: Mark,
    pub(super) end: Option<End>,
    pub(super) wakers: Vec<Py<PyAny>>,
}

/// How a flight ended. What the loader brought becomes an Outcome only if somebody asks for it.
pub(super) enum End {
    Outcome(Py<PyAny>),
    Loaded {
        class: Py<PyType>,
        value: Option<Py<PyBytes>>,
        version: u128,
        remaining: Option<f64>,
        how: usize,
    },
}

/// How many flights of a lead are open, and whom to wake when none is.
#[derive(Default)]
pub(super) struct Rest {
    pub(super) open: usize,
    pub(super) wakers: Vec<Py<PyAny>>,
}

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
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.driver.as_ref().map(|driver| driver.clone_ref(py))
    }

    #[getter]
    fn depth(&self) -> usize {
        self.depth
    }

    #[getter]
    fn ended(&self) -> bool {
        !self.is_open()
    }

    /// How it ended; None while it is open.
    #[getter]
    pub(super) fn outcome(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let (class, value, version, remaining, how) = match &lock(&self.state).end {
            None => return Ok(None),
            Some(End::Outcome(outcome)) => return Ok(Some(outcome.clone_ref(py))),
            Some(End::Loaded {
                class,
                value,
                version,
                remaining,
                how,
            }) => {
                let value = value.as_ref().map(|value| value.clone_ref(py));
                (class.clone_ref(py), value, *version, *remaining, *how)
            }
        };
        class.call1(py, (value, version, remaining, how)).map(Some)
    }

    /// The greatest version of its key that was known when its load began.
    #[getter]
    fn version(&self) -> u128 {
        lock(&self.state).mark.version
    }

    /// Return the seconds left, infinite without a limit.
    fn left(&self) -> f64 {
        left(self.deadline)
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
        still_open(py, this.get().outer.as_ref())
    }

    /// Return whether the code around the caller loads this key.
    #[pyo3(signature = (flights, key, /))]
    pub(super) fn inside(
        &self,
        py: Python<'_>,
        flights: &Bound<'_, Flights>,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let own = self.group == flights.get().number && text(key)? == &*self.key && self.is_open();
        Ok(own || is_inside(py, self.outer.as_ref(), flights, key)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.outer)?;
        visit.call(&self.driver)?;
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

/// What a part of a chain is: the flight or the lead that code is inside of.
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
    let (number, next) = match part(outer.bind(py))? {
        Part::Flight(flight) => (flight.get().lead, &flight.get().outer),
        Part::Lead(lead) => (lead.get().number, &lead.get().outer),
    };
    let mut numbers = around(py, next.as_ref())?;
    numbers.push(number);
    Ok(numbers)
}
