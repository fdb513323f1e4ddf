//! The base of Group, with a native `get`.
use std::sync::{
    Arc,
    atomic::{AtomicPtr, Ordering},
};

use kamacache_engine::store::Lookup;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyGenericAlias, PyType},
};

use crate::{
    cell::Cell,
    hit::{self, Reader, Taken, take},
    store::{Held, Store},
};

/// The reading half of a store. The interpreter calls a native method directly only on instances of the very class that
/// has it, so each subclass gets its own.
///
/// A new life of its node binds it to another store. Only attached threads read and replace the pointer.
#[pyclass(frozen, subclass, module = "kamacache._engine")]
pub struct Getter {
    /// The store's own: a hit need not pass through the object. One count of it is this object's.
    cell: AtomicPtr<Cell>,
    store: Held<Store>,
    replaced: Replaced,
}

/// The stores that a getter was bound to before. With the interpreter's lock no other thread is attached when one is
/// replaced, so it goes at once. Without the lock a thread may be inside `lookup`, so it goes with the getter: a few
/// kilobytes, as a closed store is empty.
#[derive(Default)]
struct Replaced {
    #[cfg(Py_GIL_DISABLED)]
    cells: std::sync::Mutex<Vec<Arc<Cell>>>,
}

impl Replaced {
    fn take(&self, cell: Arc<Cell>) {
        #[cfg(Py_GIL_DISABLED)]
        self.cells.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(cell);
        #[cfg(not(Py_GIL_DISABLED))]
        drop(cell);
    }
}

impl Reader for Getter {
    #[inline]
    unsafe fn lookup(&self, key: &str) -> Lookup<Taken> {
        // SAFETY: the pointer comes from Arc::into_raw. Attached, as the caller grants, and until the lookup is over: so
        // the cell is alive, as `replaced` has it.
        unsafe { &*self.cell.load(Ordering::Acquire) }.get().lookup(key, take)
    }

    fn with_store<T>(&self, py: Python<'_>, run: impl FnOnce(&Store) -> T) -> T {
        let store = self.store.get(py).expect("it is bound to a store when made");
        run(store.get())
    }
}

impl Drop for Getter {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from Arc::into_raw, and self owns one count of it.
        drop(unsafe { Arc::from_raw(*self.cell.get_mut()) });
    }
}

impl Getter {
    pub fn add_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
        hit::add_get::<Self>(class, hit::GET)?;
        hit::add_get_or_load::<Self>(class)?;
        let doc = c"_lookup($self, key, /)\n--\n\nReturn the value in memory, None if it is known to be absent, else MISSING.";
        hit::add_lookup::<Self>(class, c"_lookup", doc)
    }
}

#[pymethods]
impl Getter {
    #[new]
    #[pyo3(signature = (store, /))]
    fn new(store: Py<Store>) -> Self {
        let cell = AtomicPtr::new(Arc::into_raw(store.get().cell()).cast_mut());
        Self { cell, store: Held::new(Some(store)), replaced: Replaced::default() }
    }

    #[pyo3(signature = (store, /))]
    fn _bind(&self, _py: Python<'_>, store: Py<Store>) {
        let cell = Arc::into_raw(store.get().cell()).cast_mut();
        // SAFETY: the old pointer comes from Arc::into_raw, and its count is ours now.
        self.replaced.take(unsafe { Arc::from_raw(self.cell.swap(cell, Ordering::AcqRel)) });
        self.store.set(Some(store));
    }

    #[classmethod]
    fn __init_subclass__(cls: &Bound<'_, PyType>) -> PyResult<()> {
        let native = cls.py().get_type::<Self>().getattr("get")?.get_type();
        // A `get` that a class wrote in Python stays, also for the classes that inherit it.
        if cls.getattr("get")?.get_type().is(&native) { Self::add_methods(cls) } else { Ok(()) }
    }

    #[classmethod]
    #[pyo3(signature = (item, /))]
    fn __class_getitem__<'py>(
        cls: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(cls.py(), cls, item)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.store.traverse(&visit)
    }
}
