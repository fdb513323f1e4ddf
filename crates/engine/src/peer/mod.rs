//! Ways to other nodes: their memory over RESP, slow requests over gRPC.
pub mod blocking;
pub mod channel;
pub mod contact;
pub mod dial;
pub mod handover;
pub mod link;
pub mod many;
mod probe;
pub mod reactor;
pub mod times;
mod tls;
pub mod write;

use std::{fmt, io, time::Duration};

use crate::resp::{self, ProtocolError};

/// A connect takes this long at most.
pub const CONNECT: Duration = Duration::from_millis(250);
/// A peer's reply has at most this many bytes: a packed one has 64 MiB and the last value that fitted.
const REPLY: usize = 512 << 20;

/// The failure of a request to another node.
#[derive(Clone, Debug)]
pub struct Failure {
    pub kind: FailureKind,
    pub text: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// Nothing listens there.
    Refused,
    /// The connection ended before the answer, or the file of the socket is missing: the peer may be about to end.
    Broken,
    /// No answer, or none in time.
    Unreachable,
    /// The options of one node do not trust the other.
    Denied,
    Overloaded,
    UnknownGroup,
    /// This node's own transport is closed: the peer is not to blame.
    Ended,
}

impl Failure {
    pub fn unreachable(text: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unreachable, text: text.into() }
    }

    /// The peer did not answer within `timeout`.
    pub fn silent(address: &str, timeout: Duration) -> Self {
        Self::unreachable(format!("{address} did not answer within {} ms", timeout.as_millis()))
    }

    /// This node's transport was closed before the answer.
    pub fn ended() -> Self {
        Self { kind: FailureKind::Ended, text: "the node was closed meanwhile".into() }
    }

    /// The runtime did not take a task.
    pub fn unspawned(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotConnected => Self::ended(),
            _ => Self::unreachable(error.to_string()),
        }
    }

    pub fn closed(address: &str) -> Self {
        Self { kind: FailureKind::Broken, text: format!("{address} closed the connection") }
    }

    /// The peer asks for a password, or for another one, or belongs to another service.
    pub fn denied(address: &str, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let text = match text.strip_prefix("WRONGSERVICE ") {
            Some(text) => format!("{address} refuses this node: {text}"),
            None => format!("{address} refuses this node, whose password is to be the same: {text}"),
        };
        Self { kind: FailureKind::Denied, text }
    }

    /// The peer's reply is an error.
    pub fn error(address: &str, text: &[u8]) -> Self {
        if text.starts_with(b"NOGROUP ") {
            let text = format!("{address}: {}", String::from_utf8_lossy(text));
            Self { kind: FailureKind::UnknownGroup, text }
        } else if text.starts_with(b"NOAUTH") {
            Self::denied(address, text)
        } else {
            Self::nonsense(address, &String::from_utf8_lossy(text))
        }
    }

    /// The peer sent bytes that are no answer.
    pub fn nonsense(address: &str, what: &str) -> Self {
        Self::unreachable(format!("{address} gave no proper answer: {what}"))
    }

    /// This process is a forked child, and the handle belongs to its parent.
    pub fn forked() -> Self {
        Self::unreachable("forked: this handle belongs to the parent process")
    }

    /// The peer sent bytes that break the protocol.
    pub fn protocol(address: &str, error: ProtocolError) -> Self {
        match error {
            resp::ENCRYPTED => Self::distrust(address, error.0),
            _ => Self::nonsense(address, error.0),
        }
    }

    fn distrust(address: &str, what: &str) -> Self {
        Self { kind: FailureKind::Denied, text: format!("{address}: {what}") }
    }

    pub fn io(address: &str, error: &io::Error) -> Self {
        if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Self::distrust(address, &format!("{} (TLS: {error})", trouble(error)));
        }
        match error.kind() {
            _ if is_refusal(error) => {
                Self { kind: FailureKind::Refused, text: format!("{address} refused the connection") }
            }
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::closed(address)
            }
            io::ErrorKind::NotFound => Self { kind: FailureKind::Broken, text: format!("{address}: {error}") },
            io::ErrorKind::TimedOut => Self::silent(address, CONNECT),
            _ => Self::unreachable(format!("{address}: {error}")),
        }
    }
}

/// Returns whether this says that nothing listens there. The file of a Unix socket that is missing does not: something
/// may have removed it.
fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// Returns the act of the peer that makes a handshake fail, in words.
fn trouble(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, Error::*};
    match error {
        AlertReceived(Alert::CertificateRequired) => "asks for a certificate",
        AlertReceived(Alert::HandshakeFailure) => "has no TLS, or none that fits",
        AlertReceived(_) => "does not trust this node's certificate",
        InvalidCertificate(_) => "shows a certificate that this node does not trust",
        _ => "speaks no TLS that fits",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
