//! Who may talk to this node, and how it shows others who it is.
mod guesses;
mod password;
pub mod tls;

pub use guesses::Guesses;
pub use password::Password;

use std::sync::Arc;

/// Where a connection comes from, in words for the log.
#[derive(Clone)]
pub struct Origin(pub Arc<str>);

/// What a node was given to protect itself. Nothing: whoever reaches it may talk to it.
#[derive(Default)]
pub struct Security {
    pub password: Option<Password>,
    /// For TCP; the permissions of its file protect a Unix socket.
    pub tls: Option<tls::Tls>,
    pub guesses: Guesses,
}

impl Security {
    /// Whether the value of an `authorization` header, if there is one, lets in who is at this address.
    pub fn admits(&self, authorization: Option<&[u8]>, address: &str) -> Result<(), &'static str> {
        match (&self.password, authorization) {
            (None, None) => Ok(()),
            (Some(password), Some(given)) if password.is_in(given) => Ok(()),
            (Some(_), Some(_)) => {
                self.guesses.note(address);
                Err("wrong password: `authorization: Bearer <password>` has that of the nodes")
            }
            (Some(_), None) => Err("a password is required: send `authorization: Bearer <password>`"),
            (None, Some(_)) => Err("this node has no password: leave `authorization` out"),
        }
    }

    /// The same for a forked child.
    pub fn renewed(&self) -> Self {
        Self {
            password: self.password.clone(),
            tls: self.tls.as_ref().map(tls::Tls::renewed),
            guesses: Guesses::default(),
        }
    }
}
