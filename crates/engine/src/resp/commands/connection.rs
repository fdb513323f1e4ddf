//! The commands on the connection itself, and INFO.
use std::sync::atomic::{AtomicU64, Ordering};

use crate::resp::{
    codec::put,
    command::{Command, Invocation, Keys, command},
    output::Output,
    session::{Next, Outcome, Protocol, Session, shown},
};

#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    command("ping", -1, Keys::None, "fast", "Whether the engine answers", ping),
    command("echo", 2, Keys::None, "fast", "Give back the text", echo),
    command("hello", -1, Keys::None, "fast", "Choose version 2 or 3 of the protocol", hello).before_password(),
    command("auth", -2, Keys::None, "fast", "Give the password", auth).before_password().in_transaction(),
    command("info", -1, Keys::None, "readonly", "This node, as text", info),
    command("client", -2, Keys::None, "fast", "SETINFO, SETNAME, GETNAME, ID, INFO: this connection", client),
    command("select", 2, Keys::None, "fast", "Database 0, the only one", select),
    command("quit", -1, Keys::None, "fast", "End the connection", quit).before_password().in_transaction(),
];

fn ping(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    match asked.arguments.count() {
        1 => out.simple("PONG"),
        2 => return echo(session, asked, out),
        _ => return Err(asked.command.wrong_number().into()),
    }
    Ok(Next::Done)
}

fn echo(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    put(&mut out.bytes, asked.arguments.get(1).unwrap_or_default());
    Ok(Next::Done)
}

fn select(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    if asked.arguments.get(1) != Some(b"0") {
        return Err("ERR DB index is out of range: there is database 0 alone".into());
    }
    out.simple("OK");
    Ok(Next::Done)
}

fn quit(_: &mut Session, _: &Invocation<'_>, out: &mut Output) -> Outcome {
    out.simple("OK");
    Ok(Next::Close)
}

fn auth(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let given: Vec<_> = asked.arguments.from(1).take(3).collect();
    match given[..] {
        [password] => session.guard.admit(None, password)?,
        [user, password] => session.guard.admit(Some(user), password)?,
        _ => return Err(asked.command.wrong_number().into()),
    }
    out.simple("OK");
    Ok(Next::Done)
}

fn hello(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let arguments = asked.arguments;
    let is = |at: usize, word: &[u8]| arguments.get(at).is_some_and(|given| given.eq_ignore_ascii_case(word));
    let option = (2..arguments.count()).find(|&at| is(at, b"AUTH"));
    if let Some((user, password)) = option.and_then(|at| arguments.get(at + 1).zip(arguments.get(at + 2))) {
        session.guard.admit(Some(user), password)?;
    } else if !session.guard.is_open() {
        return Err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                    AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                    version at the same time"
            .into());
    }
    let protocol = match arguments.get(1) {
        None => session.protocol,
        Some(b"2") => Protocol(2),
        Some(b"3") => Protocol(3),
        Some(_) => return Err("NOPROTO unsupported protocol version".into()),
    };
    let (mut at, mut name) = (2, None);
    while let Some(option) = arguments.get(at) {
        if is(at, b"AUTH") && at + 2 < arguments.count() {
            at += 3; // see above
        } else if is(at, b"SETNAME") && at + 1 < arguments.count() {
            name = arguments.get(at + 1);
            at += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", shown(option)).into());
        }
    }
    if let Some(name) = name {
        set_name(session, name)?;
    }
    session.protocol = protocol;
    session.protocol.map(7, out);
    for (field, value) in [("server", "kamacache"), ("version", env!("CARGO_PKG_VERSION"))] {
        out.text(field);
        out.text(value);
    }
    out.text("proto");
    out.number(i64::from(protocol.0));
    out.text("id");
    out.number(id(session));
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        out.text(field);
        out.text(value);
    }
    out.text("modules");
    out.array(0);
    Ok(Next::Done)
}

fn id(session: &mut Session) -> i64 {
    static IDS: AtomicU64 = AtomicU64::new(1);
    if session.id == 0 {
        session.id = IDS.fetch_add(1, Ordering::Relaxed);
    }
    session.id as i64
}

fn set_name(session: &mut Session, name: &[u8]) -> Result<(), &'static str> {
    if name.len() > 256 || !name.iter().all(u8::is_ascii_graphic) {
        return Err("ERR Client names are at most 256 bytes, without spaces, newlines or special characters");
    }
    session.name = name.to_vec();
    Ok(())
}

fn client(session: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let (word, count) = (asked.arguments.get(1).unwrap_or_default(), asked.arguments.count());
    match (word.to_ascii_uppercase().as_slice(), count) {
        (b"SETINFO", 4) => out.simple("OK"),
        (b"SETNAME", 3) => {
            set_name(session, asked.arguments.get(2).unwrap_or_default())?;
            out.simple("OK");
        }
        (b"GETNAME", 2) if session.name.is_empty() => session.protocol.nil(out),
        (b"GETNAME", 2) => put(&mut out.bytes, &session.name),
        (b"ID", 2) => out.number(id(session)),
        (b"INFO", 2) => {
            let id = id(session);
            let name = String::from_utf8_lossy(&session.name);
            out.text(&format!(
                "id={id} addr={}:0 laddr= fd=0 name={name} age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 \
                 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r \
                 cmd=client|info user=default redir=-1 resp={} lib-name= lib-ver=\n",
                session.guard.origin(),
                session.protocol.0
            ));
        }
        _ => {
            let (word, given) = (shown(word), count - 2);
            return Err(format!("ERR CLIENT {word} with {given} arguments is not supported here").into());
        }
    }
    Ok(Next::Done)
}

/// The server that a client may take this node for: it serves one database, alone, whose commands are those of this version.
const REDIS: &str = "7.0.0";

fn info(_: &mut Session, asked: &Invocation<'_>, out: &mut Output) -> Outcome {
    let mut names: Vec<_> = asked.groups.named.lock().keys().cloned().collect();
    names.sort();
    let version = env!("CARGO_PKG_VERSION");
    let sections = [
        (
            "Server",
            format!(
                "redis_version:{REDIS}\r\nkamacache_version:{version}\r\nredis_mode:standalone\r\nprocess_id:{}\r\n",
                std::process::id()
            ),
        ),
        ("Persistence", "loading:0\r\n".to_owned()),
        ("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()),
        ("Cluster", "cluster_enabled:0\r\n".to_owned()),
        ("Groups", format!("groups:{}\r\nnames:{}\r\n", names.len(), names.join(","))),
    ];
    let wanted = |name: &str| {
        asked.arguments.count() == 1
            || asked.arguments.from(1).any(|given| {
                let whole = [&b"all"[..], b"default", b"everything"];
                given.eq_ignore_ascii_case(name.as_bytes()) || whole.iter().any(|all| given.eq_ignore_ascii_case(all))
            })
    };
    let shown = sections.iter().filter(|(name, _)| wanted(name)).map(|(name, text)| format!("# {name}\r\n{text}"));
    out.text(&shown.collect::<Vec<_>>().join("\r\n"));
    Ok(Next::Done)
}
