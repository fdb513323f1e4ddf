//! Access to this node, and how it proves itself to others.
mod guesses;
mod password;
pub mod tls;

pub use guesses::Guesses;
pub use password::Password;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The origin of a connection, in words for the log.
#[derive(Clone)]
pub struct Origin(pub Arc<str>);

/// The password and certificates of a node. Without any, every host that reaches the node may use it.
#[derive(Default)]
pub struct Security {
    /// The service that the node belongs to, which each connection of a node names: an address may have been taken over
    /// by a node of another one. Empty: none is named.
    pub service: String,
    pub password: Option<Password>,
    /// For TCP; the permissions of its file protect a Unix socket.
    pub tls: Option<tls::Tls>,
    pub guesses: Guesses,
    /// Calls without a password, counted in the same way.
    pub unproven: Guesses,
}

impl Security {
    /// Checks the value of an `authorization` header, if there is one, from this address. The error is for the client.
    pub fn admits(&self, authorization: Option<&[u8]>, address: &str) -> Result<(), &'static str> {
        match (&self.password, authorization) {
            (None, None) => Ok(()),
            (Some(password), Some(given)) if password.is_in(given) => Ok(()),
            (Some(_), Some(_)) => {
                self.guesses.note(address);
                Err("wrong password: `authorization: Bearer <password>` has that of the nodes")
            }
            (Some(_), None) => {
                self.unproven.note(address);
                Err("a password is required: send `authorization: Bearer <password>`")
            }
            (None, Some(_)) => Err("this node has no password: leave `authorization` out"),
        }
    }

    /// Returns how long a password from this address waits before it is checked: for as long as many were wrong.
    pub fn pause(&self, address: &str) -> Duration {
        self.password.as_ref().map_or(Duration::ZERO, |_| self.guesses.pause(address, Instant::now()))
    }

    /// Checks the service that another node believes to reach here. The error is for that node.
    pub fn belongs(&self, service: &[u8]) -> Result<(), String> {
        if self.service.is_empty() || self.service.as_bytes() == service {
            return Ok(());
        }
        let given = String::from_utf8_lossy(service);
        Err(format!("WRONGSERVICE this node belongs to the service '{}', not to '{given}'", self.service))
    }

    /// Returns the same for a forked child.
    pub fn renewed(&self) -> Self {
        Self {
            service: self.service.clone(),
            password: self.password.clone(),
            tls: self.tls.as_ref().map(tls::Tls::renewed),
            guesses: Guesses::default(),
            unproven: Guesses::default(),
        }
    }
}
