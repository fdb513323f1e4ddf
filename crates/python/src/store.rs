//! Store for Python. Hits run in `hit.rs`; nothing here is critical for speed.
mod budget;
mod decision;
mod held;
mod left;
mod options;
mod pending;
mod reading;
mod shared;
mod values;

use std::sync::{Arc, atomic};

use kamacache_engine::memory::Memory;
use kamacache_engine::outcome::OUTCOMES;
use kamacache_engine::store::{Candidacy, Fill, Kind};
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict, PySequence, PyTuple},
};

use crate::{
    cell::Cell,
    clock::{Clock, Hlc},
    errors::{self, key as text, nanoseconds},
    placement::Placement,
    remote::{Flags, Remote, flags},
    writer::{self, Item},
};
pub use budget::Budget;
pub use held::Held;
pub use pending::PendingWrite;
use reading::{Found, Many, Missing};

/// The memory of one group in one process.
#[pyclass(frozen, weakref, module = "kamacache._engine")]
pub struct Store {
    cell: Arc<Cell>,
    on_miss: Held<PyAny>,
    on_unread: Held<PyAny>,
    remote: Held<Remote>,
    /// Writes of this node are under way, for which a get may have to wait.
    pending: atomic::AtomicBool,
    decode: Held<PyAny>,
    decodes: bool,
    /// Bytes that are not packed are returned as they are.
    plain: bool,
    shareable: bool,
}

#[pymethods]
impl Store {
    #[classattr]
    pub const MAIN: u8 = Kind::Main as u8;
    #[classattr]
    pub const NEAR: u8 = Kind::Near as u8;
    #[classattr]
    pub const FORMER: u8 = Kind::Former as u8;

    #[classattr]
    #[pyo3(name = "OUTCOMES")]
    fn outcomes(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, OUTCOMES)
    }

    #[new]
    #[rustfmt::skip]
    #[pyo3(signature = (
        name, *, max_bytes, policy, clock, near_ttl, remember, decode, shareable, keep_evicted, packs = false,
        plain = false, freshness = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        name: String,
        max_bytes: u64,
        policy: String,
        clock: &Clock,
        near_ttl: f64,
        remember: f64,
        decode: Option<Py<PyAny>>,
        shareable: bool,
        keep_evicted: bool,
        packs: bool,
        plain: bool,
        freshness: Option<options::Fresh>,
    ) -> PyResult<Self> {
        let (times, flags) = ((near_ttl, remember, freshness), (keep_evicted, packs));
        let cell = options::cell(py, name, (max_bytes, policy, clock), times, flags)?;
        Ok(Self {
            cell,
            on_miss: Held::default(),
            on_unread: Held::default(),
            remote: Held::default(),
            pending: atomic::AtomicBool::new(false),
            decodes: decode.is_some(),
            decode: Held::new(decode),
            plain,
            shareable,
        })
    }

    #[getter]
    fn name(&self) -> &str {
        self.engine().name()
    }

    #[getter]
    fn floor(&self) -> u128 {
        self.engine().floor()
    }

    #[getter]
    fn full(&self) -> bool {
        self.engine().is_full()
    }

    #[getter]
    fn on_miss(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.on_miss.get(py)
    }

    #[setter]
    fn set_on_miss(&self, on_miss: Option<Py<PyAny>>) {
        self.on_miss.set(on_miss);
    }

    #[setter]
    fn set_on_unread(&self, on_unread: Option<Py<PyAny>>) {
        self.on_unread.set(on_unread);
    }

    #[getter]
    fn remote(&self, py: Python<'_>) -> Option<Py<Remote>> {
        self.remote.get(py)
    }

    #[setter]
    fn set_remote(&self, remote: Option<Py<Remote>>) {
        self.remote.set(remote);
    }

    #[getter]
    fn pending(&self) -> bool {
        self.pending.load(atomic::Ordering::Relaxed)
    }

    #[setter]
    fn set_pending(&self, pending: bool) {
        self.pending.store(pending, atomic::Ordering::Relaxed);
    }

    #[pyo3(signature = (keys, /))]
    fn get_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Many<'py>> {
        self.read_many(py, keys)
    }

    #[pyo3(signature = (key, /))]
    fn peek<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.peeked(py, text(key)?)
    }

    #[pyo3(signature = (key, /))]
    fn find<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Found<'py>>> {
        Ok(self.found(py, text(key)?))
    }

    #[pyo3(signature = (key, /, *, claim = true))]
    fn aged<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>, claim: bool) -> PyResult<Option<Found<'py>>> {
        Ok(self.aged_now(py, text(key)?, claim))
    }

    #[pyo3(signature = (key, /))]
    fn held<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<(Found<'py>, f64)>> {
        Ok(self.held_now(py, text(key)?))
    }

    #[pyo3(signature = (key, seconds, /))]
    fn hold(&self, key: &Bound<'_, PyAny>, seconds: f64) -> PyResult<()> {
        self.engine().hold(text(key)?, nanoseconds(seconds)?);
        Ok(())
    }

    #[pyo3(signature = (key, /))]
    fn known(&self, key: &Bound<'_, PyAny>) -> PyResult<u128> {
        Ok(self.engine().known(text(key)?))
    }

    #[pyo3(signature = (key, version, value, /))]
    fn newer(&self, key: &str, version: u128, value: Option<&[u8]>) -> Vec<(String, u128)> {
        self.engine().newer(key, version, value)
    }

    #[pyo3(signature = (key, size, /))]
    fn fits(&self, key: &Bound<'_, PyAny>, size: usize) -> PyResult<bool> {
        Ok(self.engine().fits(text(key)?, size))
    }

    #[pyo3(signature = (key, value, version, ttl, kind, *, foreign = false))]
    #[allow(clippy::too_many_arguments)]
    fn put(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        version: u128,
        ttl: Option<f64>,
        kind: u8,
        foreign: bool,
    ) -> PyResult<bool> {
        let (ttl, kind) = (ttl.map(nanoseconds).transpose()?, errors::kind(kind)?);
        self.put_value(py, text(key)?, value, Fill { version, ttl, kind, took: 0, foreign, since: None })
    }

    fn write(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        version: u128,
        ttl: Option<f64>,
    ) -> PyResult<bool> {
        self.write_value(py, text(key)?, value, version, ttl.map(nanoseconds).transpose()?)
    }

    #[pyo3(signature = (item, /))]
    fn order<'py>(&self, py: Python<'py>, item: Item<'py>) -> PyResult<u128> {
        Ok(writer::order(py, self, &item)?.unwrap_or(0))
    }

    #[pyo3(signature = (item, inherited, /))]
    fn decide<'py>(&self, py: Python<'py>, item: Item<'py>, inherited: bool) -> PyResult<decision::Decision<'py>> {
        decision::decide(py, self, &item, inherited)
    }

    #[pyo3(signature = (hlc, /))]
    fn order_by(&self, hlc: &Hlc) {
        self.engine().order_by(hlc.0.clone());
    }

    #[pyo3(signature = (key, value, /))]
    fn discard(&self, py: Python<'_>, key: &Bound<'_, PyAny>, value: &Bound<'_, PyBytes>) -> PyResult<bool> {
        Ok(self.drop_bytes(py, text(key)?, value.as_bytes()))
    }

    fn note(&self, py: Python<'_>, key: &Bound<'_, PyAny>, version: u128) -> PyResult<u128> {
        let key = text(key)?;
        Ok(self.change(py, |engine, gone| engine.note(key, version, gone)))
    }

    fn clear(&self, py: Python<'_>, version: u128) -> u128 {
        self.change_detached(py, |engine, gone| engine.clear(version, gone))
    }

    #[getter]
    fn shut(&self) -> bool {
        self.engine().is_shut()
    }

    #[setter]
    fn set_shut(&self, shut: bool) {
        self.engine().set_shut(shut);
    }

    fn forget(&self, py: Python<'_>) {
        self.change(py, |engine, gone| engine.forget_entries(gone));
    }

    #[pyo3(signature = (prefix, /))]
    fn keys(&self, py: Python<'_>, prefix: &str) -> Vec<String> {
        py.detach(|| self.cell.share().keys(prefix))
    }

    #[getter]
    fn closed(&self) -> bool {
        self.engine().closed()
    }

    #[pyo3(signature = (since, part, /))]
    fn missed(&self, py: Python<'_>, since: u64, part: usize) -> Missing {
        self.missed_writes(py, since, part)
    }

    #[pyo3(signature = (placement, me, inherits = 0.0, down = Vec::new(), /))]
    fn place(&self, py: Python, placement: Option<&Placement>, me: u16, inherits: f64, down: Flags) -> PyResult<bool> {
        let candidacy = Candidacy::new(placement.map(|placement| placement.table.clone()), me).skipping(flags(&down));
        let (engine, inherits) = (self.cell.share(), nanoseconds(inherits)?);
        Ok(py.detach(|| engine.place(candidacy, inherits)))
    }

    #[pyo3(signature = (since = u64::MAX, /, *, few = false))]
    fn sweep<'py>(&self, py: Python<'py>, since: u64, few: bool) -> PyResult<Vec<left::Left<'py>>> {
        self.swept(py, since, few)
    }

    fn evicted<'py>(&self, py: Python<'py>) -> PyResult<Vec<left::Left<'py>>> {
        self.few(py)
    }

    #[pyo3(signature = (outcome, n = 1, /))]
    fn count(&self, outcome: usize, n: u64) -> PyResult<()> {
        let known = self.engine().count(outcome, n);
        known.then_some(()).ok_or_else(|| PyValueError::new_err("outcome must be a position in OUTCOMES"))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.counts(py)
    }

    fn close(&self, py: Python<'_>) {
        self.remote.set(None);
        self.change(py, |engine, gone| engine.empty(true, gone));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.on_miss.traverse(&visit)?;
        self.on_unread.traverse(&visit)?;
        self.decode.traverse(&visit)?;
        self.remote.traverse(&visit)
    }

    fn __clear__(&self) {
        self.on_miss.set(None);
        self.on_unread.set(None);
        self.decode.set(None);
        self.remote.set(None);
    }
}
