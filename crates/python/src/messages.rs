//! The dataclasses of kamacache.messages and the messages of proto/peer.proto, into each other.
use std::collections::HashMap;

use bytes::Bytes;
use kamacache_engine::{
    peer::{Reply, Request},
    wire::{
        clients::{self, ClientRequest},
        peer_v1 as pb,
    },
};
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    pybacked::PyBackedBytes,
    sync::PyOnceLock,
    types::{PyBytes, PyTuple, PyType},
};

use crate::answers::{milliseconds, seconds};

macro_rules! classes {
    ($($function:ident => $name:literal),* $(,)?) => {$(
        fn $function(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
            static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            TYPE.import(py, "kamacache.net.messages", $name)
        }
    )*};
}

classes! {
    member_class => "Member",
    group_state_class => "GroupState",
    hello_class => "Hello",
    load_request_class => "LoadRequest",
    answer_class => "Answer",
    load_reply_class => "LoadReply",
    write_item_class => "WriteItem",
    write_request_class => "WriteRequest",
    write_reply_class => "WriteReply",
    tell_request_class => "TellRequest",
    tell_reply_class => "TellReply",
    client_request_class => "ClientRequest",
    client_reply_class => "ClientReply",
}

/// 16 bytes, big-endian; none for 0.
fn to_version(version: u128) -> Bytes {
    if version == 0 {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(&version.to_be_bytes())
    }
}

fn from_version(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .take(16)
        .fold(0, |version, &byte| version << 8 | u128::from(byte))
}

/// The caller's bytes object, held rather than copied.
fn to_value(value: Option<PyBackedBytes>) -> Bytes {
    value.map_or_else(Bytes::new, |value| {
        if value.len() < 4096 {
            Bytes::copy_from_slice(&value)
        } else {
            Bytes::from_owner(value)
        }
    })
}

fn from_value<'py>(py: Python<'py>, value: &[u8], absent: bool) -> Option<Bound<'py, PyBytes>> {
    (!absent).then(|| PyBytes::new(py, value))
}

#[derive(FromPyObject)]
struct Member {
    id: String,
    address: Option<String>,
    weight: f64,
    groups: Vec<String>,
    protocol: u32,
}

#[derive(FromPyObject)]
struct GroupState {
    name: String,
    codec: String,
    floor: u128,
    writes: Vec<(String, u128)>,
    seen: HashMap<String, u64>,
}

#[derive(FromPyObject)]
struct Hello {
    member: Member,
    clock: u128,
    groups: Vec<GroupState>,
    leaving: bool,
}

#[derive(FromPyObject)]
struct LoadRequest {
    group: String,
    keys: Vec<String>,
    skipped: Vec<String>,
    depth: u32,
    clock: u128,
}

#[derive(FromPyObject)]
struct Answer {
    value: Option<PyBackedBytes>,
    version: u128,
    remaining: Option<f64>,
    hot: bool,
    too_large: bool,
    error_type: String,
    error_text: String,
}

#[derive(FromPyObject)]
struct LoadReply {
    answers: Vec<Answer>,
    clock: u128,
}

#[derive(FromPyObject)]
struct WriteItem {
    key: String,
    value: Option<PyBackedBytes>,
    ttl: Option<f64>,
    above: u128,
}

#[derive(FromPyObject)]
struct WriteRequest {
    group: String,
    items: Vec<WriteItem>,
    clear: bool,
    skipped: Vec<String>,
    writer: String,
    clock: u128,
}

#[derive(FromPyObject)]
struct WriteReply {
    versions: Vec<u128>,
    refused: bool,
    members: Vec<Member>,
    clock: u128,
}

#[derive(FromPyObject)]
struct TellRequest {
    group: String,
    writes: Vec<(String, u128)>,
    floor: u128,
    writer: String,
    number: u64,
    clock: u128,
}

#[derive(FromPyObject)]
struct TellReply {
    greater: Vec<u128>,
    floor: u128,
    clock: u128,
}

#[derive(FromPyObject)]
struct ClientReply {
    values: Vec<Option<PyBackedBytes>>,
    number: i64,
}

impl From<Member> for pb::Member {
    fn from(m: Member) -> Self {
        let address = m.address.unwrap_or_default();
        Self {
            id: m.id,
            address,
            weight: m.weight,
            groups: m.groups,
            protocol: m.protocol,
        }
    }
}

impl From<GroupState> for pb::GroupState {
    fn from(g: GroupState) -> Self {
        Self {
            name: g.name,
            codec: g.codec,
            floor: to_version(g.floor),
            writes: known(g.writes),
            seen: g.seen,
        }
    }
}

fn known(writes: Vec<(String, u128)>) -> Vec<pb::Known> {
    writes
        .into_iter()
        .map(|(key, version)| pb::Known {
            key,
            version: to_version(version),
        })
        .collect()
}

fn all<A, B: From<A>>(items: Vec<A>) -> Vec<B> {
    items.into_iter().map(B::from).collect()
}

impl From<Hello> for pb::HelloMessage {
    fn from(h: Hello) -> Self {
        Self {
            member: Some(h.member.into()),
            clock: to_version(h.clock),
            groups: all(h.groups),
            leaving: h.leaving,
        }
    }
}

impl From<Answer> for pb::Answer {
    fn from(a: Answer) -> Self {
        Self {
            absent: a.value.is_none(),
            value: to_value(a.value),
            version: to_version(a.version),
            remaining_ms: milliseconds(a.remaining),
            hot: a.hot,
            too_large: a.too_large,
            error_type: a.error_type,
            error_text: a.error_text,
        }
    }
}

impl From<WriteItem> for pb::WriteItem {
    fn from(w: WriteItem) -> Self {
        Self {
            key: w.key,
            delete: w.value.is_none(),
            value: to_value(w.value),
            ttl_ms: milliseconds(w.ttl),
            above: to_version(w.above),
        }
    }
}

/// A question, from its dataclass.
pub fn request(message: &Bound<'_, PyAny>) -> PyResult<Request> {
    let py = message.py();
    if message.is_instance(load_request_class(py)?)? {
        let m: LoadRequest = message.extract()?;
        Ok(Request::Load(pb::LoadRequest {
            group: m.group,
            keys: m.keys,
            skipped: m.skipped,
            depth: m.depth,
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(tell_request_class(py)?)? {
        let m: TellRequest = message.extract()?;
        Ok(Request::Tell(pb::TellRequest {
            group: m.group,
            writes: known(m.writes),
            floor: to_version(m.floor),
            writer: m.writer,
            number: m.number,
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(write_request_class(py)?)? {
        let m: WriteRequest = message.extract()?;
        Ok(Request::Write(pb::WriteRequest {
            group: m.group,
            items: all(m.items),
            clear: m.clear,
            skipped: m.skipped,
            writer: m.writer,
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(hello_class(py)?)? {
        Ok(Request::Hello(message.extract::<Hello>()?.into()))
    } else {
        Err(PyTypeError::new_err(format!(
            "not a request: {}",
            message.get_type().name()?
        )))
    }
}

/// An answer, from its dataclass.
pub fn reply(message: &Bound<'_, PyAny>) -> PyResult<Reply> {
    let py = message.py();
    if message.is_instance(load_reply_class(py)?)? {
        let m: LoadReply = message.extract()?;
        Ok(Reply::Load(pb::LoadReply {
            answers: all(m.answers),
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(tell_reply_class(py)?)? {
        let m: TellReply = message.extract()?;
        Ok(Reply::Tell(pb::TellReply {
            greater: m.greater.into_iter().map(to_version).collect(),
            floor: to_version(m.floor),
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(write_reply_class(py)?)? {
        let m: WriteReply = message.extract()?;
        Ok(Reply::Write(pb::WriteReply {
            versions: m.versions.into_iter().map(to_version).collect(),
            refused: m.refused,
            members: all(m.members),
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(hello_class(py)?)? {
        Ok(Reply::Hello(message.extract::<Hello>()?.into()))
    } else if message.is_instance(client_reply_class(py)?)? {
        let m: ClientReply = message.extract()?;
        let values = m.values.into_iter();
        Ok(Reply::Client(clients::ClientReply {
            values: values.map(|value| value.map(|value| to_value(Some(value)))).collect(),
            number: m.number,
        }))
    } else {
        Err(PyTypeError::new_err(format!(
            "not a reply: {}",
            message.get_type().name()?
        )))
    }
}

fn member<'py>(py: Python<'py>, m: &pb::Member) -> PyResult<Bound<'py, PyAny>> {
    let address = (!m.address.is_empty()).then_some(&m.address);
    member_class(py)?.call1((&m.id, address, m.weight, PyTuple::new(py, &m.groups)?, m.protocol))
}

fn pairs(writes: &[pb::Known]) -> Vec<(&str, u128)> {
    writes
        .iter()
        .map(|known| (known.key.as_str(), from_version(&known.version)))
        .collect()
}

fn group_state<'py>(py: Python<'py>, g: &pb::GroupState) -> PyResult<Bound<'py, PyAny>> {
    group_state_class(py)?.call1((&g.name, &g.codec, from_version(&g.floor), pairs(&g.writes), &g.seen))
}

fn hello<'py>(py: Python<'py>, h: &pb::HelloMessage) -> PyResult<Bound<'py, PyAny>> {
    let member = member(py, &h.member.clone().unwrap_or_default())?;
    let groups = h
        .groups
        .iter()
        .map(|group| group_state(py, group))
        .collect::<PyResult<Vec<_>>>()?;
    hello_class(py)?.call1((member, from_version(&h.clock), groups, h.leaving))
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
    ))
}

fn write_item<'py>(py: Python<'py>, w: &pb::WriteItem) -> PyResult<Bound<'py, PyAny>> {
    let value = from_value(py, &w.value, w.delete);
    write_item_class(py)?.call1((&w.key, value, seconds(w.ttl_ms), from_version(&w.above)))
}

fn client_request<'py>(py: Python<'py>, m: &ClientRequest) -> PyResult<Bound<'py, PyAny>> {
    let value = m.value.as_ref().map(|value| PyBytes::new(py, value));
    client_request_class(py)?.call1((
        m.command,
        &m.keys,
        value,
        m.ttl_ms.map(|ms| ms as f64 / 1000.0),
        &m.arguments,
    ))
}

/// The dataclass of a question.
pub fn from_request<'py>(py: Python<'py>, request: &Request) -> PyResult<Bound<'py, PyAny>> {
    match request {
        Request::Hello(m) => hello(py, m),
        Request::Load(m) => {
            load_request_class(py)?.call1((&m.group, &m.keys, &m.skipped, m.depth, from_version(&m.clock)))
        }
        Request::Write(m) => {
            let items = m
                .items
                .iter()
                .map(|item| write_item(py, item))
                .collect::<PyResult<Vec<_>>>()?;
            let clock = from_version(&m.clock);
            write_request_class(py)?.call1((&m.group, items, m.clear, &m.skipped, &m.writer, clock))
        }
        Request::Tell(m) => {
            let (floor, clock) = (from_version(&m.floor), from_version(&m.clock));
            tell_request_class(py)?.call1((&m.group, pairs(&m.writes), floor, &m.writer, m.number, clock))
        }
        Request::Client(m) => client_request(py, m),
    }
}

/// The dataclass of an answer.
pub fn from_reply<'py>(py: Python<'py>, reply: &Reply) -> PyResult<Bound<'py, PyAny>> {
    match reply {
        Reply::Client(m) => {
            let values: Vec<_> = m
                .values
                .iter()
                .map(|value| value.as_ref().map(|value| PyBytes::new(py, value)))
                .collect();
            client_reply_class(py)?.call1((values, m.number))
        }
        Reply::Hello(m) => hello(py, m),
        Reply::Load(m) => {
            let answers = m.answers.iter().map(|a| answer(py, a)).collect::<PyResult<Vec<_>>>()?;
            load_reply_class(py)?.call1((answers, from_version(&m.clock)))
        }
        Reply::Write(m) => {
            let versions: Vec<_> = m.versions.iter().map(|version| from_version(version)).collect();
            let members = m.members.iter().map(|m| member(py, m)).collect::<PyResult<Vec<_>>>()?;
            write_reply_class(py)?.call1((versions, m.refused, members, from_version(&m.clock)))
        }
        Reply::Tell(m) => {
            let greater: Vec<_> = m.greater.iter().map(|version| from_version(version)).collect();
            tell_reply_class(py)?.call1((greater, from_version(&m.floor), from_version(&m.clock)))
        }
    }
}
