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
    member_class(py)?.call1((&m.id, address, m.weight, groups, m.protocol, loads, m.client, m.leaving, m.revision))
}

/// Returns the named tuple of what a member says of its writes.
pub fn contact<'py>(py: Python<'py>, c: &pb::Contact) -> PyResult<Bound<'py, PyAny>> {
    contact_class(py)?.call1((&c.id, c.number, c.begun, c.has, c.now_ms))
}

fn group_state<'py>(py: Python<'py>, g: &pb::GroupState) -> PyResult<Bound<'py, PyAny>> {
    let options = PyTuple::new(py, &g.options)?;
    group_state_class(py)?.call1((&g.name, &g.codec, from_version(&g.floor), options))
}

fn hello<'py>(py: Python<'py>, h: &pb::HelloMessage) -> PyResult<Bound<'py, PyAny>> {
    let member = member(py, &h.member.clone().unwrap_or_default())?;
    let groups = h.groups.iter().map(|group| group_state(py, group)).collect::<PyResult<Vec<_>>>()?;
    let contact = contact(py, &h.contact.clone().unwrap_or_default())?;
    let gone = PyTuple::new(py, &h.gone)?;
    let left = h.left.iter().map(|left| self::member(py, left)).collect::<PyResult<Vec<_>>>()?;
    hello_class(py)?.call1((member, from_version(&h.clock), groups, contact, h.leaving, gone, PyTuple::new(py, left)?))
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
        &a.error_trace,
    ))
}

fn client_request<'py>(py: Python<'py>, m: &ClientRequest) -> PyResult<Bound<'py, PyAny>> {
    let value = m.value.as_ref().map(|value| PyBytes::new(py, value));
    let values: Vec<_> = m.values.iter().map(|value| PyBytes::new(py, value)).collect();
    let ttl = m.ttl_ms.map(|ms| ms as f64 / 1000.0);
    client_request_class(py)?.call1((m.command, &m.keys, value, ttl, &m.arguments, values))
}

fn terms<'py>(py: Python<'py>, t: &pb::Terms) -> PyResult<Bound<'py, PyAny>> {
    let version = from_version(&t.version);
    terms_class(py)?.call1((t.only, version, t.change, t.delta, t.initial, t.keep_ttl, t.wants))
}

/// Returns the named tuple of what an owner decided.
fn outcome<'py>(py: Python<'py>, o: &pb::Outcome) -> PyResult<Bound<'py, PyAny>> {
    let value = o.value.as_ref().map(|value| PyBytes::new(py, value));
    outcome_class(py)?.call1((o.verdict, o.existed, value, o.number, from_version(&o.held)))
}

fn write<'py>(py: Python<'py>, m: &pb::WriteRequest) -> PyResult<Bound<'py, PyAny>> {
    let item = |item: &pb::WriteItem| {
        let value = from_value(py, &item.value, item.delete);
        let (above, ordered) = (from_version(&item.above), from_version(&item.ordered));
        let terms = item.terms.as_ref().map(|agreed| terms(py, agreed)).transpose()?;
        write_item_class(py)?.call1((&item.key, value, seconds(item.ttl_ms), above, ordered, terms))
    };
    let items = m.items.iter().map(item).collect::<PyResult<Vec<_>>>()?;
    write_request_class(py)?.call1((&m.group, items, &m.skipped, from_version(&m.clock), m.inherit, m.until_ms))
}

/// Returns the named tuple of a request.
pub fn from_request<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyAny>> {
    match request {
        Request::Hello(m) => hello(py, m),
        Request::Load(m) => {
            let (clock, unread) = (from_version(&m.clock), PyTuple::new(py, &m.unread)?);
            let (lease, holder, context) = (&m.lease, &m.holder, &m.context);
            let (once, anew, trace) = (m.at_once, m.anew, &m.trace);
            let keys =
                (&m.group, &m.keys, &m.skipped, m.depth, clock, unread, lease, holder, once, anew, context, trace);
            load_request_class(py)?.call1(keys)
        }
        Request::Fill(m) => {
            let answers = m.answers.iter().map(|a| answer(py, a)).collect::<PyResult<Vec<_>>>()?;
            fill_request_class(py)?.call1((&m.group, &m.lease, &m.keys, answers, from_version(&m.clock)))
        }
        Request::Write(m) => write(py, m),
        Request::Tell(_) => Err(PyTypeError::new_err("the engine answers a Tell")),
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
            let outcomes = m.outcomes.iter().map(|one| outcome(py, one)).collect::<PyResult<Vec<_>>>()?;
            let clock = from_version(&m.clock);
            let (members, outcomes) = (PyTuple::new(py, members)?, PyTuple::new(py, outcomes)?);
            write_reply_class(py)?.call1((versions, m.refused, clock, members, outcomes, m.now_ms))
        }
        Reply::Tell(m) => {
            let greater: Vec<_> = m.greater.iter().map(|version| from_version(version)).collect();
            tell_reply_class(py)?.call1((greater, from_version(&m.floor), from_version(&m.clock)))
        }
    }
}
