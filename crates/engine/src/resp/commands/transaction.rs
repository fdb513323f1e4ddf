//! MULTI, EXEC and DISCARD.
//!
//! There are no transactions, as the keys of one may have several owners. Clients send a transaction in one go, so
//! MULTI is accepted, and EXEC is refused as Redis refuses it after a command that cannot be queued.
use crate::resp::{
    command::{Command, Invocation, Keys, command},
    output::Output,
    session::{Next, Outcome, Session},
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("multi", 1, Keys::None, "fast", "Nothing is executed from here to EXEC or DISCARD: there are no transactions", multi).in_transaction(),
    command("exec", 1, Keys::None, "fast", "Refused: there are no transactions", exec).in_transaction(),
    command("discard", 1, Keys::None, "fast", "The end of what began with MULTI", discard).in_transaction(),
];

fn multi(session: &mut Session, _: &Invocation<'_>, out: &mut Output) -> Outcome {
    if session.transaction {
        return Err("ERR MULTI calls can not be nested".into());
    }
    session.transaction = true;
    out.simple("OK");
    Ok(Next::Done)
}

fn end(session: &mut Session, asked: &Invocation<'_>) -> Result<(), String> {
    if !std::mem::take(&mut session.transaction) {
        return Err(format!("ERR {} without MULTI", asked.command.name.to_uppercase()));
    }
    Ok(())
}

fn exec(session: &mut Session, asked: &Invocation<'_>, _: &mut Output) -> Outcome {
    end(session, asked)?;
    Err("EXECABORT transactions are not supported here: nothing of this one was executed".into())
}

fn discard(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    end(session, asked)?;
    out.simple("OK");
    Ok(Next::Done)
}
