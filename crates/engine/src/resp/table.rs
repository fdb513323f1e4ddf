//! The table of RESP commands, and COMMAND, which describes them.
use super::{
    command::{Command, Invocation, Keys, command},
    commands::{admin, connection, keys, keyspace, peers, scripts, transaction, writes},
    output::Output,
    session::{Arguments, Next, Outcome, Session, shown},
};
use crate::{events::Events, memory::Groups};

const FAMILIES: [&[Command]; 9] = [
    keys::COMMANDS,
    writes::COMMANDS,
    keyspace::COMMANDS,
    scripts::COMMANDS,
    connection::COMMANDS,
    transaction::COMMANDS,
    COMMAND,
    peers::COMMANDS,
    admin::COMMANDS,
];

#[rustfmt::skip]
const COMMAND: &[Command] = &[
    command("command", -1, Keys::None, "fast", "COUNT, LIST, INFO, DOCS: the commands understood here", describe),
];

/// Returns every command.
pub fn commands() -> impl Iterator<Item = &'static Command> {
    FAMILIES.into_iter().flatten()
}

/// Returns the command of that name.
pub fn find(name: &[u8]) -> Option<&'static Command> {
    commands().find(|command| command.is(name))
}

/// Executes a command. None: `find` does not know it.
pub fn execute(
    session: &mut Session,
    command: Option<&'static Command>,
    arguments: Arguments<'_>,
    groups: &Groups,
    events: &Events,
    out: &mut Output,
) -> Next {
    let Some(name) = arguments.get(0) else {
        return Next::Done; // an empty array asks for nothing
    };
    let outcome = match command {
        _ if !session.guard.is_open() && !command.is_some_and(|command| command.before_password) => {
            Err("NOAUTH Authentication required.".into())
        }
        None => Err(format!("ERR unknown command '{}'", shown(name)).into()),
        Some(command) if !command.takes(arguments.count()) => Err(command.wrong_number().into()),
        Some(command) => match &mut session.transaction {
            Some(batch) if !command.in_transaction => transaction::keep(batch, arguments, groups, out),
            _ => {
                let asked = Invocation { command, arguments, groups, events };
                (command.run)(session, &asked, out)
            }
        },
    };
    outcome.unwrap_or_else(|text| {
        if let Some(batch) = &mut session.transaction {
            batch.refused = true;
        }
        out.error(&text);
        Next::Done
    })
}

fn describe(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let named: Vec<_> = match asked.arguments.count() {
        ..=2 => commands().map(Some).collect(),
        _ => asked.arguments.from(2).map(find).collect(),
    };
    let word = asked.arguments.get(1).unwrap_or_default();
    match word.to_ascii_uppercase().as_slice() {
        b"" | b"INFO" => {
            out.array(named.len());
            for command in named {
                match command {
                    None => session.protocol.nil(out),
                    Some(command) => tell(command, out),
                }
            }
        }
        b"COUNT" => out.number(commands().count() as i64),
        b"LIST" => {
            out.array(commands().count());
            commands().for_each(|command| out.text(command.name));
        }
        b"DOCS" => {
            session.protocol.map(named.iter().flatten().count(), out);
            for command in named.into_iter().flatten() {
                out.text(command.name);
                session.protocol.map(2, out);
                for text in ["summary", command.summary, "group", "kamacache"] {
                    out.text(text);
                }
            }
        }
        _ => return Err(format!("ERR COMMAND {} is not supported here", shown(word)).into()),
    }
    Ok(Next::Done)
}

fn tell(command: &Command, out: &mut Output) {
    out.array(10);
    out.text(command.name);
    out.number(command.arity);
    out.array(1);
    out.simple(command.flag);
    let (first, last, step) = match command.keys {
        Keys::None => (0, 0, 0),
        Keys::First => (1, 1, 1),
        Keys::All => (1, -1, 1),
        Keys::Pairs => (1, -1, 2),
    };
    for position in [first, last, step] {
        out.number(position);
    }
    for _ in ["categories", "tips", "key specifications", "subcommands"] {
        out.array(0);
    }
}
