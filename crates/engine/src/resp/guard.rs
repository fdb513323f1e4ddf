//! The password of a RESP connection.
use std::{sync::Arc, time::Duration};

use crate::security::{Origin, Security};

/// The only user there is, as in Redis.
const USER: &[u8] = b"default";
const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NONE: &str = "ERR AUTH <password> called without any password configured for the default user. \
                    Are you sure your configuration is correct?";

/// The state of a connection: it has given the password, or not.
pub struct Guard {
    security: Arc<Security>,
    origin: Origin,
    open: bool,
}

impl Guard {
    pub fn new(security: Arc<Security>, origin: Origin) -> Self {
        Self { open: security.password.is_none(), security, origin }
    }

    /// Returns whether every command is executed from now on.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Returns where the connection comes from.
    pub fn origin(&self) -> &str {
        &self.origin.0
    }

    /// Checks the service that a node names.
    pub fn belongs(&self, service: &[u8]) -> Result<(), String> {
        self.security.belongs(service)
    }

    /// Returns how long the next password waits before it is checked.
    pub fn pause(&self) -> Duration {
        if self.open { Duration::ZERO } else { self.security.pause(&self.origin.0) }
    }

    /// Opens if the password is right; counts a wrong one.
    /// Without a password the user `default` may give any, as in Redis; `user` None: only a password was given.
    pub fn admit(&mut self, user: Option<&[u8]>, given: &[u8]) -> Result<(), &'static str> {
        let Some(password) = self.security.password.as_ref() else {
            return match user {
                None => Err(NONE),
                Some(USER) => Ok(()),
                Some(_) => Err(WRONG),
            };
        };
        if !password.is(given) || user.is_some_and(|user| user != USER) {
            self.security.guesses.note(&self.origin.0);
            return Err(WRONG);
        }
        self.open = true;
        Ok(())
    }
}
