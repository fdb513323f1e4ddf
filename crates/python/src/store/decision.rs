//! A write on terms, decided in the memory of its owner.
use kamacache_engine::{
    memory::{Decided, Write},
    orders,
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use super::Store;
use crate::{
    errors::{key as text, nanoseconds},
    messages,
    writer::Item,
};

/// A version (0: nothing changed), and the fields of an Outcome.
pub type Decision<'py> = (u128, u8, bool, Option<Bound<'py, PyBytes>>, i64, u128);

/// Decides on an item by its terms.
pub fn decide<'py>(py: Python<'py>, store: &Store, item: &Item<'py>, inherited: bool) -> PyResult<Decision<'py>> {
    let (key, value, ttl, above, ordered, terms) = item;
    let ttl = ttl.map(nanoseconds).transpose()?;
    let write = Write { key: text(key)?, value: None, ttl, above: *above, ordered: *ordered };
    let message = messages::terms(terms.ok_or_else(|| PyValueError::new_err("an item with terms is needed"))?);
    let mut terms = orders::terms(&message).map_err(|_| PyValueError::new_err("unknown terms"))?;
    terms.inherited = inherited;
    if inherited {
        store.engine().join(); // else nobody could say so
    }
    let value = value.as_ref().map(|bytes| store.value(bytes));
    let decided = store.change(py, |engine, gone| engine.decided(&write, &terms, value, gone));
    let Decided { version, verdict, existed, value, number, held } = decided;
    let bytes = value.as_ref().map(|value| value.bytes(py));
    value.into_iter().for_each(|value| value.release(py));
    Ok((version, verdict as u8, existed, bytes, number, held))
}
