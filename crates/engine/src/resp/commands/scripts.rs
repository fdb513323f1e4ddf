//! EVAL, EVALSHA and SCRIPT LOAD, for the scripts by which clients release a lock or prolong it. The node's Python knows
//! them by their text.
use bytes::Bytes;

use super::keys::{find, request};
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
    command("eval", -3, Keys::None, "write", "Execute a script that releases a lock or prolongs it; there are no others", run),
    command("evalsha", -3, Keys::None, "write", "EVAL of a script that this node was sent before", run),
    command("script", -2, Keys::None, "fast", "LOAD: have EVALSHA know a script", load),
];

fn text(asked: &Invocation<'_>, at: usize) -> String {
    String::from_utf8_lossy(asked.arguments.get(at).unwrap_or_default()).into_owned()
}

fn run(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    if asked.arguments.get(2) != Some(b"1") {
        return Err("ERR there are no Lua scripts here, but for those of locks, which have one key".into());
    }
    let name = asked.arguments.get(3).ok_or("ERR Number of keys can't be greater than number of args")?;
    let values = asked.arguments.from(4).map(Bytes::copy_from_slice).collect();
    let script = request(asked.command.name, [find(name, asked.groups)?]);
    asked.later(Then::Script, ClientRequest { values, arguments: vec![text(asked, 1)], ..script })
}

fn load(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let word = asked.arguments.get(1).unwrap_or_default();
    if !word.eq_ignore_ascii_case(b"load") || asked.arguments.count() != 3 {
        return Err(format!("ERR SCRIPT {} is not supported here", shown(word)).into());
    }
    asked.later(Then::Value, ClientRequest { arguments: vec![text(asked, 2)], ..request("script", []) })
}
