//! Clock and Hlc for Python.
use std::{sync::Arc, time::Duration};

use kamacache_engine::{clock, version};
use pyo3::{
    exceptions::{PyOverflowError, PyTypeError, PyValueError},
    prelude::*,
};

use crate::errors::{nanoseconds, seconds};

/// The last time of a manual clock: with a ttl added it is still before the time that means never.
const FURTHEST: u64 = i64::MAX as u64;

/// The time of a node: the machine's, or one that a test moves by hand.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Clock(pub Arc<clock::Clock>);

#[pymethods]
impl Clock {
    #[new]
    #[pyo3(signature = (*, manual = false, unix = 0.0))]
    fn new(manual: bool, unix: f64) -> PyResult<Self> {
        let clock = if manual { clock::Clock::manual(nanoseconds(unix)?) } else { clock::Clock::machine() };
        Ok(Self(Arc::new(clock)))
    }

    fn now(&self) -> f64 {
        seconds(self.0.now())
    }

    fn unix(&self) -> f64 {
        seconds(self.0.unix())
    }

    #[pyo3(signature = (seconds, *, asleep = false))]
    fn advance(&self, seconds: f64, asleep: bool) -> PyResult<()> {
        if seconds < 0.0 {
            return Err(PyValueError::new_err("a clock only moves forward"));
        }
        let by = nanoseconds(seconds)?;
        if self.0.now().checked_add(by).is_none_or(|end| end > FURTHEST) {
            return Err(PyValueError::new_err("a clock ends 292 years after its start"));
        }
        let moved = if asleep { self.0.sleep(by) } else { self.0.advance(by) };
        if moved {
            return Ok(());
        }
        Err(PyTypeError::new_err("this is the machine's clock; only Clock(manual=True) can be advanced"))
    }
}

/// Returns the seconds of time.monotonic().
#[pyfunction]
pub fn monotonic() -> f64 {
    seconds(clock::monotonic())
}

/// A hybrid logical clock: versions that follow both time and causality.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Hlc(pub Arc<version::Hlc>);

#[pymethods]
impl Hlc {
    #[new]
    fn new(clock: &Clock, node: u64) -> Self {
        Self(Arc::new(version::Hlc::new(clock.0.clone(), node)))
    }

    #[pyo3(signature = (above = 0))]
    fn next(&self, above: u128) -> PyResult<u128> {
        self.0.next(above).ok_or_else(|| PyOverflowError::new_err("no greater version exists"))
    }

    fn merge(&self, version: u128) -> bool {
        self.0.merge(version)
    }

    fn latest(&self) -> u128 {
        self.0.latest()
    }

    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    #[pyo3(signature = (now_ms, /))]
    fn heard(&self, now_ms: u64) {
        self.0.heard(now_ms);
    }

    #[pyo3(signature = (wait, /))]
    fn until_ms(&self, wait: f64) -> PyResult<u64> {
        Ok(self.0.until_ms(Duration::from_nanos(nanoseconds(wait)?)))
    }
}
