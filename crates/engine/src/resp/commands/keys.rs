//! The commands on keys, which are `group:key`. Memory answers a GET if it can; the node's Python answers the rest.
use std::sync::Arc;

use crate::{
    call::{ClientRequest, is_key},
    marked,
    memory::{self, Groups, Memory},
    resp::{
        command::{Command, Invocation, Keys, Together, command},
        output::Output,
        session::{Next, Outcome, Session, Then, shown},
    },
};

const KC_LOAD: &str = "kc.load";

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("get", 2, Keys::First, "readonly", "The value of group:key, loaded where it is not in memory", get).together(Together::Loads),
    command(KC_LOAD, 2, Keys::First, "readonly", "GET for the command line: LOADERR has the text of the exception", get).together(Together::Loads),
    command("mget", -2, Keys::All, "readonly", "The values of several group:key", get_many).together(Together::Loads),
    command("exists", -2, Keys::All, "readonly", "How many of these group:key are in their owners' memory", exists).together(Together::Looks),
    command("ttl", 2, Keys::First, "readonly", "Seconds left to group:key in its owner's memory", ttl).together(Together::Looks),
    command("pttl", 2, Keys::First, "readonly", "Milliseconds left to group:key in its owner's memory", pttl).together(Together::Looks),
];

pub(super) type Key<'a> = (Arc<dyn Memory>, &'a str);

/// A group of this name has the names that begin with no other group: the keys of programs written for Redis.
pub(super) const WHOLE: &str = "redis";

/// Returns the group and the key that `group:key` names. Of any other name the group `redis` has all, if there is one.
pub(super) fn find<'a>(name: &'a [u8], groups: &Groups) -> Result<Key<'a>, String> {
    let (group, key) = match name.iter().position(|&byte| byte == b':') {
        Some(colon) => (Some(&name[..colon]), &name[colon + 1..]),
        None => (None, name),
    };
    let named = group.and_then(|group| Some((memory::group(groups, group)?, key)));
    let Some((memory, key)) = named.or_else(|| Some((memory::group(groups, WHOLE.as_bytes())?, name))) else {
        return Err(match group {
            Some(group) => format!("NOGROUP no group '{}' here", shown(group)),
            None => format!("NOGROUP '{}' names no group: keys are group:key", shown(name)),
        });
    };
    match std::str::from_utf8(key) {
        Ok(key) if is_key(key) => Ok((memory, key)),
        _ => Err("ERR InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8".into()),
    }
}

pub(super) fn all<'a>(asked: &Invocation<'a>) -> Result<Vec<Key<'a>>, String> {
    asked.arguments.from(1).map(|name| find(name, asked.groups)).collect()
}

pub(super) fn request<'a>(command: &'static str, keys: impl IntoIterator<Item = Key<'a>>) -> ClientRequest {
    ClientRequest {
        command,
        keys: keys.into_iter().map(|(memory, key)| (memory.name().to_owned(), key.to_owned())).collect(),
        ..ClientRequest::default()
    }
}

pub(super) fn get(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let (memory, key) = find(asked.arguments.get(1).unwrap_or_default(), asked.groups)?;
    let mut here = true;
    memory.get(key, &mut |found| match found {
        Some(value) => match value.and_then(|held| Some((marked::shown(held.bytes())?, held))) {
            Some((shown, held)) => out.bulk(shown, || marked::shown_of(held.keep()).unwrap_or_default()),
            None => session.protocol.nil(out),
        },
        None => here = false,
    });
    if here {
        return Ok(Next::Done);
    }
    let command = if asked.command.name == KC_LOAD { KC_LOAD } else { "get" };
    asked.later(Then::Value, request(command, [(memory, key)]))
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

fn exists(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("exists", all(asked)?))
}

fn ttl(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Seconds, request("ttl", all(asked)?))
}

fn pttl(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("ttl", all(asked)?))
}
