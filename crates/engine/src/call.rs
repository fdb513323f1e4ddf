//! Requests that a node receives or sends, with their replies and refusals, as they pass between the port, other nodes
//! and Python.
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tonic::{Code, Status};

use crate::{fork, proto::peer as pb};

/// A request of a node to another over gRPC, or of a client.
#[derive(Clone, PartialEq)]
pub enum Request {
    Hello(pb::HelloMessage),
    Load(pb::LoadRequest),
    Fill(pb::FillRequest),
    Write(pb::WriteRequest),
    Tell(pb::TellRequest),
    /// Received only.
    Client(ClientRequest),
}

/// The reply to a request.
#[derive(Clone, PartialEq)]
pub enum Reply {
    Hello(pb::HelloMessage),
    Load(pb::LoadReply),
    Fill(pb::FillReply),
    Write(pb::WriteReply),
    Tell(pb::TellReply),
    Client(ClientReply),
}

impl Request {
    /// Returns whether a reply is of the kind that answers this request.
    pub fn takes(&self, reply: &Reply) -> bool {
        matches!(
            (self, reply),
            (Self::Hello(_), Reply::Hello(_))
                | (Self::Load(_), Reply::Load(_))
                | (Self::Fill(_), Reply::Fill(_))
                | (Self::Write(_), Reply::Write(_))
                | (Self::Tell(_), Reply::Tell(_))
                | (Self::Client(_), Reply::Client(_))
        )
    }
}

/// A key has at most this many bytes.
pub const KEY: usize = 65_536;

/// The reason for which a node or a client that asks for another one is refused.
pub const NO_KEY: &str = "a key has 1 to 65,536 bytes";

/// Returns whether a text may be a key.
pub fn is_key(key: &str) -> bool {
    (1..=KEY).contains(&key.len())
}

/// The text for a caller whose request was dropped without an answer, as by a node that closes.
pub const DROPPED: &str = "the request was dropped without an answer";

/// A request of a client that is not a node (Redis or gRPC, the command line) which memory could not answer.
#[derive(Clone, Default, PartialEq)]
pub struct ClientRequest {
    /// The name by which the node's Python knows it.
    pub command: &'static str,
    /// Groups and keys.
    pub keys: Vec<(String, String)>,
    pub value: Option<Bytes>,
    /// One for each key, of an MSET.
    pub values: Vec<Bytes>,
    /// None: as the group has it.
    pub ttl_ms: Option<i64>,
    /// The arguments of commands that name no key.
    pub arguments: Vec<String>,
}

/// The reply to it.
#[derive(Clone, Default, PartialEq)]
pub struct ClientReply {
    /// One for each key asked; None: absent.
    pub values: Vec<Option<Bytes>>,
    pub number: i64,
}

/// A refused call, with a text for the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Refused {
    pub refusal: Refusal,
    pub text: String,
}

pub type Answered = Result<ClientReply, Refused>;

/// Returns the refusal of a request that was dropped.
pub fn nobody() -> Refused {
    Refused { refusal: Refusal::Closed, text: DROPPED.into() }
}

/// The reason for which a call is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Overloaded,
    UnknownGroup,
    Closed,
    Internal,
    /// The loader failed.
    Load,
    /// The question itself is wrong.
    Invalid,
}

impl Refusal {
    pub fn code(self) -> Code {
        match self {
            Self::Overloaded => Code::ResourceExhausted,
            Self::UnknownGroup => Code::NotFound,
            Self::Closed => Code::Unavailable,
            Self::Internal | Self::Load => Code::Internal,
            Self::Invalid => Code::InvalidArgument,
        }
    }
}

/// The way to the caller.
pub enum Answer {
    Once(oneshot::Sender<Result<Reply, Status>>),
    Load(mpsc::Sender<Result<pb::LoadEvent, Status>>),
    Client(oneshot::Sender<Answered>),
}

/// A call of a peer or a client. If it is dropped without an answer, a caller that still waits is refused as by a node
/// that closes.
pub struct Incoming {
    pub request: Request,
    answer: Option<Answer>,
    generation: u64,
}

fn event(event: pb::load_event::Event) -> pb::LoadEvent {
    pb::LoadEvent { event: Some(event) }
}

impl Incoming {
    pub fn new(request: Request, answer: Answer) -> Self {
        Self { request, answer: Some(answer), generation: fork::generation() }
    }

    /// Returns a client's call, and where its reply will come.
    pub fn client(request: ClientRequest) -> (Self, oneshot::Receiver<Answered>) {
        let (answer, answered) = oneshot::channel();
        (Self::new(Request::Client(request), Answer::Client(answer)), answered)
    }

    pub fn is_client(&self) -> bool {
        matches!(self.request, Request::Client(_))
    }

    /// Returns whether no caller waits for the answer any more.
    pub fn is_gone(&self) -> bool {
        self.generation == fork::generation()
            && match &self.answer {
                Some(Answer::Once(answer)) => answer.is_closed(),
                Some(Answer::Load(events)) => events.is_closed(),
                Some(Answer::Client(answer)) => answer.is_closed(),
                None => true,
            }
    }

    /// Takes the way to the caller. In a forked child that belongs to the parent, so it is leaked.
    fn take(&mut self) -> Option<Answer> {
        let answer = self.answer.take()?;
        if self.generation == fork::generation() {
            return Some(answer);
        }
        std::mem::forget(answer);
        None
    }

    /// Notifies the caller of a load that it is queued.
    pub fn accept(&self) {
        if self.generation != fork::generation() {
            return;
        }
        if let Some(Answer::Load(events)) = &self.answer {
            let _ = events.try_send(Ok(event(pb::load_event::Event::Accepted(pb::Accepted {}))));
        }
    }

    /// Replies. Returns false if the call was answered before, or if the reply is of another kind.
    pub fn reply(&mut self, reply: Reply) -> bool {
        if !self.request.takes(&reply) {
            return false;
        }
        match (self.take(), reply) {
            (Some(Answer::Load(events)), Reply::Load(reply)) => {
                let _ = events.try_send(Ok(event(pb::load_event::Event::Reply(reply))));
            }
            (Some(Answer::Client(answer)), Reply::Client(reply)) => drop(answer.send(Ok(reply))),
            (Some(Answer::Once(answer)), reply) => drop(answer.send(Ok(reply))),
            _ => return false,
        }
        true
    }

    /// Refuses. Returns false if the call was answered before.
    pub fn fail(&mut self, refusal: Refusal, text: &str) -> bool {
        let status = Status::new(refusal.code(), text);
        match self.take() {
            Some(Answer::Load(events)) => drop(events.try_send(Err(status))),
            Some(Answer::Once(answer)) => drop(answer.send(Err(status))),
            Some(Answer::Client(answer)) => {
                let text = text.to_owned();
                drop(answer.send(Err(Refused { refusal, text })));
            }
            None => return false,
        }
        true
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.fail(Refusal::Closed, DROPPED);
    }
}
