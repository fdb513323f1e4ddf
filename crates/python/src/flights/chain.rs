//! The chain of loads that code is inside of: a loader that asks for another key is led from inside of its own load.
use std::iter::successors;

use pyo3::{PyTraverseError, PyVisit, prelude::*};

use super::{Flight, Lead, flight::Plan, lock};

/// A load that code is inside of: the flight of one key, or in load_many the lead.
#[derive(FromPyObject)]
pub enum Part {
    Flight(Py<Flight>),
    Lead(Py<Lead>),
}

impl Part {
    fn plan(&self) -> &Plan {
        match self {
            Self::Flight(flight) => flight.get().plan.get(),
            Self::Lead(lead) => lead.get().plan.get(),
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Flight(flight) => flight.get().is_open(),
            Self::Lead(lead) => lead.get().is_open(),
        }
    }

    fn loads(&self, group: u64, key: &str) -> bool {
        match self {
            Self::Flight(flight) => flight.get().loads(group, key),
            Self::Lead(lead) => lead.get().loads(group, key),
        }
    }

    fn object(&self, py: Python<'_>) -> Py<PyAny> {
        match self {
            Self::Flight(flight) => flight.clone_ref(py).into_any(),
            Self::Lead(lead) => lead.clone_ref(py).into_any(),
        }
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Flight(flight) => visit.call(flight),
            Self::Lead(lead) => visit.call(lead),
        }
    }
}

impl Lead {
    fn loads(&self, group: u64, key: &str) -> bool {
        self.plan.get().group == group && lock(&self.led).find(key).is_some_and(|flight| flight.get().is_open())
    }

    /// Returns whether it, or a load around it, loads this key.
    pub(super) fn is_inside(&self, group: u64, key: &str) -> bool {
        self.loads(group, key) || self.plan.get().is_inside(group, key)
    }
}

/// So many loads may be inside each other.
const LEVELS: usize = 1000;

impl Plan {
    /// Returns the loads that the leading code is inside of, the innermost first.
    fn around(&self) -> impl Iterator<Item = &Part> {
        successors(self.outer.as_ref(), |part| part.plan().outer.as_ref())
    }

    /// Returns the innermost of them that is still open.
    pub fn open_around(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.around().find(|part| part.is_open()).map(|part| part.object(py))
    }

    /// Returns whether one of them loads this key, or there are so many that they may well never end.
    pub fn is_inside(&self, group: u64, key: &str) -> bool {
        self.around().enumerate().any(|(level, part)| level >= LEVELS || part.loads(group, key))
    }

    /// Returns whether one of them belongs to the lead of that number.
    pub fn is_inside_lead(&self, number: u64) -> bool {
        self.around().any(|part| part.plan().number == number)
    }
}
