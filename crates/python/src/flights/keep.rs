//! The values that a lead finds in the store and puts there, and the end of a lead that nothing else ended.
use std::time::Instant;

use kamacache_engine::{
    outcome::{ABSENT, HITS, NEAR_HITS},
    store::{Fill, Gone},
};
use pyo3::{prelude::*, types::PyBytes};

use super::{Flight, Lead, flight::End, lock};
use crate::{
    errors::{kind as kind_of, nanoseconds},
    handle::drain,
    store::Store,
    value::release,
};

impl Lead {
    /// Returns a value that came into memory between the miss and the lead. If this node loads, a former copy will do:
    /// the table of the asking node is older than ours, and a peek would return that copy, too.
    pub(super) fn by_now(&self, py: Python<'_>, key: &str) -> Option<End> {
        let plan = self.plan.get();
        let flights = plan.flights.get();
        let (value, version, remaining, kind) = flights.store.get().found(py, key).filter(|_| !plan.anew)?;
        let how = match (kind, &value) {
            (Store::FORMER, _) if !plan.here => return None,
            (_, None) => ABSENT,
            (Store::NEAR, _) => NEAR_HITS,
            _ => HITS,
        };
        let found = (value.map(Bound::unbind), version, remaining, how, false);
        Some(End::Loaded(flights.outcome.clone_ref(py), found))
    }

    /// Keeps the value of a flight unless the flight is late. Without a version, the value is as old as the beginning
    /// of its load.
    pub(super) fn put(
        &self,
        py: Python<'_>,
        flight: &Flight,
        value: Option<&Bound<'_, PyBytes>>,
        ttl: Option<f64>,
        kind: u8,
        version: Option<u128>,
    ) -> PyResult<bool> {
        let mark = lock(&flight.state).mark;
        let (now, plan) = (Instant::now(), self.plan.get());
        if plan.deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(false);
        }
        let fill = Fill {
            version: version.unwrap_or(mark.loads),
            ttl: ttl.map(nanoseconds).transpose()?,
            kind: kind_of(kind)?,
            took: u64::try_from(now.duration_since(plan.began).as_nanos()).unwrap_or(u64::MAX),
            foreign: version.is_some(),
            since: Some(mark),
        };
        let flights = plan.flights.get();
        let value = value.map(|bytes| flights.store.get().value(bytes));
        let mut gone = Gone::default();
        let kept = flights.cell.get().put(&flight.key, value, fill, &mut gone);
        release(py, gone);
        drain(py);
        Ok(kept)
    }
}

/// Aborts the flights that are left. No other code can end them: they never began, or their loop was closed.
impl Drop for Lead {
    fn drop(&mut self) {
        if !self.is_open() {
            return;
        }
        Python::try_attach(|py| {
            let pending = PyErr::take(py);
            if let Err(error) = self.abandon(py) {
                error.write_unraisable(py, None);
            }
            if let Some(error) = pending {
                error.restore(py);
            }
        });
    }
}
