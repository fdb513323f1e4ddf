//! Received messages as named tuples.
use kamacache_engine::{
    call::{ClientRequest, Reply, Request},
    proto::peer as pb,
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyBytes, PyList, PyTuple},
};

use super::classes::*;
use crate::answers::seconds;

fn from_version(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |version, &byte| version << 8 | u128::from(byte))
}

fn from_value<'py>(py: Python<'py>, value: &[u8], absent: bool) -> Option<Bound<'py, PyBytes>> {
    (!absent).then(|| PyBytes::new(py, value))
}

fn member<'py>(py: Python<'py>, m: &pb::Member) -> PyResult<Bound<'py, PyAny>> {
    let address = (!m.address.is_empty()).then_some(&m.address);
    let (groups, loads) = (PyTuple::new(py, &m.groups)?, PyTuple::new(py, &m.loads)?);
    member_class(py)?.call1((&m.id, address, m.weight, groups, m.protocol, loads, m.client))
}

/// Returns the named tuple of what a member says of its writes.
pub fn contact<'py>(py: Python<'py>, c: &pb::Contact) -> PyResult<Bound<'py, PyAny>> {
    contact_class(py)?.call1((&c.id, c.number, c.begun, c.has))
}

fn group_state<'py>(py: Python<'py>, g: &pb::GroupState) -> PyResult<Bound<'py, PyAny>> {
    let options = PyTuple::new(py, &g.options)?;
    group_state_class(py)?.call1((&g.name, &g.codec, from_version(&g.floor), options))
}

fn hello<'py>(py: Python<'py>, h: &pb::HelloMessage) -> PyResult<Bound<'py, PyAny>> {
    let member = member(py, &h.member.clone().unwrap_or_default())?;
    let groups = h.groups.iter().map(|group| group_state(py, group)).collect::<PyResult<Vec<_>>>()?;
    let contact = contact(py, &h.contact.clone().unwrap_or_default())?;
    hello_class(py)?.call1((member, from_version(&h.clock), groups, contact, h.leaving, PyTuple::new(py, &h.gone)?))
}

fn answer<'py>(py: Python<'py>, a: &pb::Answer) -> PyResult<Bound<'py, PyAny>> {
    answer_class(py)?.call1((
        from_value(py, &a.value, a.absent),
        from_version(&a.version),
        seconds(a.remaining_ms),
        a.hot,
        a.too_large,
        &a.error_type,
        &a.error_text,
        a.later,
        a.granted,
        a.due,
    ))
}

fn client_request<'py>(py: Python<'py>, m: &ClientRequest) -> PyResult<Bound<'py, PyAny>> {
    let value = m.value.as_ref().map(|value| PyBytes::new(py, value));
    client_request_class(py)?.call1((m.command, &m.keys, value, m.ttl_ms.map(|ms| ms as f64 / 1000.0), &m.arguments))
}

/// Returns the named tuple of a request.
pub fn from_request<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyAny>> {
    match request {
        Request::Hello(m) => hello(py, m),
        Request::Load(m) => {
            let (clock, unread) = (from_version(&m.clock), PyTuple::new(py, &m.unread)?);
            let (lease, holder) = (&m.lease, &m.holder);
            let about = (&m.group, &m.keys, &m.skipped, m.depth, clock, unread, lease, holder, m.at_once, m.anew);
            load_request_class(py)?.call1(about)
        }
        Request::Fill(m) => {
            let answers = m.answers.iter().map(|a| answer(py, a)).collect::<PyResult<Vec<_>>>()?;
            fill_request_class(py)?.call1((&m.group, &m.lease, &m.keys, answers, from_version(&m.clock)))
        }
        Request::Write(_) | Request::Tell(_) => Err(PyTypeError::new_err("the engine answers requests about writes")),
        Request::Client(m) => client_request(py, m),
    }
}

/// Returns the named tuple of a reply.
pub fn from_reply<'py>(py: Python<'py>, reply: &Reply) -> PyResult<Bound<'py, PyAny>> {
    match reply {
        Reply::Client(m) => {
            let values: Vec<_> =
                m.values.iter().map(|value| value.as_ref().map(|value| PyBytes::new(py, value))).collect();
            client_reply_class(py)?.call1((values, m.number))
        }
        Reply::Hello(m) => hello(py, m),
        Reply::Load(m) => {
            let answers = m.answers.iter().map(|a| answer(py, a)).collect::<PyResult<Vec<_>>>()?;
            load_reply_class(py)?.call1((answers, from_version(&m.clock)))
        }
        Reply::Fill(m) => fill_reply_class(py)?.call1((PyList::new(py, &m.taken)?, from_version(&m.clock))),
        Reply::Write(m) => {
            let versions: Vec<_> = m.versions.iter().map(|version| from_version(version)).collect();
            let members = m.members.iter().map(|one| member(py, one)).collect::<PyResult<Vec<_>>>()?;
            write_reply_class(py)?.call1((versions, m.refused, from_version(&m.clock), PyTuple::new(py, members)?))
        }
        Reply::Tell(m) => {
            let greater: Vec<_> = m.greater.iter().map(|version| from_version(version)).collect();
            tell_reply_class(py)?.call1((greater, from_version(&m.floor), from_version(&m.clock)))
        }
    }
}
