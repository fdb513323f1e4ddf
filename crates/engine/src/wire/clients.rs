//! What clients that are no nodes ask where memory has no answer: Redis clients, foreign gRPC clients, the command line.
use std::io;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::oneshot,
};

use super::grpc::Refusal;

/// Bytes of a key at most.
pub const KEY: usize = 65_536;
/// Bytes of later commands that are taken in while an answer is waited for.
const AHEAD: usize = 64 * 1024;

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

/// Waits for an answer, and takes in meanwhile what else the client sends: its end is an error, and drops the question.
pub async fn answered<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
    mut answer: oneshot::Receiver<Answered>,
) -> io::Result<Answered> {
    let enough = input.len() + AHEAD;
    while input.len() < enough {
        input.reserve(AHEAD / 16);
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer.unwrap_or_else(|_| Err(nobody()))),
            read = stream.read_buf(input) => if read? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            },
        }
    }
    Ok(answer.await.unwrap_or_else(|_| Err(nobody())))
}
