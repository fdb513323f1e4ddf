//! The hand-over of entries for Python, over the fast lane or over a network in memory.
use std::time::Instant;

use kamacache_engine::{orders, peer::handover};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::{
    contacts::Contacts, errors::duration, failure::peer_error, guarded::call, handle::drain, placement::Placement,
    store::Store, transport::Transport,
};

/// Hands over what a store has of other members. See the stub.
#[pyfunction]
#[pyo3(signature = (store, placement, owners, me, timeout, carry, /))]
pub fn hand_over(
    py: Python<'_>,
    store: &Store,
    placement: &Placement,
    owners: Vec<Option<(String, String)>>,
    me: &str,
    timeout: f64,
    carry: &Bound<'_, PyAny>,
) -> PyResult<(u64, u64)> {
    let (memory, table, until) = (store.memory(), placement.table.clone(), Instant::now() + duration(timeout)?);
    let handed = if let Ok(transport) = carry.cast::<Transport>() {
        let pool = transport.get().pool().map_err(|failure| peer_error(py, &failure))?;
        py.detach(|| {
            let mut carry = |address: &str, message: Vec<u8>| handover::carry(pool, address, &message);
            handover::hand_over(&*memory, &table, &owners, me, until, &mut carry)
        })
    } else {
        let mut carry = |address: &str, message: Vec<u8>| {
            let sent = (address, memory.name(), PyBytes::new(py, &message)).into_pyobject(py).ok()?;
            call(carry, &sent).ok()?.extract(py).ok()
        };
        handover::hand_over(&*memory, &table, &owners, me, until, &mut carry)
    };
    drain(py);
    Ok((handed.handed, handed.left))
}

/// Lets a store take over entries from now on. See the stub.
#[pyfunction]
#[pyo3(signature = (store, /))]
pub fn join(store: &Store) {
    store.engine().join();
}

/// Takes over what a message brings. See the stub.
#[pyfunction]
#[pyo3(signature = (store, contacts, message, /))]
pub fn take_over<'py>(
    py: Python<'py>,
    store: &Store,
    contacts: &Contacts,
    message: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let (memory, groups) = (store.memory(), contacts.groups.clone());
    let reply = py.detach(|| orders::took_over_encoded(&*memory, &groups.contacts, message));
    drain(py);
    match reply {
        Ok(reply) => Ok(PyBytes::new(py, &reply)),
        Err(_) => Err(PyValueError::new_err("not a message of a node")),
    }
}
