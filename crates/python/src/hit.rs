//! `get`, `lookup` and `get_or_load`, written by hand: PyO3's trampoline costs more than the hit itself.
//!
//! The interpreter is attached when these run, but PyO3 does not know it: on the way of a hit nothing but a reference
//! count may be touched, every other way attaches first.
use std::{
    ffi::{CStr, c_int},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
};

use kamacache_engine::{
    call::KEY,
    store::{Kind, Lookup},
};
use pyo3::{
    PyClass,
    exceptions::{PySystemError, PyTypeError},
    ffi::{self, PyObject},
    intern,
    prelude::*,
    pyclass::boolean_struct::True,
    sync::PyOnceLock,
    types::{PyTuple, PyType},
};

use crate::{errors, guarded, store::Store, value::Value};

static MISSING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The text signature and the documentation of Group.get.
pub const GET: &CStr = c"get($self, key, /)
--

Return the value for `key`, loading it on a miss; None if the source has none.

A value in the memory of this process is returned at once. Otherwise the owner of the key is asked: it answers from its
memory or loads the value. The loader runs here if this node is the owner, or if no other candidate for the key answers.
Callers that ask for the key meanwhile share that one load. This blocks the thread; under asyncio use aget.

Raises:
    InvalidKey: `key` is not a str of 1 to 65,536 bytes in UTF-8.
    LoadError: The loader raised.
    LoadTimeout: The load took longer than `load_timeout`.
    LoadCycle: The loader waits, through other loads, for itself.
    Overloaded: Too many loads wait.
    GroupClosed: The group is closed.
    NodeClosed: The node is closed.

";

/// The same for Group.get_or_load.
const GET_OR_LOAD: &CStr = c"get_or_load($self, key, load, /)
--

Return the value for `key`. On a miss, call `load(key)` on this thread, in its context, and keep the result.

Meanwhile every other caller in the cluster that asks for the key waits for that result. The owner of the key
gives a lease to one caller at a time. If its process ends or freezes, or load_timeout is over, the next caller
that brings a function gets the lease. The value is kept as of the beginning of the lease: a later set, delete
or clear wins. The ttl and the codec are those of this node's group, which needs no loader; the rules for old
values are those of the owner. If the owner cannot be reached, the next candidate gives the lease; after a
second in vain the function runs without one.

`load` may return None for a key that the source does not have, or Value(value, ttl=...). If it raises, this
caller gets LoadError with the exception as its cause, those who wait get LoadError with its type and text, and
the next call loads again.

After Gray and Cheriton, \"Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency\"
(SOSP 1989), and Nishtala et al., \"Scaling Memcache at Facebook\" (NSDI 2013).

Args:
    key: The key.
    load: A plain function, called with the key.

Raises:
    LoadError: The function failed, here or at the caller that was waited for.
    LoadTimeout: It took longer than load_timeout there.
    TypeError: `load` is async, as the call of a miss shows: use aget_or_load.

";

/// Returns the object that stands for a value that is not in memory.
pub fn missing(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    MISSING.get_or_try_init(py, || Ok(py.import("builtins")?.getattr("object")?.call0()?.unbind()))
}

/// A class whose instances read a store.
pub trait Reader: PyClass<Frozen = True> + Sync {
    /// Looks a key up in memory, for an attached thread that stays attached meanwhile.
    ///
    /// # Safety
    /// The thread is attached.
    unsafe fn lookup(&self, key: &str) -> Lookup<Taken>;
    /// Runs what continues with the store: on a miss, or for a value that a codec reads.
    fn with_store<T>(&self, py: Python<'_>, run: impl FnOnce(&Store) -> T) -> T;
}

/// Puts `get` on a class, which is R or a subclass of it.
pub fn add_get<R: Reader>(class: &Bound<'_, PyType>, doc: &'static CStr) -> PyResult<()> {
    add_method(class, c"get", doc, ffi::METH_O, ffi::PyMethodDefPointer { PyCFunction: get::<R> })
}

/// Puts the same without on_miss on a class, under a name that `doc` repeats.
pub fn add_lookup<R: Reader>(class: &Bound<'_, PyType>, name: &'static CStr, doc: &'static CStr) -> PyResult<()> {
    add_method(class, name, doc, ffi::METH_O, ffi::PyMethodDefPointer { PyCFunction: lookup::<R> })
}

/// Puts `get_or_load` on a class, whose method `_or_load` continues on a miss.
pub fn add_get_or_load<R: Reader>(class: &Bound<'_, PyType>) -> PyResult<()> {
    let method = ffi::PyMethodDefPointer { PyCFunctionFast: get_or_load::<R> };
    add_method(class, c"get_or_load", GET_OR_LOAD, ffi::METH_FASTCALL, method)
}

fn add_method(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    doc: &'static CStr,
    flags: c_int,
    method: ffi::PyMethodDefPointer,
) -> PyResult<()> {
    // Leaked: the descriptor refers to it for as long as the type lives, which is forever.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: method,
        ml_flags: flags,
        ml_doc: doc.as_ptr(),
    }));
    // SAFETY: the class is a type object, the definition lives forever; null means an exception is set.
    let descriptor =
        unsafe { Bound::from_owned_ptr_or_err(class.py(), ffi::PyDescr_NewMethod(class.as_type_ptr(), definition))? };
    class.setattr(name.to_str().expect("written above in ASCII"), descriptor)
}

unsafe extern "C" fn get<R: Reader>(this: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
    // SAFETY: called by a method descriptor of R or a subclass with METH_O.
    unsafe { answer::<R>(this, key, |py, store, key| store.miss(py, key)) }
}

unsafe extern "C" fn lookup<R: Reader>(this: *mut PyObject, key: *mut PyObject) -> *mut PyObject {
    let miss = |py: Python<'_>, store: &Store, key: &Bound<'_, PyAny>| {
        store.expire(py, key)?;
        Ok(missing(py)?.clone_ref(py))
    };
    // SAFETY: called by a method descriptor of R or a subclass with METH_O.
    unsafe { answer::<R>(this, key, miss) }
}

unsafe extern "C" fn get_or_load<R: Reader>(
    this: *mut PyObject,
    arguments: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    if count != 2 {
        attached(|py| PyTypeError::new_err("get_or_load takes a key and a function").restore(py));
        return ptr::null_mut();
    }
    // SAFETY: METH_FASTCALL gives an array of as many objects, borrowed for the call.
    let (key, load) = unsafe { (*arguments, *arguments.add(1)) };
    let miss = |py: Python<'_>, store: &Store, key: &Bound<'_, PyAny>| {
        store.expire(py, key)?;
        // SAFETY: attached, and both are borrowed for the call that we are in.
        let (this, load) = unsafe { (Bound::from_borrowed_ptr(py, this), Bound::from_borrowed_ptr(py, load)) };
        guarded::call(&this.getattr(intern!(py, "_or_load"))?, &PyTuple::new(py, [key, &load])?)
    };
    // SAFETY: called by a method descriptor of R or a subclass with METH_FASTCALL; the key is borrowed for the call.
    unsafe { answer::<R>(this, key, miss) }
}

/// # Safety
/// The thread is attached, `this` is an R and `key` an object, both borrowed for the call: what a method descriptor
/// of R or of a subclass grants.
#[inline(always)]
unsafe fn answer<R: Reader>(
    this: *mut PyObject,
    key: *mut PyObject,
    miss: impl FnOnce(Python<'_>, &Store, &Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
) -> *mut PyObject {
    catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as this function demands. Bound is not dropped, so its reference count is left alone.
        let this = unsafe {
            let py = Python::assume_attached();
            let this = std::mem::ManuallyDrop::new(Bound::from_owned_ptr(py, this));
            &*ptr::from_ref(this.cast_unchecked::<R>().get())
        };
        // SAFETY: as this function demands; the text is borrowed from `key`, alive for the call.
        let Some(text) = (unsafe { utf8(key) }) else {
            return otherwise(key, |key| match errors::key(key) {
                Err(error) => Err(error),
                Ok(_) => Err(PySystemError::new_err("a key that is none and is one")),
            });
        };
        // SAFETY: attached, as this function demands.
        match unsafe { this.lookup(text) } {
            Lookup::Hit(Taken::Object(object)) => object.as_ptr(),
            Lookup::Hit(Taken::Handle(value, kind)) => {
                let read = |key: &Bound<'_, PyAny>, store: &Store| match store.hit(key.py(), text, value, kind)? {
                    Some(object) => Ok(object.unbind()),
                    None => miss(key.py(), store, key),
                };
                otherwise(key, |key| this.with_store(key.py(), |store| read(key, store)))
            }
            Lookup::Absent => {
                // SAFETY: attached; None lives forever.
                unsafe {
                    let none = ffi::Py_None();
                    ffi::Py_INCREF(none);
                    none
                }
            }
            Lookup::Miss | Lookup::Past => {
                otherwise(key, |key| this.with_store(key.py(), |store| miss(key.py(), store, key)))
            }
        }
    }))
    .unwrap_or_else(|_| {
        attached(|py| PySystemError::new_err("the engine panicked").restore(py));
        ptr::null_mut()
    })
}

/// The object with a new reference, or a handle if a codec has to run.
pub enum Taken {
    Object(NonNull<PyObject>),
    Handle(Value, Kind),
}

/// Takes what a hit returns. Runs under the shard's lock, on an attached thread.
#[inline(always)]
pub fn take(value: &Value, kind: Kind) -> Taken {
    match value.ready() {
        Some(object) => {
            // SAFETY: attached, and `value` keeps the object alive while the lock is held.
            unsafe { ffi::Py_INCREF(object.as_ptr()) };
            Taken::Object(object)
        }
        None => Taken::Handle(value.clone(), kind),
    }
}

/// Returns the key's UTF-8, or None for a bad key: `errors::key` says what is wrong with it.
#[inline(always)]
pub fn exact<'a>(key: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    // SAFETY: attached, and the text is borrowed from `key`.
    unsafe { utf8(key.as_ptr()) }
}

/// Returns the key's UTF-8, borrowed, or None for a bad key.
///
/// # Safety
/// The thread is attached and `key` is an object that outlives the text.
#[inline(always)]
unsafe fn utf8<'a>(key: *mut PyObject) -> Option<&'a str> {
    // SAFETY: as this function demands; what the interpreter gives is UTF-8 of that length, cached in the str.
    unsafe {
        if ffi::Py_TYPE(key) != &raw mut ffi::PyUnicode_Type && ffi::PyUnicode_Check(key) == 0 {
            return None;
        }
        let mut len = 0;
        let data = ffi::PyUnicode_AsUTF8AndSize(key, &mut len);
        if data.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        if !(1..=KEY as isize).contains(&len) {
            return None;
        }
        Some(std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast(), len as usize)))
    }
}

/// Runs what needs PyO3 on this thread, which is attached: a native method runs here.
fn attached<T>(run: impl FnOnce(Python<'_>) -> T) -> T {
    let mut run = Some(run);
    let ran = Python::try_attach(|py| run.take().map(|run| run(py))).flatten();
    ran.or_else(|| {
        // The interpreter ends, and this is a finalizer of Python's. PyO3 attaches no thread any more; what it drops in here
        // is left to the end of the process.
        // SAFETY: attached, as this function is only called by methods.
        run.take().map(|run| run(unsafe { Python::assume_attached() }))
    })
    .expect("one of the two runs it")
}

/// Attaches, runs everything but a hit, and returns the object, or null with the exception set.
#[cold]
fn otherwise(key: *mut PyObject, run: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>) -> *mut PyObject {
    attached(|py| {
        // SAFETY: the key is borrowed for the call that we are in.
        let key = unsafe { Bound::from_borrowed_ptr(py, key) };
        match run(&key) {
            Ok(object) => object.into_ptr(),
            Err(error) => {
                error.restore(py);
                ptr::null_mut()
            }
        }
    })
}
