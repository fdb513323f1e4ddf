//! Who may talk to this node, and how it shows others who it is.
mod password;
pub mod tls;

pub use password::Password;

/// What a node was given to protect itself. Nothing: whoever reaches it may talk to it.
#[derive(Debug, Default)]
pub struct Security {
    pub password: Option<Password>,
    /// For TCP; the permissions of its file protect a Unix socket.
    pub tls: Option<tls::Tls>,
}

impl Security {
    /// The same for a forked child.
    pub fn renewed(&self) -> Self {
        Self {
            password: self.password.clone(),
            tls: self.tls.as_ref().map(tls::Tls::renewed),
        }
    }
}
