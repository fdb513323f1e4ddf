//! The commands on keys, which are `group:key`. Memory answers a GET if it can; the node's Python answers the rest.
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    call::{ClientRequest, is_key},
    memory::{self, Groups, Memory},
    resp::{
        command::{Command, Invocation, Keys, Together, command},
        output::Output,
        session::{Next, Outcome, Session, Then, shown},
    },
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("get", 2, Keys::First, "readonly", "The value of group:key, loaded where it is not in memory", get).together(Together::Loads),
    command("mget", -2, Keys::All, "readonly", "The values of several group:key", get_many).together(Together::Loads),
    command("set", -3, Keys::First, "write", "Set group:key for the whole cluster, with EX seconds or PX milliseconds", set),
    command("del", -2, Keys::All, "write", "Delete group:key everywhere; answers how many keys were named", delete),
    command("exists", -2, Keys::All, "readonly", "How many of these group:key are in their owners' memory", exists).together(Together::Looks),
    command("ttl", 2, Keys::First, "readonly", "Seconds left to group:key in its owner's memory", ttl).together(Together::Looks),
    command("pttl", 2, Keys::First, "readonly", "Milliseconds left to group:key in its owner's memory", pttl).together(Together::Looks),
];

type Key<'a> = (Arc<dyn Memory>, &'a str);

/// Returns the group and the key that `group:key` names.
fn find<'a>(name: &'a [u8], groups: &Groups) -> Result<Key<'a>, String> {
    let Some(colon) = name.iter().position(|&byte| byte == b':') else {
        return Err(format!("NOGROUP '{}' names no group: keys are group:key", shown(name)));
    };
    let (group, key) = (&name[..colon], &name[colon + 1..]);
    let Some(memory) = memory::group(groups, group) else {
        return Err(format!("NOGROUP no group '{}' here", shown(group)));
    };
    match std::str::from_utf8(key) {
        Ok(key) if is_key(key) => Ok((memory, key)),
        _ => Err("ERR InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8".into()),
    }
}

fn all<'a>(asked: &Invocation<'a>) -> Result<Vec<Key<'a>>, String> {
    asked.arguments.from(1).map(|name| find(name, asked.groups)).collect()
}

fn request<'a>(command: &'static str, keys: impl IntoIterator<Item = Key<'a>>) -> ClientRequest {
    ClientRequest {
        command,
        keys: keys.into_iter().map(|(memory, key)| (memory.name().to_owned(), key.to_owned())).collect(),
        ..ClientRequest::default()
    }
}

fn get(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let (memory, key) = find(asked.arguments.get(1).unwrap_or_default(), asked.groups)?;
    let mut here = true;
    memory.get(key, &mut |found| match found {
        Some(Some(value)) => out.bulk(value.bytes(), || value.keep()),
        Some(None) => session.protocol.nil(out),
        None => here = false,
    });
    if here {
        return Ok(Next::Done);
    }
    asked.later(Then::Value, request("get", [(memory, key)]))
}

fn get_many(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let keys = all(asked)?;
    let (mut found, mut missing) = (Vec::with_capacity(keys.len()), Vec::new());
    for (memory, key) in keys {
        let mut value = None;
        memory.get(key, &mut |here| value = here.map(|here| here.map(|held| held.keep())));
        if value.is_none() {
            missing.push((memory, key));
        }
        found.push(value);
    }
    if missing.is_empty() {
        session.protocol.values(found.into_iter().flatten().collect(), out);
        return Ok(Next::Done);
    }
    asked.later(Then::Values(found), request("get", missing))
}

fn delete(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("del", all(asked)?))
}

fn exists(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("exists", all(asked)?))
}

fn ttl(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Seconds, request("ttl", all(asked)?))
}

fn pttl(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("ttl", all(asked)?))
}

fn set(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let arguments = asked.arguments;
    let (mut at, mut ttl_ms) = (3, None);
    while let Some(option) = arguments.get(at) {
        let factor = match option.to_ascii_uppercase().as_slice() {
            b"EX" => 1000,
            b"PX" => 1,
            _ => return Err(format!("ERR SET with '{}' is not supported here", shown(option)).into()),
        };
        let time = arguments.get(at + 1).ok_or("ERR syntax error")?;
        let time = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok());
        let time = time.ok_or("ERR value is not an integer or out of range")?;
        match time.checked_mul(factor) {
            Some(ms) if ms > 0 && ttl_ms.is_none() => ttl_ms = Some(ms),
            Some(ms) if ms > 0 => return Err("ERR syntax error".into()),
            _ => return Err("ERR invalid expire time in 'set' command".into()),
        }
        at += 2;
    }
    let key = find(arguments.get(1).unwrap_or_default(), asked.groups)?;
    let request =
        ClientRequest { value: arguments.get(2).map(Bytes::copy_from_slice), ttl_ms, ..request("set", [key]) };
    asked.later(Then::Ok, request)
}
