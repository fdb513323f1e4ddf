//! `Contacts`: what a node has told each member of its writes.
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use kamacache_engine::{fork, memory::Groups};
use pyo3::prelude::*;

use crate::{clock::Hlc, errors::seconds, messages};

/// What a node tells its members of its writes, and whether its process stood still.
#[pyclass(frozen, module = "kamacache._engine")]
#[derive(Default)]
pub struct Contacts {
    pub groups: Arc<Groups>,
}

#[pymethods]
impl Contacts {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (me, hlc, /))]
    fn name(&self, me: &str, hlc: &Hlc) {
        self.groups.contacts.name(me, hlc.0.clone());
    }

    #[pyo3(signature = (member, /))]
    fn begin(&self, member: &str) {
        self.groups.contacts.begin(member);
    }

    #[pyo3(signature = (member, /))]
    fn end(&self, member: &str) {
        self.groups.contacts.end(member);
    }

    #[pyo3(signature = (member, /))]
    fn forget(&self, member: &str) {
        self.groups.contacts.forget(member);
    }

    #[pyo3(signature = (member, /))]
    fn shown<'py>(&self, py: Python<'py>, member: &str) -> PyResult<Bound<'py, PyAny>> {
        messages::contact(py, &self.groups.contacts.shown(member))
    }

    #[pyo3(signature = (member, /))]
    fn met<'py>(&self, py: Python<'py>, member: &str) -> PyResult<Bound<'py, PyAny>> {
        messages::contact(py, &self.groups.contacts.met(member))
    }

    #[pyo3(signature = (members, /))]
    fn know(&self, members: Vec<messages::Member>) {
        *self.groups.members.lock() = members.into_iter().map(messages::member).collect();
    }

    fn heard(&self) -> Vec<String> {
        self.groups.contacts.heard()
    }

    fn watch(&self) {
        self.groups.watch();
    }

    #[getter]
    fn stood(&self) -> u64 {
        self.groups.stood()
    }

    #[getter]
    fn asleep(&self) -> f64 {
        seconds(self.groups.asleep())
    }

    #[pyo3(signature = (stood, /))]
    fn catch_up(&self, stood: u64) {
        self.groups.catch_up(stood);
    }

    fn writing(&self) -> Writing {
        let groups = self.groups.clone();
        let before = groups.contacts.writes();
        let standstills = (groups.stood() == 0).then(|| groups.standstills());
        Writing { before, standstills, groups, generation: fork::generation(), ended: AtomicBool::new(false) }
    }
}

/// A write that is under way, from its making to the end of `with`, or to its drop.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Writing {
    groups: Arc<Groups>,
    before: u64,
    /// The number of standstills before; None: the process had not caught up with the last one.
    standstills: Option<u64>,
    generation: u64,
    ended: AtomicBool,
}

#[pymethods]
impl Writing {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// True if the process has not stood still since the write began, and so knows whom to tell.
    #[getter]
    fn current(&self) -> bool {
        self.standstills == Some(self.groups.standstills())
    }

    fn __exit__(&self, _kind: &Bound<'_, PyAny>, _error: &Bound<'_, PyAny>, _traceback: &Bound<'_, PyAny>) {
        self.end();
    }
}

impl Writing {
    fn end(&self) {
        // The lock of the parent may be held by a thread that a forked child does not have.
        if !self.ended.swap(true, Relaxed) && self.generation == fork::generation() {
            self.groups.contacts.wrote(self.before);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end();
    }
}
