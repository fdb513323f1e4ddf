//! The commands of the command line. The node's Python answers with JSON.
use crate::{
    call::ClientRequest,
    resp::{
        command::{Command, Invocation, Keys, command},
        output::Output,
        session::{Outcome, Session, Then},
    },
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("kc.info", 1, Keys::None, "admin", "This node, as JSON", ask),
    command("kc.members", 1, Keys::None, "admin", "The members as this node sees them, as JSON", ask),
    command("kc.owner", 3, Keys::None, "admin", "The owner and the candidates of a group's key, as JSON", ask),
    command("kc.stats", -1, Keys::None, "admin", "The counters of all groups here, or of one, as JSON", few),
    command("kc.status", -1, Keys::None, "admin", "What all members show of themselves, or with SELF this one, as JSON", few),
    command("kc.clear", 2, Keys::None, "admin", "Clear a group on every node; answers JSON: whether all confirmed", ask),
];

fn ask(_: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    let text = |text| std::str::from_utf8(text).map(str::to_owned);
    let arguments: Result<_, _> = asked.arguments.from(1).map(text).collect();
    let request = ClientRequest {
        command: asked.command.name,
        arguments: arguments.map_err(|_| "ERR arguments are UTF-8")?,
        ..ClientRequest::default()
    };
    asked.later(Then::Value, request)
}

/// Has one argument at most.
fn few(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    if asked.arguments.count() > 2 {
        return Err(asked.command.wrong_number().into());
    }
    ask(session, asked, out)
}
