//! A RESP command: its properties, in one entry beside its handler.
use super::{
    output::Output,
    session::{Arguments, Next, Outcome, Pending, Session, Then},
};
use crate::{call::ClientRequest, events::Events, memory::Groups};

/// Which commands of one connection may be under way together. Those of different kinds wait for each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Together {
    Alone,
    /// GET and MGET.
    Loads,
    /// EXISTS and the like, which see what a GET before them has loaded.
    Looks,
}

/// The keys among a command's arguments, as `COMMAND` describes them.
#[derive(Clone, Copy)]
pub enum Keys {
    None,
    First,
    All,
    /// Each with a value behind it.
    Pairs,
}

pub type Run = fn(&mut Session, &Invocation<'_>, &mut Output) -> Outcome;

pub struct Command {
    pub name: &'static str,
    /// The number of arguments, the name included; negative: at least so many.
    pub arity: i64,
    pub keys: Keys,
    pub flag: &'static str,
    pub summary: &'static str,
    pub together: Together,
    pub before_password: bool,
    pub in_transaction: bool,
    pub run: Run,
}

pub const fn command(
    name: &'static str,
    arity: i64,
    keys: Keys,
    flag: &'static str,
    summary: &'static str,
    run: Run,
) -> Command {
    Command {
        name,
        arity,
        keys,
        flag,
        summary,
        together: Together::Alone,
        before_password: false,
        in_transaction: false,
        run,
    }
}

impl Command {
    pub const fn together(self, together: Together) -> Self {
        Self { together, ..self }
    }

    pub const fn before_password(self) -> Self {
        Self { before_password: true, ..self }
    }

    pub const fn in_transaction(self) -> Self {
        Self { in_transaction: true, ..self }
    }

    pub fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
    }

    pub fn takes(&self, given: usize) -> bool {
        if self.arity < 0 { given as i64 >= -self.arity } else { given as i64 == self.arity }
    }

    pub fn wrong_number(&self) -> String {
        format!("ERR wrong number of arguments for '{}' command", self.name)
    }
}

/// A command as a connection sent it.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    pub command: &'static Command,
    pub arguments: Arguments<'a>,
    pub groups: &'a Groups,
    /// The queue to the node's Python, which answers what memory does not.
    pub events: &'a Events,
}

impl Invocation<'_> {
    pub fn later(&self, then: Then, request: ClientRequest) -> Outcome {
        Ok(Next::Wait(Pending::begin(self.events, request, then)))
    }
}
