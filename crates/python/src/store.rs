//! Store for Python. Hits run in `hit.rs`; everything here may take its time.
use std::{
    ptr::NonNull,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use kamacache_engine::{
    memory::Memory,
    policy::AnyPolicy,
    store::{Gone, Kind, Lookup, OUTCOMES, Options, Reason},
};
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyException, PyValueError},
    ffi,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyString, PyTuple},
};

use crate::{
    cell::{Cell, Engine},
    clock::Clock,
    errors::{key, nanoseconds, seconds},
    fork,
    hit::{self, Reader},
    placement::Placement,
    remote::{Asked, Remote},
    value::{Value, drain, release},
};

/// The cost of an entry beyond key and value, measured at a million entries: the bytes object, the handle, the slab, the
/// table and the policy, and what growing leaves unused.
const OVERHEAD: u64 = 240;

/// A value (None: absent), its version, remaining seconds and kind.
type Found<'py> = (Option<Bound<'py, PyBytes>>, u128, Option<f64>, u8);
/// A key, its value as a get would give it, and why it left.
type Told<'py> = (String, Option<Bound<'py, PyAny>>, &'static str);

/// The memory of one group in one process.
#[pyclass(frozen, weakref, module = "kamacache._engine")]
pub struct Store {
    cell: Arc<Cell>,
    /// Locked for a moment by attached threads alone.
    on_miss: Mutex<Option<Py<PyAny>>>,
    remote: Mutex<Option<Py<Remote>>>,
    /// Writes of this node are pending, for which a get may have to wait.
    pending: AtomicBool,
    decode: Mutex<Option<Py<PyAny>>>,
    decodes: bool,
    shareable: bool,
}

fn locked<T>(object: &Mutex<Option<Py<T>>>) -> MutexGuard<'_, Option<Py<T>>> {
    object.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls what may wait for long, a loader.
///
/// Before Python 3.14, a thread that wants the interpreter back when it is being shut down is ended by pthread_exit. Its
/// unwinding must not pass through our frames, which would abort the process: the guard holds the thread where it is.
fn call(function: &Bound<'_, PyAny>, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    struct Hold;
    impl Drop for Hold {
        fn drop(&mut self) {
            loop {
                std::thread::park();
            }
        }
    }
    unsafe extern "C-unwind" {
        fn PyObject_CallObject(function: *mut ffi::PyObject, arguments: *mut ffi::PyObject) -> *mut ffi::PyObject;
    }
    let py = function.py();
    let hold = Hold;
    // SAFETY: attached; both objects live for the call.
    let result = unsafe { PyObject_CallObject(function.as_ptr(), arguments.as_ptr()) };
    std::mem::forget(hold);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(Bound::unbind)
}

fn cloned<T>(py: Python<'_>, object: &Mutex<Option<Py<T>>>) -> Option<Py<T>> {
    locked(object).as_ref().map(|object| object.clone_ref(py))
}

fn kind(number: u8) -> PyResult<Kind> {
    [Kind::Main, Kind::Near, Kind::Former]
        .into_iter()
        .find(|&kind| kind as u8 == number)
        .ok_or_else(|| PyValueError::new_err("kind must be MAIN, NEAR or FORMER"))
}

impl Reader for Store {
    #[inline]
    fn engine(&self) -> &Engine {
        self.cell.get()
    }

    fn store(&self) -> &Store {
        self
    }
}

impl Store {
    pub fn add_methods(py: Python<'_>) -> PyResult<()> {
        let class = py.get_type::<Self>();
        hit::add_get::<Self>(&class)?;
        let doc = c"lookup($self, key, /)\n--\n\nAs get, but MISSING where nothing is here.";
        hit::add_lookup::<Self>(&class, c"lookup", doc)
    }

    pub fn cell(&self) -> Arc<Cell> {
        self.cell.clone()
    }

    /// What a transport serves. A forked child must ask again.
    pub fn memory(&self) -> Arc<dyn Memory> {
        self.cell.share()
    }

    /// The object that a get returns for a value.
    pub fn object<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        if let Some(ready) = value.ready() {
            // SAFETY: `value` keeps the object alive.
            return Ok(unsafe { Bound::from_borrowed_ptr(py, NonNull::as_ptr(ready)) });
        }
        let object = self.decoded(py, value.bytes(py))?;
        Ok(if self.shareable {
            value.keep_decoded(object)
        } else {
            object
        })
    }

    /// As object, for a handle that is ours to let go of.
    pub fn take_object<'py>(&self, py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
        let object = self.object(py, &value);
        value.release(py);
        object
    }

    /// Lets an expired entry go, asks the owner's memory where it can do so natively, then on_miss.
    pub fn miss(&self, py: Python<'_>, asked: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.expire(py, asked)?;
        let mut peeked = false;
        if !self.pending.load(Ordering::Relaxed)
            && let Some(remote) = cloned(py, &self.remote)
        {
            match remote.get().ask(py, self, key(asked)?)? {
                Asked::Found(Some(value)) => return self.decoded(py, value).map(Bound::unbind),
                Asked::Found(None) => return Ok(py.None()),
                Asked::Nothing => peeked = true,
                Asked::Nobody => {}
            }
        }
        let Some(on_miss) = cloned(py, &self.on_miss) else {
            return Ok(py.None());
        };
        let arguments = if peeked {
            (asked, true).into_pyobject(py)?
        } else {
            (asked,).into_pyobject(py)?
        };
        call(on_miss.bind(py), &arguments)
    }

    /// The object that a get returns for a value that stays elsewhere.
    fn decoded<'py>(&self, py: Python<'py>, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        match cloned(py, &self.decode) {
            Some(decode) => decode.bind(py).call1((bytes,)),
            // None: bytes are what users see, or the collector has taken it and with it everything that could ask.
            None => Ok(bytes.into_any()),
        }
    }

    pub fn expire(&self, py: Python<'_>, asked: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut gone = Gone::default();
        self.engine().expire(key(asked)?, &mut gone);
        release(py, gone);
        Ok(())
    }

    fn value(&self, bytes: &Bound<'_, PyBytes>) -> Value {
        Value::new(bytes, !self.decodes)
    }

    /// Runs a change, then lets go of what it let go.
    fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&Engine, &mut Gone<Value>) -> R) -> R {
        let mut gone = Gone::default();
        let result = change(self.engine(), &mut gone);
        release(py, gone);
        drain(py);
        result
    }
}

#[pymethods]
impl Store {
    #[classattr]
    const MAIN: u8 = Kind::Main as u8;
    #[classattr]
    const NEAR: u8 = Kind::Near as u8;
    #[classattr]
    const FORMER: u8 = Kind::Former as u8;

    #[classattr]
    #[pyo3(name = "OUTCOMES")]
    fn outcomes(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
        PyTuple::new(py, OUTCOMES)
    }

    #[new]
    #[pyo3(signature = (name, *, max_bytes, policy, clock, near_ttl, remember, decode, shareable, keep_evicted))]
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
    ) -> PyResult<Self> {
        let options = Options {
            name,
            max_bytes,
            policy,
            clock: clock.0.clone(),
            near_ttl: nanoseconds(near_ttl)?,
            remember: nanoseconds(remember)?,
            overhead: OVERHEAD,
            keep_evicted,
        };
        let engine = Engine::new(options)
            .ok_or_else(|| PyValueError::new_err(format!("policy must be one of {}", AnyPolicy::NAMES.join(", "))))?;
        let cell = Arc::new(Cell::new(engine));
        fork::register(py, &cell);
        let decodes = decode.is_some();
        Ok(Self {
            cell,
            on_miss: Mutex::new(None),
            remote: Mutex::new(None),
            pending: AtomicBool::new(false),
            decode: Mutex::new(decode),
            decodes,
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
    fn on_miss(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        cloned(py, &self.on_miss)
    }

    #[setter]
    fn set_on_miss(&self, on_miss: Option<Py<PyAny>>) {
        // Let go after the lock: the old one may run code.
        let old = std::mem::replace(&mut *locked(&self.on_miss), on_miss);
        drop(old);
    }

    #[getter]
    fn remote(&self, py: Python<'_>) -> Option<Py<Remote>> {
        cloned(py, &self.remote)
    }

    #[setter]
    fn set_remote(&self, remote: Option<Py<Remote>>) {
        let old = std::mem::replace(&mut *locked(&self.remote), remote);
        drop(old);
    }

    #[getter]
    fn pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_pending(&self, pending: bool) {
        self.pending.store(pending, Ordering::Relaxed);
    }

    #[pyo3(signature = (keys, /))]
    fn get_many<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyList>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyList>, Bound<'py, PyDict>)> {
        // All keys are checked before the first is counted.
        for asked in keys {
            key(&asked)?;
        }
        let found = PyDict::new(py);
        let missing = PyList::empty(py);
        let failed = PyDict::new(py);
        for asked in keys {
            match self.engine().lookup(key(&asked)?, Value::clone) {
                Lookup::Hit(value) => match self.take_object(py, value) {
                    Ok(object) => found.set_item(&asked, object)?,
                    Err(error) if error.is_instance_of::<PyException>(py) => failed.set_item(&asked, error)?,
                    Err(error) => return Err(error),
                },
                Lookup::Absent => {}
                Lookup::Miss => {
                    self.expire(py, &asked)?;
                    missing.append(&asked)?;
                }
            }
        }
        Ok((found, missing, failed))
    }

    #[pyo3(signature = (key, /))]
    fn peek<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.engine().peek(crate::errors::key(key)?) {
            Lookup::Hit(value) => self.take_object(py, value).map(Some),
            Lookup::Absent | Lookup::Miss => Ok(None),
        }
    }

    #[pyo3(signature = (key, /))]
    fn find<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>) -> PyResult<Option<Found<'py>>> {
        let found = self.engine().find(crate::errors::key(key)?);
        Ok(found.map(|(value, version, remaining, kind)| {
            let bytes = value.as_ref().map(|value| value.bytes(py));
            value.into_iter().for_each(|value| value.release(py));
            (bytes, version, remaining.map(seconds), kind as u8)
        }))
    }

    #[pyo3(signature = (key, /))]
    fn known(&self, key: &Bound<'_, PyAny>) -> PyResult<u128> {
        Ok(self.engine().known(crate::errors::key(key)?))
    }

    #[pyo3(signature = (key, size, /))]
    fn fits(&self, key: &Bound<'_, PyAny>, size: usize) -> PyResult<bool> {
        Ok(self.engine().fits(crate::errors::key(key)?, size))
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
        let key = crate::errors::key(key)?;
        let (ttl, kind) = (ttl.map(nanoseconds).transpose()?, self::kind(kind)?);
        let value = value.map(|bytes| self.value(bytes));
        Ok(self.change(py, |engine, gone| {
            engine.put(key, value, version, ttl, kind, foreign, gone)
        }))
    }

    fn write(
        &self,
        py: Python<'_>,
        key: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyBytes>>,
        version: u128,
        ttl: Option<f64>,
    ) -> PyResult<bool> {
        let key = crate::errors::key(key)?;
        let ttl = ttl.map(nanoseconds).transpose()?;
        let value = value.map(|bytes| self.value(bytes));
        Ok(self.change(py, |engine, gone| engine.write(key, value, version, ttl, gone)))
    }

    fn note(&self, py: Python<'_>, key: &Bound<'_, PyAny>, version: u128) -> PyResult<u128> {
        let key = crate::errors::key(key)?;
        Ok(self.change(py, |engine, gone| engine.note(key, version, gone)))
    }

    #[pyo3(signature = (key, /))]
    fn drop(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<()> {
        let key = crate::errors::key(key)?;
        self.change(py, |engine, gone| engine.drop_entry(key, gone));
        Ok(())
    }

    fn clear(&self, py: Python<'_>, version: u128) -> u128 {
        self.change(py, |engine, gone| engine.clear(version, gone))
    }

    fn recent(&self) -> Vec<(String, u128)> {
        self.engine().recent()
    }

    fn place(&self, py: Python<'_>, placement: Option<&Placement>, me: u32) {
        let table = placement.map(|placement| placement.table.clone());
        let engine = self.cell.share();
        let owned = |key: &str| table.as_ref().is_none_or(|table| u32::from(table.owner(key)) == me);
        py.detach(|| engine.place(&owned));
    }

    fn sweep<'py>(&self, py: Python<'py>) -> PyResult<Vec<Told<'py>>> {
        let mut gone = Gone::default();
        let engine = self.cell.share();
        let evicted = py.detach(|| engine.sweep(&mut gone));
        release(py, gone);
        drain(py);
        evicted
            .into_iter()
            .map(|entry| {
                let value = entry.value.map(|value| self.take_object(py, value)).transpose()?;
                let reason = match entry.reason {
                    Reason::Capacity => "capacity",
                    Reason::Expired => "expired",
                };
                Ok((entry.key.as_str().to_owned(), value, reason))
            })
            .collect()
    }

    #[pyo3(signature = (outcome, n = 1, /))]
    fn count(&self, outcome: usize, n: u64) -> PyResult<()> {
        if self.engine().count(outcome, n) {
            return Ok(());
        }
        Err(PyValueError::new_err("outcome must be a position in OUTCOMES"))
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.engine().stats();
        let dict = PyDict::new(py);
        for (name, n) in OUTCOMES.iter().zip(stats.outcomes) {
            dict.set_item(PyString::intern(py, name), n)?;
        }
        dict.set_item("evictions", stats.evictions)?;
        dict.set_item("expirations", stats.expirations)?;
        dict.set_item("entries", stats.entries)?;
        dict.set_item("bytes", stats.bytes)?;
        dict.set_item("near_bytes", stats.near_bytes)?;
        dict.set_item("max_bytes", self.engine().options().max_bytes)?;
        Ok(dict)
    }

    fn empty(&self, py: Python<'_>) {
        self.change(py, |engine, gone| engine.empty(false, gone));
    }

    fn close(&self, py: Python<'_>) {
        self.set_remote(None);
        self.change(py, |engine, gone| engine.empty(true, gone));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for object in [&self.on_miss, &self.decode] {
            if let Ok(object) = object.try_lock() {
                visit.call(&*object)?;
            }
        }
        if let Ok(remote) = self.remote.try_lock() {
            visit.call(&*remote)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let objects = [&self.on_miss, &self.decode].map(|object| locked(object).take());
        let remote = locked(&self.remote).take();
        drop((objects, remote));
    }
}
