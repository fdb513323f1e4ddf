//! The values of a store as handles, and changes that remove some.
use std::sync::Arc;

use kamacache_engine::{
    marked,
    memory::{self, Memory},
    store::{Fill, Gone},
};
use pyo3::{prelude::*, types::PyBytes};

use super::Store;
use crate::{
    cell::{Cell, Engine},
    handle::drain,
    value::{Value, release},
};

impl Store {
    #[inline]
    pub fn engine(&self) -> &Engine {
        self.cell.get()
    }

    pub fn cell(&self) -> Arc<Cell> {
        self.cell.clone()
    }

    /// Returns what a transport serves. A forked child must ask again.
    pub fn memory(&self) -> Arc<dyn Memory> {
        self.cell.share()
    }

    pub fn value(&self, bytes: &Bound<'_, PyBytes>) -> Value {
        Value::new(bytes, self.is_object(bytes.as_bytes()))
    }

    /// Returns whether a get returns these bytes as they are.
    pub fn is_object(&self, bytes: &[u8]) -> bool {
        !marked::is(bytes) && (!self.decodes || (self.plain && !self.is_packed(bytes)))
    }

    pub fn is_packed(&self, bytes: &[u8]) -> bool {
        self.engine().options().packs && marked::untagged(bytes).starts_with(memory::PACKED)
    }

    pub(super) fn put_value(
        &self,
        py: Python<'_>,
        key: &str,
        value: Option<&Bound<'_, PyBytes>>,
        fill: Fill,
    ) -> PyResult<bool> {
        let value = value.map(|bytes| self.value(bytes));
        Ok(self.change(py, |engine, gone| engine.put(key, value, fill, gone)))
    }

    pub(super) fn write_value(
        &self,
        py: Python<'_>,
        key: &str,
        value: Option<&Bound<'_, PyBytes>>,
        version: u128,
        ttl: Option<u64>,
    ) -> PyResult<bool> {
        let value = value.map(|bytes| self.value(bytes));
        Ok(self.change(py, |engine, gone| engine.write(key, value, version, ttl, gone)))
    }

    /// Drops the entry of a key if it has these bytes. Returns whether it did.
    pub fn drop_bytes(&self, py: Python<'_>, key: &str, bytes: &[u8]) -> bool {
        self.change(py, |engine, gone| engine.discard(key, |held| memory::Value::bytes(held) == bytes, gone))
    }

    /// Runs a change, then releases the values that it removed.
    pub fn change<R>(&self, py: Python<'_>, change: impl FnOnce(&Engine, &mut Gone<Value>) -> R) -> R {
        let mut gone = Gone::default();
        let result = change(self.engine(), &mut gone);
        release(py, gone);
        drain(py);
        result
    }

    /// Does the same for a change that may take long, while other threads run.
    pub fn change_detached<R: Send>(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&Engine, &mut Gone<Value>) -> R + Send,
    ) -> R {
        let engine = self.cell.share();
        let (result, mut gone) = py.detach(|| {
            let mut gone = Gone::default();
            (change(&engine, &mut gone), gone)
        });
        while gone.0.len() > RELEASED {
            release(py, Gone(gone.0.split_off(gone.0.len() - RELEASED)));
            py.detach(|| {}); // a thread that waits comes before the rest
        }
        release(py, gone);
        drain(py);
        result
    }
}

/// So many values are released while other threads wait: it takes about a millisecond.
const RELEASED: usize = 16_384;

/// Returns the object of a value that says of itself that it is None or an integer.
pub(super) fn marked_object<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Option<Bound<'py, PyAny>>> {
    if marked::untagged(bytes) == marked::NONE {
        return Ok(Some(py.None().into_bound(py)));
    }
    let number = marked::integer(bytes).map(|number| number.into_pyobject(py)).transpose()?;
    Ok(number.map(Bound::into_any))
}
