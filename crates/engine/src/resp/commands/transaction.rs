//! MULTI, EXEC and DISCARD.
//!
//! There are no transactions, as the keys of one may have several owners. Clients send a transaction in one go, so
//! MULTI is accepted, and EXEC is refused as Redis refuses it after a command that cannot be queued. A node with the
//! group `redis` serves programs that send every batch so: EXEC has it executed, one command after the other.
use super::keys::WHOLE;
use crate::{
    memory::{Groups, group},
    resp::{
        codec,
        command::{Command, Invocation, Keys, command},
        output::Output,
        session::{Arguments, Batch, Next, Outcome, Session},
    },
};

/// Bytes of the commands between MULTI and EXEC.
const MOST: usize = 1 << 20;
/// Bytes around an argument of usual length.
const HEAD: usize = 16;

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("multi", 1, Keys::None, "fast", "Nothing is executed from here to EXEC or DISCARD", multi).in_transaction(),
    command("exec", 1, Keys::None, "fast", "Execute what came since MULTI, on nodes with the group redis; no transaction", exec).in_transaction(),
    command("discard", 1, Keys::None, "fast", "The end of what began with MULTI", discard).in_transaction(),
];

/// Keeps a command until EXEC.
pub fn keep(batch: &mut Batch, arguments: Arguments<'_>, groups: &Groups, out: &mut Output) -> Outcome {
    if group(groups, WHOLE.as_bytes()).is_none() {
        return Err("ERR transactions are not supported here: use a pipeline without MULTI".into());
    }
    let length: usize = arguments.from(0).map(|argument| argument.len() + HEAD).sum();
    if batch.commands.len() + length > MOST {
        return Err("ERR between MULTI and EXEC stands 1 MiB at most here".into());
    }
    codec::line(&mut batch.commands, b'*', arguments.count() as i64);
    arguments.from(0).for_each(|argument| codec::put(&mut batch.commands, argument));
    batch.count += 1;
    out.simple("QUEUED");
    Ok(Next::Done)
}

fn multi(session: &mut Session, _: &Invocation<'_>, out: &mut Output) -> Outcome {
    if session.transaction.is_some() {
        return Err("ERR MULTI calls can not be nested".into());
    }
    session.transaction = Some(Batch::default());
    out.simple("OK");
    Ok(Next::Done)
}

fn end(session: &mut Session, asked: &Invocation<'_>) -> Result<Batch, String> {
    session.transaction.take().ok_or_else(|| format!("ERR {} without MULTI", asked.command.name.to_uppercase()))
}

/// Writes the head of the reply. The replies of the commands, which the connection executes next, follow it.
fn exec(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let batch = end(session, asked)?;
    if batch.refused {
        return Err("EXECABORT nothing of this transaction was executed, because of the error before".into());
    }
    out.array(batch.count);
    session.next = batch.commands;
    Ok(Next::Done)
}

fn discard(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    end(session, asked)?;
    out.simple("OK");
    Ok(Next::Done)
}
