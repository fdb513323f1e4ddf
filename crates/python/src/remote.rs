//! Hits in the owner's memory without Python: on a miss, a store asks the owner by itself.
//!
//! Python does the rest: it keeps near copies, passes over members that do not answer, and loads.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kamacache_engine::{
    memory::Memory,
    outcome::{ABSENT, PEER_HITS},
    placement,
    resp::{self, Answer, Look, Reply},
};
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString},
};

use crate::{
    answers,
    errors::{duration, seconds},
    failure::peer_error,
    guarded::call,
    placement::Placement,
    question::Question,
    store::Store,
    transport::Transport,
    writer::{Item, Writer},
};

/// A bool that threads share without the interpreter.
#[pyclass(frozen, module = "kamacache._engine")]
#[derive(Default)]
pub struct Flag(Arc<AtomicBool>);

/// Those of the members in a table.
pub type Flags = Vec<Option<Py<Flag>>>;

/// Returns them for the engine.
pub fn flags(flags: &Flags) -> Vec<Option<Arc<AtomicBool>>> {
    flags.iter().map(|flag| flag.as_ref().map(|flag| flag.get().0.clone())).collect()
}

#[pymethods]
impl Flag {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    #[pyo3(signature = (value, /))]
    fn set(&self, value: bool) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn __bool__(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// By item its version and the greater one that a listener knew, and the addresses that failed; see writer.rs.
type WriteResult<'py> = (Vec<Option<u128>>, Vec<u128>, Vec<(String, Bound<'py, PyAny>)>);

/// A peer's address, whether it is considered dead, and the peer itself.
type Listed = (Py<PyString>, Py<Flag>, Py<PyAny>);

pub struct Peer {
    pub address: String,
    /// The same for Python.
    pub name: Py<PyString>,
    down: Arc<AtomicBool>,
    object: Py<PyAny>,
}

/// The owners of keys and how to ask them. It is replaced when the owners change.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Remote {
    pub transport: Py<Transport>,
    table: Arc<placement::Placement>,
    /// By their positions in the table; None is this node.
    peers: Vec<Option<Peer>>,
    pub timeout: Duration,
    keep: Option<Py<PyAny>>,
    suspect: Py<PyAny>,
    /// The connections of event loops: by loop and address. None: tasks ask by Python alone.
    pub links: Option<Py<PyDict>>,
}

/// The result of asking.
pub enum Asked<'py> {
    /// No peer was asked: this node owns the key, or the owner is considered dead.
    Nobody,
    /// The owner has nothing that is good enough.
    Nothing,
    /// None: known to be absent.
    Found(Option<Bound<'py, PyAny>>),
}

impl Remote {
    /// Returns the owner of a key; None if this node owns it, or the owner is considered dead.
    pub fn owner_of(&self, key: &str) -> Option<&Peer> {
        let peer = self.peers.get(usize::from(self.table.owner(key)))?.as_ref()?;
        (!peer.down.load(Ordering::Relaxed)).then_some(peer)
    }

    /// Asks the owner of a key, and counts a hit.
    pub fn ask<'py>(&self, py: Python<'py>, store: &Store, key: &str) -> PyResult<Asked<'py>> {
        let Some(peer) = self.owner_of(key) else {
            return Ok(Asked::Nobody);
        };
        let Ok(pool) = self.transport.get().pool() else {
            return Ok(Asked::Nobody); // closed, or the parent's
        };
        let (engine, address) = (store.cell(), peer.address.as_str());
        let engine = engine.get();
        let begun = engine.options().clock.now();
        let asked = py.detach(|| {
            let mut request = Vec::with_capacity(64 + engine.name().len() + key.len());
            resp::ask(&mut request, engine.name(), [key].into_iter(), Look::Copy);
            pool.ask(address, &request, self.timeout)
        });
        let (reply, connection) = match asked {
            Ok(answered) => answered,
            Err(failure) => return self.silent(py, peer, &peer_error(py, &failure)),
        };
        let Reply::Found(answer) = reply else {
            return match answers::one(py, address, &reply, connection.input()) {
                Ok(_) => {
                    pool.put(address, connection);
                    Ok(Asked::Nothing)
                }
                Err(error) => self.silent(py, peer, &error),
            };
        };
        let value = answer.value.clone().map(|at| PyBytes::new(py, &connection.input()[at]));
        pool.put(address, connection);
        self.found(py, store, key, value, &answer, begun)
    }

    /// Takes in the owner's answer, unless it is older than what is known here or cannot be read, and counts a hit.
    pub fn found<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        key: &str,
        value: Option<Bound<'py, PyBytes>>,
        answer: &Answer,
        begun: u64,
    ) -> PyResult<Asked<'py>> {
        if store.engine().is_older(key, answer.version, value.as_ref().map(|value| value.as_bytes())) {
            return Ok(Asked::Nothing);
        }
        let object = match &value {
            None => Ok(None),
            Some(bytes) => match store.readable(py, key, bytes.clone()) {
                Ok(None) => return Ok(Asked::Nothing),
                object => object,
            },
        };
        store.engine().count(if value.is_none() { ABSENT } else { PEER_HITS }, 1);
        self.keep(py, key, value.as_ref(), answer, seconds(begun))?;
        object.map(Asked::Found)
    }

    /// Has Python keep a near copy of a hot key.
    pub fn keep(
        &self,
        py: Python<'_>,
        key: &str,
        value: Option<&Bound<'_, PyBytes>>,
        answer: &Answer,
        begun: f64,
    ) -> PyResult<()> {
        if let Some(keep) = self.keep.as_ref().filter(|_| answer.flags & resp::HOT != 0) {
            let found = (value, answer.version, answers::seconds(answer.remaining_ms), answer.flags);
            call(keep.bind(py), &(key, found, begun).into_pyobject(py)?)?;
        }
        Ok(())
    }

    pub fn silent<'py>(&self, py: Python<'py>, peer: &Peer, error: &PyErr) -> PyResult<Asked<'py>> {
        call(self.suspect.bind(py), &(&peer.object, error.value(py)).into_pyobject(py)?)?;
        Ok(Asked::Nothing)
    }
}

#[pymethods]
impl Remote {
    #[new]
    #[pyo3(signature = (transport, placement, peers, *, timeout, keep, suspect, links = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        transport: Py<Transport>,
        placement: &Placement,
        peers: Vec<Option<Listed>>,
        timeout: f64,
        keep: Option<Py<PyAny>>,
        suspect: Py<PyAny>,
        links: Option<Py<PyDict>>,
    ) -> PyResult<Self> {
        let peer = |(name, down, object): Listed| {
            let address = name.to_str(py)?.to_owned();
            Ok(Peer { address, name, down: down.bind(py).get().0.clone(), object })
        };
        Ok(Self {
            transport,
            table: placement.table.clone(),
            peers: peers.into_iter().map(|each| each.map(peer).transpose()).collect::<PyResult<_>>()?,
            timeout: Duration::try_from_secs_f64(timeout).map_err(|error| PyValueError::new_err(error.to_string()))?,
            keep,
            suspect,
            links,
        })
    }

    #[pyo3(name = "ask", signature = (store, key, /))]
    fn ask_in_task<'py>(
        this: &Bound<'py, Self>,
        store: &Bound<'py, Store>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, Question>>> {
        Question::ask(this, store, key)
    }

    #[pyo3(signature = (store, keys, found, failed, /))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        store: &Bound<'py, Store>,
        keys: &Bound<'py, PyList>,
        found: &Bound<'py, PyDict>,
        failed: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyList>> {
        self.ask_many(py, store.get(), keys, found, failed)
    }

    #[pyo3(signature = (store, items, listeners, timeout, /))]
    fn write<'py>(
        &self,
        py: Python<'py>,
        store: &Bound<'py, Store>,
        items: Vec<Item<'py>>,
        listeners: Vec<String>,
        timeout: f64,
    ) -> PyResult<WriteResult<'py>> {
        let pool = self.transport.get().pool().map_err(|failure| peer_error(py, &failure))?;
        let (store, timeout) = (store.get(), duration(timeout)?);
        let cell = store.cell();
        let writer = Writer { pool, store, engine: cell.get(), timeout };
        let alive = |place: &&u16| match self.peers.get(usize::from(**place)) {
            Some(Some(peer)) => !peer.down.load(Ordering::Relaxed),
            _ => true,
        };
        let owner = |key: &str| {
            let place = self.table.candidates(key).iter().find(alive)?;
            let peer = self.peers.get(usize::from(*place)).and_then(Option::as_ref);
            Some(peer.map_or("", |peer| peer.address.as_str()))
        };
        let written = writer.write(py, &items, &listeners, owner)?;
        let error = |(address, failure)| (address, peer_error(py, &failure).into_value(py).into_bound(py).into_any());
        Ok((written.versions, written.greater, written.failed.into_iter().map(error).collect()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for peer in self.peers.iter().flatten() {
            visit.call(&peer.object)?;
        }
        visit.call(&self.transport)?;
        visit.call(&self.keep)?;
        visit.call(&self.links)?;
        visit.call(&self.suspect)
    }
}
