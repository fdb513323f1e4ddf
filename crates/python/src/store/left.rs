//! The entries that were evicted or have expired, for `on_evict`.
use kamacache_engine::store::{Evicted, Reason};
use pyo3::prelude::*;

use super::Store;
use crate::value::Value;

/// A key, its value as a get returns it, and why it left.
pub type Left<'py> = (String, Option<Bound<'py, PyAny>>, &'static str);

impl Store {
    /// Drops what has expired and what a clear swapped out, and returns entries that have left: all, or a few.
    pub fn swept<'py>(&self, py: Python<'py>, since: u64, few: bool) -> PyResult<Vec<Left<'py>>> {
        let engine = self.cell.share();
        self.change(py, |_, gone| py.detach(|| engine.expire_all(since, gone)));
        while self.change(py, |_, gone| py.detach(|| engine.drop_cleared(gone))) {}
        let mut left = self.few(py)?;
        loop {
            let more = if few { Vec::new() } else { self.few(py)? };
            if more.is_empty() {
                return Ok(left);
            }
            left.extend(more);
        }
    }

    /// Returns a few of the entries that have left.
    pub fn few<'py>(&self, py: Python<'py>) -> PyResult<Vec<Left<'py>>> {
        self.engine().evicted().into_iter().map(|entry| self.left(py, entry)).collect()
    }

    fn left<'py>(&self, py: Python<'py>, entry: Evicted<Value>) -> PyResult<Left<'py>> {
        let value = entry.value.map(|value| self.take_object(py, value)).transpose()?;
        let reason = match entry.reason {
            Reason::Capacity => "capacity",
            Reason::Expired => "expired",
        };
        Ok((entry.key.as_str().to_owned(), value, reason))
    }

    /// Returns the object of a handle that the caller owns, and releases it.
    fn take_object<'py>(&self, py: Python<'py>, value: Value) -> PyResult<Bound<'py, PyAny>> {
        let object = self.object(py, &value);
        value.release(py);
        object
    }
}
