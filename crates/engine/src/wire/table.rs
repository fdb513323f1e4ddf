//! The table of RESP commands, and COMMAND, which tells of it.
use super::commands::{Arguments, Next, Output, Session, shown};

/// A command as `COMMAND` tells of it.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// With the name; negative: at least so many.
    pub arity: i64,
    /// Positions of the first and last key, and the step between.
    keys: [i64; 3],
    flag: &'static str,
    summary: &'static str,
}

const fn command(name: &'static str, arity: i64, last: i64, flag: &'static str, summary: &'static str) -> Command {
    let keys = if last == 0 { [0, 0, 0] } else { [1, last, 1] };
    Command {
        name,
        arity,
        keys,
        flag,
        summary,
    }
}

/// Everything understood here.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("get", 2, 1, "readonly", "The value of group:key, loaded where it is not in memory"),
    command("mget", -2, -1, "readonly", "The values of several group:key"),
    command("set", -3, 1, "write", "Set group:key for the whole cluster, with EX seconds or PX milliseconds"),
    command("del", -2, -1, "write", "Delete group:key everywhere; answers how many keys were named"),
    command("exists", -2, -1, "readonly", "How many of these group:key are in their owners' memory"),
    command("ttl", 2, 1, "readonly", "Seconds left to group:key in its owner's memory"),
    command("pttl", 2, 1, "readonly", "Milliseconds left to group:key in its owner's memory"),
    command("ping", -1, 0, "fast", "Whether the engine answers"),
    command("echo", 2, 0, "fast", "Give back the text"),
    command("hello", -1, 0, "fast", "Choose version 2 or 3 of the protocol"),
    command("auth", -2, 0, "fast", "Give the password"),
    command("info", -1, 0, "readonly", "This node, as text"),
    command("client", -2, 0, "fast", "SETINFO, SETNAME, GETNAME, ID, INFO: this connection"),
    command("command", -1, 0, "fast", "COUNT, LIST, INFO, DOCS: the commands understood here"),
    command("select", 2, 0, "fast", "Database 0, the only one"),
    command("multi", 1, 0, "fast", "Nothing is executed from here to EXEC or DISCARD: there are no transactions"),
    command("exec", 1, 0, "fast", "Refused: there are no transactions"),
    command("discard", 1, 0, "fast", "The end of what began with MULTI"),
    command("quit", -1, 0, "fast", "End the connection"),
    command("kc.get", -3, 0, "readonly", "A key's copy in this node's memory, for other nodes"),
    command("kc.mget", -3, 0, "readonly", "Several copies in this node's memory, for other nodes"),
    command("kc.mpeek", -3, 0, "readonly", "KC.MGET, also for what this node no longer owns"),
    command("kc.ping", 1, 0, "fast", "Whether the engine answers"),
    command("kc.info", 1, 0, "admin", "This node, as JSON"),
    command("kc.members", 1, 0, "admin", "The members as this node sees them, as JSON"),
    command("kc.owner", 3, 0, "admin", "The owner and the candidates of a group's key, as JSON"),
    command("kc.stats", -1, 0, "admin", "The counters of all groups here, or of one, as JSON"),
    command("kc.clear", 2, 0, "admin", "Clear a group on every node; answers JSON: whether all confirmed"),
];

impl Command {
    pub(super) fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(self.name.as_bytes())
    }

    pub(super) fn takes(&self, given: usize) -> bool {
        if self.arity < 0 {
            given as i64 >= -self.arity
        } else {
            given as i64 == self.arity
        }
    }

    fn tell(&self, out: &mut Output) {
        out.array(10);
        out.text(self.name);
        out.number(self.arity);
        out.array(1);
        out.simple(self.flag);
        for position in self.keys {
            out.number(position);
        }
        for _ in ["categories", "tips", "key specifications", "subcommands"] {
            out.array(0);
        }
    }
}

pub(super) fn wrong_number(command: &Command, out: &mut Output) -> Next {
    out.refuse(&format!("ERR wrong number of arguments for '{}' command", command.name))
}

impl Session {
    pub(super) fn command(&self, arguments: Arguments<'_>, out: &mut Output) -> Next {
        let asked = arguments.get(1).unwrap_or_default().to_ascii_uppercase();
        let named = || -> Vec<_> {
            let names: Vec<_> = arguments.from(2).collect();
            let find = |name: &&[u8]| COMMANDS.iter().find(|command| command.is(name));
            if names.is_empty() {
                COMMANDS.iter().map(Some).collect()
            } else {
                names.iter().map(find).collect()
            }
        };
        match asked.as_slice() {
            b"" | b"INFO" => {
                let commands = named();
                out.array(commands.len());
                for command in commands {
                    match command {
                        None => self.nil(out),
                        Some(command) => command.tell(out),
                    }
                }
                Next::Done
            }
            b"COUNT" => out.number(COMMANDS.len() as i64),
            b"LIST" => {
                out.array(COMMANDS.len());
                COMMANDS.iter().for_each(|command| out.text(command.name));
                Next::Done
            }
            b"DOCS" => {
                let commands: Vec<_> = named().into_iter().flatten().collect();
                self.map(commands.len(), out);
                for command in commands {
                    out.text(command.name);
                    self.map(2, out);
                    for text in ["summary", command.summary, "group", "kamacache"] {
                        out.text(text);
                    }
                }
                Next::Done
            }
            asked => out.refuse(&format!("ERR COMMAND {} is not supported here", shown(asked))),
        }
    }
}
