//! Messages to send, from their named tuples.
use bytes::Bytes;
use kamacache_engine::{
    call::{self, Reply, Request},
    orders::bytes as to_version,
    proto::peer as pb,
};
use pyo3::{exceptions::PyTypeError, prelude::*, pybacked::PyBackedBytes};

use super::classes::*;
use crate::answers::milliseconds;

/// Returns the caller's bytes, held rather than copied if they are many.
fn to_value(value: Option<PyBackedBytes>) -> Bytes {
    value.map_or_else(Bytes::new, |value| {
        if value.len() < 4096 { Bytes::copy_from_slice(&value) } else { Bytes::from_owner(value) }
    })
}

/// The named tuples that others contain. A named tuple is a tuple: its fields come in the order of its class.
pub type Member = (String, Option<String>, f64, Vec<String>, u32, Vec<String>, bool, bool, u64);
type GroupState = (String, String, u128, Vec<String>);
type Answer = (Option<PyBackedBytes>, u128, Option<f64>, bool, bool, String, String, bool, bool, bool, String);
pub type Terms = (u32, u128, u32, i64, Option<i64>, bool, bool);
pub type WriteItem = (String, Option<PyBackedBytes>, Option<f64>, u128, u128, Option<Terms>);
type Outcome = (u32, bool, Option<PyBackedBytes>, i64, u128);

fn all<A, B>(items: Vec<A>, one: impl FnMut(A) -> B) -> Vec<B> {
    items.into_iter().map(one).collect()
}

pub fn member((id, address, weight, groups, protocol, loads, client, leaving, revision): Member) -> pb::Member {
    pb::Member { id, address: address.unwrap_or_default(), weight, groups, protocol, loads, client, leaving, revision }
}

fn known((key, version): (String, u128)) -> pb::Known {
    let version = to_version(version);
    pb::Known { key, version }
}

fn group_state((name, codec, floor, options): GroupState) -> pb::GroupState {
    pb::GroupState { name, codec, floor: to_version(floor), options }
}

fn answer(
    (value, version, remaining, hot, too_large, error_type, error_text, later, granted, due, error_trace): Answer,
) -> pb::Answer {
    pb::Answer {
        absent: value.is_none(),
        value: to_value(value),
        version: to_version(version),
        remaining_ms: milliseconds(remaining),
        hot,
        too_large,
        error_type,
        error_text,
        error_trace,
        later,
        granted,
        due,
    }
}

/// Returns the message of terms.
pub fn terms((only, version, change, delta, initial, keep_ttl, wants): Terms) -> pb::Terms {
    pb::Terms { only, version: to_version(version), change, delta, initial, keep_ttl, wants }
}

fn outcome((verdict, existed, value, number, held): Outcome) -> pb::Outcome {
    let value = value.map(|value| to_value(Some(value)));
    pb::Outcome { verdict, existed, value, number, held: to_version(held) }
}

pub fn write_item((key, value, ttl, above, ordered, agreed): WriteItem) -> pb::WriteItem {
    pb::WriteItem {
        key,
        delete: value.is_none(),
        value: to_value(value),
        ttl_ms: milliseconds(ttl),
        above: to_version(above),
        ordered: to_version(ordered),
        terms: agreed.map(terms),
    }
}

fn hello(message: &Bound<'_, PyAny>) -> PyResult<pb::HelloMessage> {
    let (from, clock, groups, (id, number, begun, has, now_ms), leaving, gone, left) = message.extract()?;
    Ok(pb::HelloMessage {
        member: Some(member(from)),
        clock: to_version(clock),
        groups: all(groups, group_state),
        leaving,
        gone,
        left: all(left, member),
        contact: Some(pb::Contact { id, number, begun, has, now_ms }),
    })
}

fn unknown(kind: &str, message: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let name = message.get_type().name()?;
    Ok(PyTypeError::new_err(format!("not a {kind}: {name}")))
}

/// Returns the request of a named tuple.
pub fn request(message: &Bound<'_, PyAny>) -> PyResult<Request> {
    let py = message.py();
    if message.is_instance(load_request_class(py)?)? {
        let (group, keys, skipped, depth, clock, unread, lease, holder, at_once, anew, context, trace) =
            message.extract()?;
        let clock = to_version(clock);
        Ok(Request::Load(pb::LoadRequest {
            group,
            keys,
            skipped,
            depth,
            clock,
            unread,
            lease,
            holder,
            at_once,
            anew,
            context,
            trace,
        }))
    } else if message.is_instance(fill_request_class(py)?)? {
        let (group, lease, keys, answers, clock) = message.extract()?;
        let (answers, clock) = (all(answers, answer), to_version(clock));
        Ok(Request::Fill(pb::FillRequest { group, lease, keys, answers, clock }))
    } else if message.is_instance(tell_request_class(py)?)? {
        let (group, writes, floor, clock) = message.extract()?;
        Ok(Request::Tell(pb::TellRequest {
            group,
            writes: all(writes, known),
            floor: to_version(floor),
            clock: to_version(clock),
        }))
    } else if message.is_instance(write_request_class(py)?)? {
        let (group, items, skipped, clock, inherit, until_ms) = message.extract()?;
        let (items, clock) = (all(items, write_item), to_version(clock));
        Ok(Request::Write(pb::WriteRequest { group, items, skipped, clock, inherit, until_ms }))
    } else if message.is_instance(hello_class(py)?)? {
        Ok(Request::Hello(hello(message)?))
    } else {
        Err(unknown("request", message)?)
    }
}

/// Returns the reply of a named tuple.
pub fn reply(message: &Bound<'_, PyAny>) -> PyResult<Reply> {
    let py = message.py();
    if message.is_instance(load_reply_class(py)?)? {
        let (answers, clock) = message.extract()?;
        Ok(Reply::Load(pb::LoadReply { answers: all(answers, answer), clock: to_version(clock) }))
    } else if message.is_instance(fill_reply_class(py)?)? {
        let (taken, clock) = message.extract()?;
        Ok(Reply::Fill(pb::FillReply { taken, clock: to_version(clock) }))
    } else if message.is_instance(hello_class(py)?)? {
        Ok(Reply::Hello(hello(message)?))
    } else if message.is_instance(write_reply_class(py)?)? {
        let (versions, refused, clock, members, outcomes, now_ms) = message.extract()?;
        Ok(Reply::Write(pb::WriteReply {
            versions: all(versions, to_version),
            refused,
            clock: to_version(clock),
            members: all(members, member),
            outcomes: all(outcomes, outcome),
            now_ms,
        }))
    } else if message.is_instance(client_reply_class(py)?)? {
        let (values, number): (Vec<Option<PyBackedBytes>>, i64) = message.extract()?;
        let values = all(values, |value| value.map(|value| to_value(Some(value))));
        Ok(Reply::Client(call::ClientReply { values, number }))
    } else {
        Err(unknown("reply", message)?)
    }
}
