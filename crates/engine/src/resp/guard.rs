//! The password of a RESP connection.
use std::sync::Arc;

use crate::security::{Origin, Security};

/// The only user there is, as in Redis.
pub const USER: &[u8] = b"default";
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

    /// Checks the service that a node names.
    pub fn belongs(&self, service: &[u8]) -> Result<(), String> {
        self.security.belongs(service)
    }

    /// Opens if the password is right; counts a wrong one.
    pub fn admit(&mut self, user: &[u8], given: &[u8]) -> Result<(), &'static str> {
        let password = self.security.password.as_ref().ok_or(NONE)?;
        if !password.is(given) || user != USER {
            self.security.guesses.note(&self.origin.0);
            return Err(WRONG);
        }
        self.open = true;
        Ok(())
    }
}
