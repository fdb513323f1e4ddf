//! The commands of other nodes, answered from memory (proto/RESP.md).
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::{
    memory::{self, Found, Memory, Moved},
    orders::{self, Refused},
    resp::{
        ABSENT, HOT, Look,
        codec::{line, put},
        command::{Command, Invocation, Keys, command},
        output::Output,
        pack, pack_nothing,
        session::{Next, Outcome, REPLY, Session, shown},
    },
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("kc.get", -3, Keys::None, "readonly", "A key's copy in this node's memory, for other nodes", get),
    command("kc.mget", -3, Keys::None, "readonly", "Several copies in this node's memory, for other nodes", get_many),
    command("kc.mpeek", -3, Keys::None, "readonly", "KC.MGET, also for what this node no longer owns", peek_many),
    command("kc.write", 2, Keys::None, "write", "Orders writes as their owner, for other nodes", write),
    command("kc.tell", 2, Keys::None, "write", "Takes note of writes, for other nodes", tell),
    command("kc.service", 2, Keys::None, "fast", "The service that a node believes to reach", service),
    command("kc.missed", 2, Keys::None, "readonly", "A part of the writes after a number, for other nodes", missed),
    command("kc.handover", 2, Keys::None, "write", "Takes over entries of keys that this node owns now", hand_over),
    command("kc.ping", -1, Keys::None, "fast", "Whether the engine answers, and what it has told a member", ping),
];

const MILLISECOND: u64 = 1_000_000;

/// A session keeps this much room for packed replies.
const KEPT: usize = 1 << 20;

fn ping(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    match asked.arguments.get(1).map(std::str::from_utf8) {
        None => out.simple("PONG"),
        Some(Ok(member)) => {
            put(&mut out.bytes, &asked.groups.contacts.met(member).encode_to_vec());
        }
        Some(Err(_)) => return Err("ERR not the id of a member".into()),
    }
    Ok(Next::Done)
}

/// A node that believes to reach another service gets nothing more on this connection.
fn service(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    match session.guard.belongs(asked.arguments.get(1).unwrap_or_default()) {
        Ok(()) => out.simple("OK"),
        Err(text) => {
            out.error(&text);
            return Ok(Next::Close);
        }
    }
    Ok(Next::Done)
}

fn group(asked: &Invocation<'_>) -> Result<Arc<dyn Memory>, String> {
    let name = asked.arguments.get(1).unwrap_or_default();
    memory::group(asked.groups, name).ok_or_else(|| format!("NOGROUP no group '{}' here", shown(name)))
}

fn write(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    replied(orders::write(asked.groups, message(asked)?), out)
}

fn tell(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    replied(orders::tell(asked.groups, &message(asked)?), out)
}

fn missed(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    replied(orders::missed(asked.groups, message(asked)?), out)
}

fn hand_over(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    replied(orders::hand_over(asked.groups, message(asked)?), out)
}

fn message<M: Message + Default>(asked: &Invocation<'_>) -> Result<M, &'static str> {
    M::decode(asked.arguments.get(1).unwrap_or_default()).map_err(|_| "ERR not a message of a node")
}

/// Writes a message as a bulk string.
fn replied<M: Message>(reply: Result<M, Refused>, out: &mut Output) -> Outcome {
    let message = reply.map_err(|refused| match refused {
        Refused::UnknownGroup(name) => format!("NOGROUP no group '{}' here", shown(name.as_bytes())),
        Refused::Invalid(text) => format!("ERR {text}"),
    })?;
    put(&mut out.bytes, &message.encode_to_vec());
    Ok(Next::Done)
}

fn get(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let said = asked.arguments.get(3);
    let word = |look: &Look| look.word().map(str::as_bytes);
    let meant = |look: &Look| match (said, word(look)) {
        (Some(said), Some(word)) => said.eq_ignore_ascii_case(word),
        (said, word) => said == word,
    };
    let look = Look::ALL.into_iter().find(meant).filter(|_| asked.arguments.count() <= 4).ok_or("ERR syntax error")?;
    let memory = group(asked)?;
    if matches!(look, Look::Entry | Look::Traits) {
        let key = std::str::from_utf8(asked.arguments.get(2).unwrap_or_default());
        entry(key.ok().and_then(|key| memory.entry(key)), look, out);
        return Ok(Next::Done);
    }
    let mut visit = |found: Option<Found<'_>>| {
        let Some(found) = found else {
            out.bytes.extend_from_slice(b"*-1\r\n");
            return;
        };
        out.bytes.extend_from_slice(b"*4\r\n");
        match found.value {
            None => out.bytes.extend_from_slice(b"$-1\r\n"),
            Some(value) => out.bulk(value.bytes(), || value.keep()),
        }
        put(&mut out.bytes, &found.version.to_be_bytes());
        out.number(remaining(&found));
        out.number(i64::from(flags(&found)));
    };
    match std::str::from_utf8(asked.arguments.get(2).unwrap_or_default()) {
        Ok(key) => memory.read(key, look == Look::Former, &mut visit),
        Err(_) => visit(None), // not a key
    }
    Ok(Next::Done)
}

/// Answers with an entry, stale or not, and its age.
fn entry(found: Option<Moved>, look: Look, out: &mut Output) {
    let Some(Moved { value, version, left, age, .. }) = found else {
        out.bytes.extend_from_slice(b"*-1\r\n");
        return;
    };
    out.bytes.extend_from_slice(b"*4\r\n");
    let absent = value.is_none();
    match value.map(|value| if look == Look::Traits { Bytes::new() } else { value }) {
        None => out.bytes.extend_from_slice(b"$-1\r\n"),
        Some(value) => out.bulk(&value, || value.clone()),
    }
    put(&mut out.bytes, &version.to_be_bytes());
    out.number(left.map_or(-1, |left| (left.max(0) as u64).div_ceil(MILLISECOND) as i64));
    out.number(((age / MILLISECOND) << 8 | u64::from(if absent { ABSENT } else { 0 })) as i64);
}

fn get_many(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    read_many(session, asked, false, out)
}

fn peek_many(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    read_many(session, asked, true, out)
}

fn read_many(session: &mut Session, asked: &Invocation<'_>, former: bool, out: &mut Output) -> Outcome {
    let memory = group(asked)?;
    let packed = &mut session.packed;
    for key in asked.arguments.from(2) {
        let mut visit = |found: Option<Found<'_>>| match found {
            Some(found) if packed.len() + found.value.map_or(0, |value| value.bytes().len()) < REPLY => {
                let length = found.value.map(|value| value.bytes().len());
                pack(&mut packed.bytes, found.version, remaining(&found), flags(&found), length);
                if let Some(value) = found.value {
                    packed.value(value.bytes(), || value.keep());
                }
            }
            _ => pack_nothing(&mut packed.bytes), // not here, or the reply is full
        };
        match std::str::from_utf8(key) {
            Ok(key) => memory.read(key, former, &mut visit),
            Err(_) => visit(None),
        }
    }
    line(&mut out.bytes, b'$', packed.len() as i64);
    out.append(packed);
    out.bytes.extend_from_slice(b"\r\n");
    if packed.bytes.capacity() > KEPT {
        *packed = Output::default();
    }
    Ok(Next::Done)
}

fn remaining(found: &Found<'_>) -> i64 {
    found.remaining_ms.map_or(-1, |ms| ms.min(i64::MAX as u64) as i64)
}

fn flags(found: &Found<'_>) -> u8 {
    (if found.hot { HOT } else { 0 }) | (if found.value.is_none() { ABSENT } else { 0 })
}
