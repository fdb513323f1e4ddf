//! Counted handles to what a value consists of.
//!
//! A handle is where its bytes are, as the two leave together: those of small values are in the interpreter's memory, which
//! has pools for each size, and those of large ones in the system's. In the system's memory a handle of a small value that
//! makes room for large ones would take the place of one of their handles, between two holes, and keep the page of them.
//! In the interpreter's a handle of a large value would keep an arena from which all small ones have gone.
//!
//! Reference counts of Python's objects, and its memory, are touched by threads attached to the interpreter alone.
//! A handle that dies elsewhere waits in the graveyard for the next attached thread.
use std::{
    alloc::{Layout, handle_alloc_error},
    mem::ManuallyDrop,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{
        OnceLock,
        atomic::{
            AtomicPtr, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
};

use bytes::Bytes;
use pyo3::{ffi, prelude::*, types::PyBytes};

use crate::{stack::Stack, trim};

/// The cost of an entry beyond key and value, measured in a full store of 760,000: the bytes object, the handle, the
/// slab, the table and the policy with the hashes of those that left, and what growing leaves unused.
pub const OVERHEAD: u64 = 300;

/// The memory that received bytes take beyond those of the interpreter: a box, and the system's memory instead of pools.
const RECEIVED: usize = 48;

/// The owner of the bytes.
pub enum Source {
    Python(Py<PyBytes>),
    /// They were received without the interpreter.
    Received(Box<Bytes>),
}

/// Invariant: it is in the interpreter's memory if `is_small`, else in a box.
pub struct Shared {
    handles: AtomicUsize,
    pub source: Source,
    pub decoded: OnceLock<Py<PyAny>>,
    /// The size of the decoded object, or [`UNKEPT`].
    pub extra: AtomicUsize,
    data: NonNull<u8>,
    len: usize,
}

/// The most bytes of a small value: the interpreter has pools for objects of up to 512 bytes, and takes 33.
const SMALL: usize = 512 - 33;

/// The size of an object that is too large to be kept.
pub const UNKEPT: usize = usize::MAX;

/// A handle. Cloning touches no Python object.
pub struct Handle(NonNull<Shared>);

/// A value whose last handle has gone: this is its owner.
struct Dead(NonNull<Shared>);

// SAFETY: `data` points into immutable bytes that `source` keeps alive, the rest is atomic or a OnceLock, and nothing
// here changes a reference count without being attached (see Drop).
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}
// SAFETY: as above; it has one owner.
unsafe impl Send for Dead {}

const _: () = assert!(align_of::<Shared>() <= 8, "the interpreter aligns no more on every platform");

impl Shared {
    fn new(source: Source, data: NonNull<u8>, len: usize) -> Self {
        let (handles, extra) = (AtomicUsize::new(1), AtomicUsize::new(0));
        Self { handles, source, decoded: OnceLock::new(), extra, data, len }
    }

    fn is_small(&self) -> bool {
        matches!(self.source, Source::Python(_)) && self.len <= SMALL
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `data` and `len` describe a buffer that never changes, and whose owner `source` owns.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }

    pub fn size(&self) -> usize {
        let own = if matches!(self.source, Source::Received(_)) { self.len + RECEIVED } else { self.len };
        match self.extra.load(Relaxed) {
            UNKEPT => own,
            extra => own + extra,
        }
    }
}

impl Handle {
    pub fn new(bytes: &Bound<'_, PyBytes>) -> Self {
        let data = bytes.as_bytes();
        let shared = Shared::new(Source::Python(bytes.clone().unbind()), NonNull::from(data).cast(), data.len());
        if !shared.is_small() {
            return Self::boxed(shared);
        }
        // SAFETY: the thread is attached, as `bytes` shows.
        let memory = unsafe { ffi::PyMem_Malloc(size_of::<Shared>()) }.cast::<Shared>();
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(Layout::new::<Shared>()) };
        // SAFETY: it is ours, large enough, and aligned to 8 bytes.
        unsafe { memory.write(shared) };
        Self(memory)
    }

    pub fn received(bytes: Bytes) -> Self {
        let (data, len) = (NonNull::from(&*bytes).cast(), bytes.len());
        Self::boxed(Shared::new(Source::Received(Box::new(bytes)), data, len))
    }

    fn boxed(shared: Shared) -> Self {
        Self(NonNull::from(Box::leak(Box::new(shared))))
    }

    /// Returns whether both are handles to one value.
    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Drops the handle while attached. Objects whose last handle it was are dropped at once.
    pub fn release(self, py: Python<'_>) {
        if let Some(dead) = ManuallyDrop::new(self).leave() {
            dead.bury(py);
        }
    }

    /// Gives the handle up, which the caller uses no more.
    fn leave(&self) -> Option<Dead> {
        // The orderings are those of Arc: the burial comes after all uses of other handles.
        if self.handles.fetch_sub(1, Release) != 1 {
            return None;
        }
        fence(Acquire);
        trim::died(self.size() + OVERHEAD as usize);
        Some(Dead(self.0))
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        self.handles.fetch_add(1, Relaxed);
        Self(self.0)
    }
}

impl Deref for Handle {
    type Target = Shared;

    #[inline]
    fn deref(&self) -> &Shared {
        // SAFETY: it is alive as long as there is a handle, and never borrowed mutably.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // This thread may not be attached.
        if let Some(dead) = self.leave() {
            if let Err(dead) = dead.received() {
                GRAVEYARD.push(dead);
            }
        }
    }
}

impl Dead {
    /// Returns what has nothing of Python's.
    fn received(self) -> Result<Box<Shared>, Self> {
        // SAFETY: it is alive, and this is its owner.
        let shared = unsafe { self.0.as_ref() };
        match shared.source {
            // SAFETY: as it is not small, it was boxed, and this is its owner.
            Source::Received(_) if shared.decoded.get().is_none() => Ok(unsafe { Box::from_raw(self.0.as_ptr()) }),
            _ => Err(self),
        }
    }

    fn bury(self, py: Python<'_>) {
        let memory = self.0.as_ptr();
        // SAFETY: it is alive, and this is its owner: what is read here is not read or dropped there again.
        let shared = unsafe { memory.read() };
        // The memory first, as the end of an object may run any code.
        if shared.is_small() {
            // SAFETY: it is from PyMem_Malloc, and the thread is attached.
            unsafe { ffi::PyMem_Free(memory.cast()) };
        } else {
            // SAFETY: it was boxed.
            drop(unsafe { Box::from_raw(memory.cast::<ManuallyDrop<Shared>>()) });
        }
        let Shared { source, decoded, .. } = shared;
        if let Source::Python(bytes) = source {
            bytes.drop_ref(py);
        }
        if let Some(decoded) = decoded.into_inner() {
            decoded.drop_ref(py);
        }
    }
}

static GRAVEYARD: Stack<Dead> = Stack(AtomicPtr::new(ptr::null_mut()));

/// Drops what died on threads that were not attached.
pub fn drain(py: Python<'_>) {
    GRAVEYARD.take(|dead| dead.bury(py));
}
