//! Decoded objects that are kept beside their bytes, as all callers may share them.
use kamacache_engine::memory;
use pyo3::{exceptions::PyException, prelude::*};

use super::Store;
use crate::{size, value::Value};

impl Store {
    /// Returns the object that a get returns for a value in memory. One that all callers may share is kept, and counts in
    /// the budget.
    pub(super) fn shared<'py>(&self, py: Python<'py>, key: &str, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        let object = self.object(py, value)?;
        if value.ready().is_some() {
            return Ok(object);
        }
        if object.is_none() {
            value.keep_decoded(&object, 0);
        // Unpacked, it would take the memory that packing has saved.
        } else if self.shareable && !value.refuses_decoded() && !self.is_packed(memory::Value::bytes(value)) {
            let bytes = match size::deep(&object, &value.bytes(py)) {
                Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
                size => size.unwrap_or(memory::Value::bytes(value).len()), // its class may say anything
            };
            let keep = |held: &Value, fits| {
                if fits {
                    held.keep_decoded(&object, bytes);
                } else {
                    held.refuse_decoded();
                }
            };
            self.change(py, |engine, gone| engine.grow(key, |held| held.is(value), bytes, keep, gone));
        }
        // Another thread may have decoded it meanwhile.
        if value.ready().is_some() { self.object(py, value) } else { Ok(object) }
    }
}
