//! The base of Group, with a native `get`.
use std::sync::Arc;

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyGenericAlias, PyType},
};

use crate::{
    cell::{Cell, Engine},
    hit::{self, Reader},
    store::Store,
};

/// The reading half of a store. The interpreter calls a native method directly only on instances of the very class that
/// has it, so each subclass gets its own.
#[pyclass(frozen, subclass, module = "kamacache._engine")]
pub struct Getter {
    /// The store's own: a hit need not pass through the object.
    cell: Arc<Cell>,
    store: Py<Store>,
}

impl Reader for Getter {
    #[inline]
    fn engine(&self) -> &Engine {
        self.cell.get()
    }

    fn store(&self) -> &Store {
        self.store.get()
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
        let cell = store.get().cell();
        Self { cell, store }
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
        visit.call(&self.store)
    }
}
