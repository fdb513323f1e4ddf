//! What clients that are no nodes ask where memory has no answer: Redis clients, foreign gRPC clients, the command line.
use bytes::Bytes;

use super::grpc::Refusal;

/// Bytes of a key at most.
pub const KEY: usize = 65_536;

/// A question for the node's Python.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientRequest {
    /// A command of [`super::table::COMMANDS`].
    pub command: &'static str,
    /// Groups and keys.
    pub keys: Vec<(String, String)>,
    pub value: Option<Bytes>,
    /// None: as the group has it.
    pub ttl_ms: Option<i64>,
    /// What commands that name no key take.
    pub arguments: Vec<String>,
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientReply {
    /// One for each key asked; None: there is no such thing.
    pub values: Vec<Option<Bytes>>,
    pub number: i64,
}

/// Why a call is refused, in words that the client may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    pub text: String,
}

pub type Answered = Result<ClientReply, Refused>;

/// Nobody answers any more.
pub fn nobody() -> Refused {
    Refused {
        refusal: Refusal::Closed,
        text: "nobody answers here".into(),
    }
}
