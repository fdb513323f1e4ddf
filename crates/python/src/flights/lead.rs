//! The flights that one caller leads.
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyKeyError,
    ffi,
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};
use rapidhash::fast::RandomState;

use super::{
    Flight, Flights,
    flight::{End, Plan, State, this_thread},
    lock, texts,
};
use crate::{errors::key as text, guarded};

/// The flights that one caller leads. They begin with `with`; those that are open at its end are aborted.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Lead {
    pub(super) plan: Py<Plan>,
    keys: Vec<Arc<str>>,
    pub(super) led: Mutex<Led>,
    handed_over: AtomicBool,
}

#[derive(Default)]
pub(super) struct Led {
    flights: Vec<Py<Flight>>,
    /// The places of the flights by key.
    index: HashMap<Arc<str>, usize, RandomState>,
}

impl Led {
    pub(super) fn find(&self, key: &str) -> Option<&Py<Flight>> {
        self.index.get(key).map(|&at| &self.flights[at])
    }

    fn add(&mut self, flight: Py<Flight>) {
        self.index.insert(flight.get().key.clone(), self.flights.len());
        self.flights.push(flight);
    }
}

impl Lead {
    pub(super) fn new(keys: Vec<Arc<str>>, plan: Py<Plan>) -> Self {
        let handed_over = AtomicBool::new(false);
        Self { plan, keys, led: Mutex::default(), handed_over }
    }

    fn find(&self, py: Python<'_>, key: &str) -> PyResult<Py<Flight>> {
        let found = lock(&self.led).find(key).map(|flight| flight.clone_ref(py));
        found.ok_or_else(|| PyKeyError::new_err(key.to_owned()))
    }

    fn all(&self, py: Python<'_>) -> Vec<Py<Flight>> {
        lock(&self.led).flights.iter().map(|flight| flight.clone_ref(py)).collect()
    }

    /// Leads a flight for every key that has none to join. A flight whose value is here by now ends at once.
    fn enter<'py>(&self, py: Python<'py>, keys: &[Arc<str>]) -> PyResult<Option<Bound<'py, PyDict>>> {
        let flights = self.plan.get().flights.get();
        let engine = flights.cell.get();
        let mut joined = None;
        let before = lock(&self.led).flights.len();
        for key in keys {
            // Made before the lock is taken: that may run the collector, which may run any code.
            let began = engine.options().clock.coarse();
            let (key, plan, state) = (key.clone(), self.plan.clone_ref(py), Mutex::new(State::default()));
            let made = Py::new(py, Flight { key, plan, began, state })?;
            // SAFETY: the collector tracks the object, which is new. `finish` has it tracked again where it matters: ten
            // thousand flights of a batch must not make its runs long.
            unsafe { ffi::PyObject_GC_UnTrack(made.as_ptr().cast()) };
            let key = &made.get().key;
            let (mut found, mut replaced) = (None, None);
            let mut table = lock(&flights.table);
            let mut led = lock(&self.led);
            let other = table.get(key).map(|other| (other, other.get().plan.get()));
            match other {
                Some((_, plan)) if plan.number == self.plan.get().number => {} // asked for twice
                Some((other, plan))
                    if flights.joinable(other.get(), self.plan.get().here, self.plan.get().given)
                        && !(plan.serial && self.plan.get().is_inside_lead(plan.number)) =>
                {
                    plan.callers.fetch_add(1, Relaxed);
                    found = Some(other.clone_ref(py));
                }
                _ => {
                    lock(&made.get().state).mark = engine.mark(key);
                    lock(&self.plan.get().rest).open += 1;
                    led.add(made.clone_ref(py));
                    replaced = table.insert(key.clone(), made.clone_ref(py));
                }
            }
            drop((led, table));
            drop(replaced);
            if let Some(found) = found {
                joined.get_or_insert_with(|| PyDict::new(py)).set_item(&**key, found)?;
            }
        }
        for flight in &self.all(py)[before..] {
            if let Some(end) = self.by_now(py, flight.get().key()) {
                flights.finish(py, flight, end)?;
                joined.get_or_insert_with(|| PyDict::new(py));
            }
        }
        Ok(joined)
    }

    pub(super) fn is_open(&self) -> bool {
        lock(&self.plan.get().rest).open > 0
    }
}

#[pymethods]
impl Lead {
    fn __enter__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.enter(py, &self.keys)
    }

    #[pyo3(signature = (keys, /))]
    fn extend<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyList>) -> PyResult<Option<Bound<'py, PyDict>>> {
        self.enter(py, &texts(keys)?)
    }

    #[pyo3(signature = (_kind, _error, _traceback, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if self.handed_over.load(Relaxed) { Ok(()) } else { self.abandon(py) }
    }

    fn hand_over(&self) {
        self.plan.get().thread.store(0, Relaxed);
        self.handed_over.store(true, Relaxed);
    }

    fn take_over(&self) {
        self.plan.get().thread.store(this_thread(), Relaxed);
    }

    #[pyo3(signature = (driver, /))]
    fn drive(&self, driver: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut *lock(&self.plan.get().driver), driver);
        drop(before);
    }

    #[pyo3(signature = (joined, /))]
    fn leave(&self, joined: &Bound<'_, PyDict>) -> PyResult<()> {
        self.plan.get().leave(joined)
    }

    #[getter]
    fn wanted(&self) -> bool {
        self.plan.get().callers.load(Relaxed) > 0
    }

    pub(super) fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_open() {
            return Ok(());
        }
        let flights = self.plan.get().flights.get();
        let end = || End::Outcome(flights.aborted.clone_ref(py));
        self.all(py).iter().try_for_each(|flight| flights.finish(py, flight, end()).map(drop))
    }

    #[getter]
    fn ended(&self) -> bool {
        !self.is_open()
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
    fn driver(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.plan.get().driver(py)
    }

    #[getter]
    fn anew(&self) -> bool {
        self.plan.get().anew
    }

    fn took(&self) -> f64 {
        self.plan.get().began.elapsed().as_secs_f64()
    }

    fn left(&self) -> f64 {
        self.plan.get().left()
    }

    #[pyo3(signature = (waker, /))]
    fn wake(&self, waker: Py<PyAny>) -> bool {
        let mut rest = lock(&self.plan.get().rest);
        let open = rest.open > 0;
        if open {
            rest.wakers.push(waker);
        }
        open
    }

    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let outcomes = PyDict::new(py);
        for flight in self.all(py) {
            if let Some(outcome) = flight.get().outcome(py)? {
                outcomes.set_item(flight.get().key(), outcome)?;
            }
        }
        Ok(outcomes)
    }

    #[getter]
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let open = self.all(py).into_iter().filter(|flight| flight.get().is_open());
        PyList::new(py, open.map(|flight| flight.get().key.to_string()).collect::<Vec<_>>())
    }

    #[pyo3(signature = (key, /))]
    fn flight(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Py<Flight>> {
        self.find(py, text(key)?)
    }

    #[pyo3(signature = (key, /))]
    fn begin(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        let flight = self.find(py, text(key)?)?;
        let (flights, inner) = (self.plan.get().flights.get(), flight.get());
        let engine = flights.cell.get();
        let table = lock(&flights.table);
        let mut state = lock(&inner.state);
        let current = table.get(&inner.key).is_some_and(|current| current.is(&flight));
        if state.end.is_some() || !current && !engine.fresh(&inner.key, state.mark) {
            return Ok(false);
        }
        if !self.plan.get().late() {
            state.mark = engine.mark(&inner.key);
        }
        Ok(true)
    }

    #[pyo3(signature = (key, value, ttl, kind, version, /))]
    fn keep(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        ttl: Option<f64>,
        kind: u8,
        version: u128,
    ) -> PyResult<bool> {
        let flight = self.find(py, text(key)?)?;
        self.put(py, flight.get(), value, ttl, kind, Some(version))
    }

    #[pyo3(signature = (key, value, ttl, kind, how, own, too_large, /))]
    #[allow(clippy::too_many_arguments)]
    fn loaded(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        ttl: Option<f64>,
        kind: u8,
        how: usize,
        own: bool,
        too_large: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let key = text(key)?;
        let flight = self.find(py, key)?;
        let flights = self.plan.get().flights.get();
        let engine = flights.cell.get();
        if own {
            flights.times.get().0.observe(self.plan.get().began.elapsed());
        }
        let mark = lock(&flight.get().state).mark;
        let claimed = value.and_then(|value| engine.claimed(value.as_bytes(), Some(mark)));
        let claimed = claimed.map(|bytes| PyBytes::new(py, &bytes));
        let value = claimed.as_ref().or(value);
        let size = value.map_or(0, |value| value.as_bytes().len());
        let fits = size <= flights.max_value && engine.fits(key, size);
        let (kept, keep_for) = if fits { (value, ttl) } else { (None, Some(0.0)) }; // 0 drops an older one
        self.put(py, flight.get(), kept, keep_for, kind, None)?;
        if !fits {
            engine.count(kamacache_engine::outcome::TOO_LARGE, 1); // before the callers that wait go on
            guarded::call(too_large, &(key, size).into_pyobject(py)?)?;
        }
        let loaded = (value.map(|value| value.clone().unbind()), mark.loads, ttl, how, !fits);
        flights.finish(py, &flight, End::Loaded(flights.outcome.clone_ref(py), loaded))
    }

    #[pyo3(signature = (key, outcome, /))]
    fn end(&self, py: Python<'_>, key: &Bound<'_, PyAny>, outcome: Py<PyAny>) -> PyResult<bool> {
        let flight = self.find(py, text(key)?)?;
        self.plan.get().flights.get().finish(py, &flight, End::Outcome(outcome))
    }

    fn open(this: Py<Self>, py: Python<'_>) -> Option<Py<PyAny>> {
        if this.get().is_open() { Some(this.into_any()) } else { this.get().plan.get().open_around(py) }
    }

    #[pyo3(signature = (flights, key, /))]
    fn inside(&self, flights: &Bound<'_, Flights>, key: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.is_inside(flights.get().number, text(key)?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.plan)?;
        let Ok(led) = self.led.try_lock() else { return Ok(()) };
        led.flights.iter().try_for_each(|flight| visit.call(flight))
    }
}
