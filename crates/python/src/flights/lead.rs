//! What one caller leads.
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use kamacache_engine::store::{Fill, Gone, Mark};
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyKeyError,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyTuple},
};

use super::{
    Flight, Flights,
    flight::{End, Rest, State, around, is_inside, still_open},
    late, left, lock,
};
use crate::{
    errors::{key as text, nanoseconds},
    value::{drain, release},
};

/// What one caller leads: it begins with `with`, and whatever is left at the end of that is aborted.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Lead {
    pub(super) flights: Py<Flights>,
    pub(super) keys: Vec<Box<str>>,
    pub(super) here: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) driver: Option<Py<PyAny>>,
    pub(super) number: u64,
    pub(super) serial: bool,
    pub(super) outer: Option<Py<PyAny>>,
    #[pyo3(get)]
    pub(super) depth: usize,
    pub(super) led: Mutex<HashMap<Box<str>, Py<Flight>>>,
    pub(super) rest: Arc<Mutex<Rest>>,
    pub(super) handed_over: AtomicBool,
}

impl Lead {
    fn flight(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Py<Flight>> {
        let key = text(key)?;
        let found = lock(&self.led).get(key).map(|flight| flight.clone_ref(py));
        found.ok_or_else(|| PyKeyError::new_err(key.to_owned()))
    }

    fn all(&self, py: Python<'_>) -> Vec<Py<Flight>> {
        let led = lock(&self.led);
        self.keys
            .iter()
            .filter_map(|key| led.get(key))
            .map(|flight| flight.clone_ref(py))
            .collect()
    }

    fn abort(&self, py: Python<'_>) -> PyResult<()> {
        let flights = self.flights.get();
        self.all(py)
            .iter()
            .try_for_each(|flight| flights.abort(py, flight).map(drop))
    }

    fn make(&self, py: Python<'_>, key: &str) -> PyResult<Py<Flight>> {
        let flights = self.flights.get();
        let state = State {
            mark: Mark::default(),
            end: None,
            wakers: Vec::new(),
        };
        Py::new(
            py,
            Flight {
                key: key.into(),
                group: flights.number,
                lead: self.number,
                here: self.here,
                deadline: self.deadline,
                driver: self.driver.as_ref().map(|driver| driver.clone_ref(py)),
                serial: self.serial,
                depth: self.depth,
                outer: self.outer.as_ref().map(|outer| outer.clone_ref(py)),
                began: flights.cell.get().options().clock.coarse(),
                state: Mutex::new(state),
                rest: self.rest.clone(),
            },
        )
    }
}

#[pymethods]
impl Lead {
    /// Lead the flight of every key that has none to join. Return the flights of the others.
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let flights = self.flights.get();
        let engine = flights.cell.get();
        let around = around(py, self.outer.as_ref())?;
        let joined = PyDict::new(py);
        for key in &self.keys {
            let made = self.make(py, key)?; // before the lock: it may run the collector
            let mut found = None;
            let mut replaced = None;
            let mut table = lock(&flights.table);
            let mut led = lock(&self.led);
            match table.entry(key.clone()) {
                Entry::Occupied(_) if led.contains_key(key) => {} // asked for twice
                Entry::Occupied(entry)
                    if flights.joinable(entry.get().get(), self.here)
                        && !(entry.get().get().serial && around.contains(&entry.get().get().lead)) =>
                {
                    found = Some(entry.get().clone_ref(py));
                }
                entry => {
                    lock(&made.get().state).mark = engine.mark(key);
                    led.insert(key.clone(), made.clone_ref(py));
                    lock(&self.rest).open += 1;
                    match entry {
                        Entry::Occupied(mut entry) => replaced = Some(entry.insert(made.clone_ref(py))),
                        Entry::Vacant(entry) => drop(entry.insert(made.clone_ref(py))),
                    }
                }
            }
            drop(led);
            drop(table);
            drop(replaced);
            if let Some(found) = found {
                joined.set_item(&**key, found)?;
            }
        }
        Ok(joined)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        if self.handed_over.load(Relaxed) {
            Ok(())
        } else {
            self.abort(py)
        }
    }

    /// Let another thread or task end what is led: the end of `with` does nothing any more.
    fn hand_over(&self) {
        self.handed_over.store(true, Relaxed);
    }

    /// Abort what has not ended.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        self.abort(py)
    }

    /// Whether every flight that is led here has ended.
    #[getter]
    fn ended(&self) -> bool {
        lock(&self.rest).open == 0
    }

    #[getter]
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.driver.as_ref().map(|driver| driver.clone_ref(py))
    }

    /// Return the seconds left, infinite without a limit.
    fn left(&self) -> f64 {
        left(self.deadline)
    }

    /// Have `waker` called, from any thread, when all that is led here has ended. Return False if it has.
    #[pyo3(signature = (waker, /))]
    fn wake(&self, waker: Py<PyAny>) -> bool {
        let mut rest = lock(&self.rest);
        if rest.open > 0 {
            rest.wakers.push(waker);
            return true;
        }
        drop(rest);
        false
    }

    /// Return the outcomes of the flights that are led here and have ended, by key.
    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let outcomes = PyDict::new(py);
        for flight in self.all(py) {
            if let Some(outcome) = flight.get().outcome(py)? {
                outcomes.set_item(flight.get().key(), outcome)?;
            }
        }
        Ok(outcomes)
    }

    /// The keys whose flights are led here and have not ended.
    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let open = self.all(py).into_iter().filter(|flight| flight.get().is_open());
        PyList::new(py, open.map(|flight| flight.get().key.to_string()))
    }

    /// Return the flight of a key that is led here.
    #[pyo3(name = "flight", signature = (key, /))]
    fn get_flight(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Py<Flight>> {
        self.flight(py, key)
    }

    /// Begin the load of a key only now: what it brings is as new as the writes known by now. Return False if it has
    /// ended, or another flight has taken its place, whose load is newer.
    #[pyo3(signature = (key, /))]
    fn begin(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let flight = self.flight(py, key)?;
        let (flights, inner) = (self.flights.get(), flight.get());
        let engine = flights.cell.get();
        let table = lock(&flights.table);
        let mut state = lock(&inner.state);
        let current = table.get(&inner.key).is_some_and(|current| current.is(&flight));
        if state.end.is_some() || !current && !engine.fresh(&inner.key, state.mark) {
            return Ok(false);
        }
        if !late(inner.deadline) {
            state.mark = engine.mark(&inner.key);
        }
        Ok(true)
    }

    /// Say that the answers for a key may be older than a write that is known: nobody joins its flight any more.
    #[pyo3(signature = (key, version, /))]
    fn age(&self, py: Python<'_>, key: &Bound<'_, PyAny>, version: u128) -> PyResult<()> {
        lock(&self.flight(py, key)?.get().state).mark.version = version;
        Ok(())
    }

    /// Keep a value (None: absence) in the store unless the flight is late, or a write has become known since its load
    /// began. `version` is that of a value from another node. Return whether it was kept.
    #[pyo3(signature = (key, value, ttl, kind, version = None, /))]
    fn keep(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        ttl: Option<f64>,
        kind: u8,
        version: Option<u128>,
    ) -> PyResult<bool> {
        let flight = self.flight(py, key)?;
        let mark = lock(&flight.get().state).mark;
        if late(flight.get().deadline) {
            return Ok(false);
        }
        let fill = Fill {
            version: version.unwrap_or(mark.version),
            ttl: ttl.map(nanoseconds).transpose()?,
            kind: crate::store::kind(kind)?,
            foreign: version.is_some(),
            since: Some(mark),
        };
        let flights = self.flights.get();
        let value = value.map(|bytes| flights.store.get().value(bytes));
        let mut gone = Gone::default();
        let kept = flights.cell.get().put(text(key)?, value, fill, &mut gone);
        release(py, gone);
        drain(py);
        Ok(kept)
    }

    /// End the flight of a key. Return whether it was open.
    #[pyo3(signature = (key, outcome, /))]
    fn end(&self, py: Python<'_>, key: &Bound<'_, PyAny>, outcome: Py<PyAny>) -> PyResult<bool> {
        let flight = self.flight(py, key)?;
        self.flights.get().finish(py, &flight, End::Outcome(outcome))
    }

    /// Keep what the loader brought for a key, as `keep` does, and end its flight with it.
    #[pyo3(signature = (key, value, ttl, kind, how, /))]
    fn loaded(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        ttl: Option<f64>,
        kind: u8,
        how: usize,
    ) -> PyResult<bool> {
        self.keep(py, key, value, ttl, kind, None)?;
        let flight = self.flight(py, key)?;
        let version = lock(&flight.get().state).mark.version;
        let (class, value) = (
            self.flights.get().outcome.clone_ref(py),
            value.map(|value| value.clone().unbind()),
        );
        let end = End::Loaded {
            class,
            value,
            version,
            remaining: ttl,
            how,
        };
        self.flights.get().finish(py, &flight, end)
    }

    /// Return the innermost part of a chain, from here outwards, that is still open.
    pub(super) fn open(this: Py<Self>, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if this.get().all(py).iter().any(|flight| flight.get().is_open()) {
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
        let own = self.flights.is(flights) && self.flight(py, key).is_ok_and(|flight| flight.get().is_open());
        Ok(own || is_inside(py, self.outer.as_ref(), flights, key)?)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.flights)?;
        visit.call(&self.outer)?;
        visit.call(&self.driver)?;
        self.led
            .try_lock()
            .map_or(Ok(()), |led| led.values().try_for_each(|flight| visit.call(flight)))
    }
}

/// Nobody can end what is left any more: it never began, or its loop was closed around it.
impl Drop for Lead {
    fn drop(&mut self) {
        if lock(&self.led).is_empty() {
            return;
        }
        Python::try_attach(|py| {
            let pending = PyErr::take(py);
            if let Err(error) = self.abort(py) {
                error.write_unraisable(py, None);
            }
            if let Some(error) = pending {
                error.restore(py);
            }
        });
    }
}
