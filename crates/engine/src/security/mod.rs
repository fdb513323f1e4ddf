//! Who may talk to this node, and how it shows others who it is.
mod password;

pub use password::Password;

/// What a node was given to protect itself. Nothing: whoever reaches it may talk to it.
#[derive(Debug, Default)]
pub struct Security {
    pub password: Option<Password>,
}
