//! A value as the engine keeps it: a Python bytes object, shared with threads that never hold the GIL. What such a
//! thread received is kept as it came until the first hit.
//!
//! Reference counts are touched by threads attached to the interpreter alone. A handle that dies elsewhere leaves its
//! objects in the graveyard, for the next attached thread to drop.
use std::{
    ptr::{self, NonNull},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use kamacache_engine::{memory, store::Gone};
use pyo3::{prelude::*, types::PyBytes};

use crate::{stack::Stack, trim};

/// The cost of an entry beyond key and value, measured at half a million entries: the bytes object, the handle, the slab,
/// the table and the policy, and what growing leaves unused.
pub const OVERHEAD: u64 = 290;

/// A handle to a value. Cloning touches no Python object.
#[derive(Clone)]
pub struct Value {
    /// The object that a get returns, if that is known from the start. Having it beside the handle saves a cache miss.
    ready: Option<NonNull<pyo3::ffi::PyObject>>,
    shared: Arc<Shared>,
}

/// The size of an object that is too large to be kept.
const UNKEPT: usize = usize::MAX;

struct Shared {
    /// None if it was received without Python, or was released.
    bytes: Option<Py<PyBytes>>,
    /// The bytes that were received.
    _raw: Option<Box<Bytes>>,
    decoded: OnceLock<Py<PyAny>>,
    /// How much memory the decoded object takes, or [`UNKEPT`].
    extra: AtomicUsize,
    data: NonNull<u8>,
    len: usize,
}

// SAFETY: `ready` and `data` point into the immutable bytes, Python's or received, that `shared` keeps alive; nothing
// here changes a reference count without being attached (see Drop).
unsafe impl Send for Value {}
// SAFETY: as above; `decoded` is a OnceLock.
unsafe impl Sync for Value {}
// SAFETY: as for Value.
unsafe impl Send for Shared {}
// SAFETY: as for Value.
unsafe impl Sync for Shared {}

impl Value {
    /// Makes a handle. With `ready`, a get returns the bytes themselves.
    pub fn new(bytes: &Bound<'_, PyBytes>, ready: bool) -> Self {
        let data = bytes.as_bytes();
        let shared = Shared {
            bytes: Some(bytes.clone().unbind()),
            _raw: None,
            decoded: OnceLock::new(),
            extra: AtomicUsize::new(0),
            data: NonNull::from(data).cast(),
            len: data.len(),
        };
        let ready = NonNull::new(bytes.as_ptr()).filter(|_| ready);
        Self { ready, shared: Arc::new(shared) }
    }

    /// Returns the object that a get returns without running any code, if there is one: borrowed, alive as long as the
    /// handle.
    #[inline]
    pub fn ready(&self) -> Option<NonNull<pyo3::ffi::PyObject>> {
        self.ready.or_else(|| self.shared.decoded.get().and_then(|object| NonNull::new(object.as_ptr())))
    }

    pub fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match &self.shared.bytes {
            Some(bytes) => bytes.bind(py).clone(),
            None => PyBytes::new(py, memory::Value::bytes(self)),
        }
    }

    /// Returns whether it was received without Python, so that each hit makes a bytes object.
    pub fn is_received(&self) -> bool {
        self.shared.bytes.is_none()
    }

    /// Returns whether both are handles to one value.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Keeps the decoded object, which takes so many bytes, for later gets, unless there is one. The caller has the lock of
    /// the entry's shard, or they are 0.
    pub fn keep_decoded(&self, object: &Bound<'_, PyAny>, bytes: usize) {
        if self.shared.decoded.set(object.clone().unbind()).is_ok() {
            self.shared.extra.store(bytes, Relaxed);
        }
    }

    /// Takes note that the decoded object is too large to be kept, so that it is not measured again. The caller has that
    /// lock.
    pub fn refuse_decoded(&self) {
        if self.shared.decoded.get().is_none() {
            self.shared.extra.store(UNKEPT, Relaxed);
        }
    }

    pub fn refuses_decoded(&self) -> bool {
        self.shared.extra.load(Relaxed) == UNKEPT
    }

    /// Drops the handle while attached. Objects whose last handle it was are dropped at once.
    pub fn release(self, py: Python<'_>) {
        if let Some(mut shared) = Arc::into_inner(self.shared) {
            let objects = (shared.bytes.take(), shared.decoded.take());
            if let Some(bytes) = objects.0 {
                bytes.drop_ref(py);
            }
            if let Some(decoded) = objects.1 {
                decoded.drop_ref(py);
            }
        }
    }
}

impl memory::Value for Value {
    fn received(bytes: Bytes) -> Self {
        let (data, len) = (NonNull::from(&*bytes).cast(), bytes.len());
        let (decoded, extra) = (OnceLock::new(), AtomicUsize::new(0));
        let shared = Shared { bytes: None, _raw: Some(Box::new(bytes)), decoded, extra, data, len };
        Self { ready: None, shared: Arc::new(shared) }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        // SAFETY: `data` and `len` describe a buffer that never changes, and whose owner `shared` owns.
        unsafe { std::slice::from_raw_parts(self.shared.data.as_ptr(), self.shared.len) }
    }

    fn size(&self) -> usize {
        self.shared.size()
    }

    fn hint(&self) -> usize {
        self.ready.map_or(0, |object| object.as_ptr() as usize)
    }

    #[inline(always)]
    fn prefetch(hint: usize) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and faults at no address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(hint as *const i8);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = hint;
    }
}

impl Shared {
    fn size(&self) -> usize {
        match self.extra.load(Relaxed) {
            UNKEPT => self.len,
            extra => self.len + extra,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        trim::died(self.size() + OVERHEAD as usize);
        // This thread may not be attached.
        for object in [self.bytes.take().map(Py::into_any), self.decoded.take()].into_iter().flatten() {
            GRAVEYARD.push(object);
        }
    }
}

/// Objects to drop.
static GRAVEYARD: Stack<Py<PyAny>> = Stack(AtomicPtr::new(ptr::null_mut()));

/// Drops the objects that died on threads that were not attached.
pub fn drain(py: Python<'_>) {
    GRAVEYARD.take(|object| object.drop_ref(py));
}

/// Drops values in batches, and lets other threads have the interpreter in between.
pub fn release(py: Python<'_>, gone: Gone<Value>) {
    for (index, value) in gone.0.into_iter().enumerate() {
        value.release(py);
        if index % 1_000 == 999 {
            py.detach(|| ());
        }
    }
    if trim::is_due() {
        py.detach(trim::trim);
    }
}
