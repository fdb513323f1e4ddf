//! A value as the engine keeps it: a Python bytes object, shared with threads that never hold the GIL. What such a
//! thread received is kept as it came until the first hit.
use std::{ptr::NonNull, sync::atomic::Ordering::Relaxed};

use bytes::Bytes;
use kamacache_engine::{memory, store::Gone};
use pyo3::{prelude::*, types::PyBytes};

use crate::{
    handle::{Handle, Source, UNKEPT},
    trim,
};

/// A handle to a value. Cloning touches no Python object.
#[derive(Clone)]
pub struct Value {
    /// The object that a get returns, if that is known from the start. Having it beside the handle saves a cache miss.
    ready: Option<NonNull<pyo3::ffi::PyObject>>,
    shared: Handle,
}

// SAFETY: `ready` is the immutable bytes object that `shared` keeps alive, and no reference count is changed by it.
unsafe impl Send for Value {}
// SAFETY: as above.
unsafe impl Sync for Value {}

impl Value {
    /// Makes a handle. With `ready`, a get returns the bytes themselves.
    pub fn new(bytes: &Bound<'_, PyBytes>, ready: bool) -> Self {
        let ready = NonNull::new(bytes.as_ptr()).filter(|_| ready);
        Self { ready, shared: Handle::new(bytes) }
    }

    /// Returns the object that a get returns without running any code, if there is one: borrowed, alive as long as the
    /// handle.
    #[inline]
    pub fn ready(&self) -> Option<NonNull<pyo3::ffi::PyObject>> {
        self.ready.or_else(|| self.shared.decoded.get().and_then(|object| NonNull::new(object.as_ptr())))
    }

    pub fn bytes<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match &self.shared.source {
            Source::Python(bytes) => bytes.bind(py).clone(),
            Source::Received(bytes) => PyBytes::new(py, bytes),
        }
    }

    /// Returns whether it was received without Python, so that each hit makes a bytes object.
    pub fn is_received(&self) -> bool {
        matches!(self.shared.source, Source::Received(_))
    }

    /// Returns whether both are handles to one value.
    pub fn is(&self, other: &Self) -> bool {
        self.shared.is(&other.shared)
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
        self.shared.release(py);
    }
}

impl memory::Value for Value {
    fn received(bytes: Bytes) -> Self {
        Self { ready: None, shared: Handle::received(bytes) }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.shared.bytes()
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
