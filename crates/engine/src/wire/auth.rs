//! Who has not said the password yet is told so, and nothing else.
use std::sync::Arc;

use tonic::{Request, Status, service::Interceptor};

use super::{
    commands::{Arguments, Output},
    http2::Door,
    resp::Limits,
    stream::{Origin, Stream},
};
use crate::security::Security;

/// What a connection may claim before the password: room for AUTH and HELLO.
pub const STRANGER: Limits = Limits {
    arguments: 10,
    argument: 1024,
    command: 4096,
};

/// The only user there is, as in Redis.
const USER: &[u8] = b"default";
const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NONE: &str = "ERR AUTH <password> called without any password configured for the default user. \
                    Are you sure your configuration is correct?";

/// A RESP connection's door.
#[derive(Debug)]
pub struct Guard<'a> {
    security: &'a Security,
    origin: Origin,
    open: bool,
}

impl<'a> Guard<'a> {
    pub fn new(security: &'a Security, stream: &Stream) -> Self {
        Self {
            security,
            origin: stream.origin(),
            open: security.password.is_none(),
        }
    }

    /// Whether all commands are executed from now on.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Whether a command is to be executed; else it was answered. AUTH is always answered here; of HELLO only its
    /// option AUTH is taken in.
    pub fn admits(&mut self, arguments: Arguments<'_>, out: &mut Output) -> bool {
        let name = arguments.get(0).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"AUTH") {
            match (arguments.get(1), arguments.get(2), arguments.count()) {
                (Some(password), None, 2) => self.answer(USER, password, out),
                (Some(user), Some(password), 3) => self.answer(user, password, out),
                _ => out.error("ERR wrong number of arguments for 'auth' command"),
            }
            return false;
        }
        if name.eq_ignore_ascii_case(b"HELLO") {
            let option = (2..arguments.count()).find(|&at| {
                let word = arguments.get(at).unwrap_or_default();
                word.eq_ignore_ascii_case(b"AUTH")
            });
            if let Some((user, password)) = option.and_then(|at| arguments.get(at + 1).zip(arguments.get(at + 2))) {
                if let Err(text) = self.say(user, password) {
                    out.error(text);
                    return false;
                }
            } else if !self.open {
                out.error(
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> \
                     AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
                     version at the same time",
                );
                return false;
            }
        } else if !self.open && !name.is_empty() && !name.eq_ignore_ascii_case(b"QUIT") {
            out.error("NOAUTH Authentication required.");
            return false;
        }
        true
    }

    fn answer(&mut self, user: &[u8], password: &[u8], out: &mut Output) {
        match self.say(user, password) {
            Ok(()) => out.bytes.extend_from_slice(b"+OK\r\n"),
            Err(text) => out.error(text),
        }
    }

    fn say(&mut self, user: &[u8], given: &[u8]) -> Result<(), &'static str> {
        let password = self.security.password.as_ref().ok_or(NONE)?;
        if !password.is(given) || user != USER {
            self.security.guesses.note(&self.origin.0);
            return Err(WRONG);
        }
        self.open = true;
        Ok(())
    }
}

/// The same for gRPC calls: `authorization: Bearer <password>`, looked at before a message is read.
#[derive(Clone, Debug)]
pub struct Bearer(pub Arc<Security>);

impl Interceptor for Bearer {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").map(|given| given.as_bytes());
        let door = request.extensions().get::<Door>();
        match self.0.admits(given, door.map_or("", |door| &door.origin.0)) {
            Ok(()) => {
                if let Some(door) = door {
                    door.open();
                }
                Ok(request)
            }
            Err(text) => Err(Status::unauthenticated(text)),
        }
    }
}
