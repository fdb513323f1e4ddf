//! The commands that write keys. The node's Python answers them.
use bytes::Bytes;

use super::keys::{all, find, get, request};
use crate::{
    call::ClientRequest,
    resp::{
        command::{Command, Invocation, Keys, command},
        output::Output,
        session::{Outcome, Session, Then, shown},
    },
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("set", -3, Keys::First, "write", "Set group:key for the whole cluster, with EX, PX or KEEPTTL, NX or XX, GET", set),
    command("setnx", 3, Keys::First, "write", "Set group:key if it has no value", set_new),
    command("setex", 4, Keys::First, "write", "Set group:key for some seconds", set_for),
    command("psetex", 4, Keys::First, "write", "Set group:key for some milliseconds", set_for),
    command("mset", -3, Keys::Pairs, "write", "Set several group:key, at most 1,000", set_many),
    command("del", -2, Keys::All, "write", "Delete group:key everywhere; answers how many existed", delete),
    command("unlink", -2, Keys::All, "write", "Does what DEL does", delete),
    command("getdel", 2, Keys::First, "write", "Delete group:key and answer its value", take),
    command("getex", -2, Keys::First, "write", "The value of group:key, which gets another time to live", get_and_touch),
    command("expire", 3, Keys::First, "write", "Give group:key that many seconds", touch),
    command("pexpire", 3, Keys::First, "write", "Give group:key that many milliseconds", touch),
    command("persist", 2, Keys::First, "write", "Keep group:key for ever", persist),
    command("incr", 2, Keys::First, "write", "Add 1 to the integer of group:key", add),
    command("decr", 2, Keys::First, "write", "Take 1 from the integer of group:key", add),
    command("incrby", 3, Keys::First, "write", "Add to the integer of group:key", add),
    command("decrby", 3, Keys::First, "write", "Take from the integer of group:key", add),
];

const SYNTAX: &str = "ERR syntax error";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";
/// Keys of one MSET.
const SETS: usize = 1000;

fn integer(text: &[u8]) -> Result<i64, &'static str> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(NO_INTEGER)
}

/// Returns the milliseconds of a time in an argument, which is more than zero.
fn time(asked: &Invocation<'_>, at: usize, factor: i64) -> Result<i64, String> {
    let time = integer(asked.arguments.get(at).ok_or(SYNTAX)?)?;
    let ms = time.checked_mul(factor).filter(|ms| *ms > 0);
    ms.ok_or_else(|| format!("ERR invalid expire time in '{}' command", asked.command.name))
}

fn one(asked: &Invocation<'_>, command: &'static str) -> Result<ClientRequest, String> {
    let key = find(asked.arguments.get(1).unwrap_or_default(), asked.groups)?;
    Ok(request(command, [key]))
}

fn bytes(asked: &Invocation<'_>, at: usize) -> Option<Bytes> {
    asked.arguments.get(at).map(Bytes::copy_from_slice)
}

fn set(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let (mut at, mut ttl_ms, mut words) = (3, None, Vec::new());
    while let Some(option) = asked.arguments.get(at) {
        let word = option.to_ascii_uppercase();
        match word.as_slice() {
            b"EX" | b"PX" if ttl_ms.is_none() => {
                ttl_ms = Some(time(asked, at + 1, if word == b"EX" { 1000 } else { 1 })?);
                at += 1;
            }
            b"EX" | b"PX" => return Err(SYNTAX.into()),
            b"NX" | b"XX" | b"GET" | b"KEEPTTL" => words.push(String::from_utf8_lossy(&word).into_owned()),
            _ => return Err(format!("ERR SET with '{}' is not supported here", shown(option)).into()),
        }
        at += 1;
    }
    let has = |word: &str| words.iter().any(|given| given == word);
    if (has("NX") && has("XX")) || (has("KEEPTTL") && ttl_ms.is_some()) {
        return Err(SYNTAX.into());
    }
    let then = if has("GET") { Then::Value } else { Then::Done };
    asked.later(then, ClientRequest { value: bytes(asked, 2), ttl_ms, arguments: words, ..one(asked, "set")? })
}

fn set_new(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let arguments = vec!["NX".to_owned()];
    asked.later(Then::Number, ClientRequest { value: bytes(asked, 2), arguments, ..one(asked, "set")? })
}

fn set_for(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let ttl_ms = Some(time(asked, 2, if asked.command.name == "setex" { 1000 } else { 1 })?);
    asked.later(Then::Done, ClientRequest { value: bytes(asked, 3), ttl_ms, ..one(asked, "set")? })
}

fn set_many(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let count = asked.arguments.count() - 1;
    if count % 2 != 0 {
        return Err(asked.command.wrong_number().into());
    }
    if count / 2 > SETS {
        return Err("ERR MSET takes 1,000 keys at most here".into());
    }
    let names = asked.arguments.from(1).step_by(2);
    let keys: Vec<_> = names.map(|name| find(name, asked.groups)).collect::<Result<_, _>>()?;
    let values = asked.arguments.from(2).step_by(2).map(Bytes::copy_from_slice).collect();
    asked.later(Then::Ok, ClientRequest { values, ..request("mset", keys) })
}

fn delete(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, request("del", all(asked)?))
}

fn take(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Value, one(asked, "take")?)
}

fn get_and_touch(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let option = asked.arguments.get(2).map(<[u8]>::to_ascii_uppercase);
    let ttl_ms = match (option.as_deref(), asked.arguments.count()) {
        (None, _) => return get(session, asked, out),
        (Some(b"EX"), 4) => Some(time(asked, 3, 1000)?),
        (Some(b"PX"), 4) => Some(time(asked, 3, 1)?),
        (Some(b"PERSIST"), 3) => None,
        _ => return Err(SYNTAX.into()),
    };
    asked.later(Then::Value, ClientRequest { ttl_ms, arguments: vec!["GET".to_owned()], ..one(asked, "touch")? })
}

fn touch(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let factor = if asked.command.name == "expire" { 1000 } else { 1 };
    let time = integer(asked.arguments.get(2).unwrap_or_default())?;
    let ttl_ms = time
        .checked_mul(factor)
        .ok_or_else(|| format!("ERR invalid expire time in '{}' command", asked.command.name))?;
    asked.later(Then::Number, ClientRequest { ttl_ms: Some(ttl_ms.max(0)), ..one(asked, "touch")? })
}

fn persist(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    asked.later(Then::Number, one(asked, "persist")?)
}

fn add(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let given = asked.arguments.get(2).map_or(Ok(1), integer)?;
    let delta = if asked.command.name.starts_with("decr") { given.checked_neg().ok_or(NO_INTEGER)? } else { given };
    asked.later(Then::Number, ClientRequest { arguments: vec![delta.to_string()], ..one(asked, "incr")? })
}
