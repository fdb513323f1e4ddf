//! Messages to send, from their named tuples.
use bytes::Bytes;
use kamacache_engine::{
    call::{self, Reply, Request},
    proto::peer as pb,
};
use pyo3::{exceptions::PyTypeError, prelude::*, pybacked::PyBackedBytes};

use super::classes::*;
use crate::answers::milliseconds;

/// 16 bytes, big-endian; none for 0.
fn to_version(version: u128) -> Bytes {
    if version == 0 {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(&version.to_be_bytes())
    }
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
    skipped: Vec<String>,
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

/// A question, from its named tuple.
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
            clock: to_version(m.clock),
        }))
    } else if message.is_instance(write_request_class(py)?)? {
        let m: WriteRequest = message.extract()?;
        Ok(Request::Write(pb::WriteRequest {
            group: m.group,
            items: all(m.items),
            skipped: m.skipped,
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

/// An answer, from its named tuple.
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
        Ok(Reply::Client(call::ClientReply {
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
