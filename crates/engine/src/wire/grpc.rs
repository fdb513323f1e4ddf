//! kamacache.v1.Peer, served beside what foreign.rs has: each call becomes an `Incoming` that the node answers in its own time.
use std::{future::Future, sync::Arc};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Response, Status,
    codegen::http::{self, HeaderValue},
    service::interceptor::InterceptedService,
};
use tower::util::MapResponseLayer;

use super::{
    auth::Bearer,
    clients::{Answered, ClientRequest, Refused},
    foreign::{self, Foreign},
    http::State,
    http2::Connection,
    peer_v1::{self as pb, peer_server},
};
use crate::{
    events::Events,
    fork,
    peer::{Reply, Request},
    security::Security,
};

/// Flow control windows of HTTP/2, so that a large value needs no waiting for window updates.
pub const STREAM_WINDOW: u32 = 4 << 20;
pub const CONNECTION_WINDOW: u32 = 16 << 20;

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

#[derive(Debug)]
enum Answer {
    Once(oneshot::Sender<Result<Reply, Status>>),
    Load(mpsc::Sender<Result<pb::LoadEvent, Status>>),
    Client(oneshot::Sender<Answered>),
}

/// A call of a peer or a client. An asker that is gone is not told anything; one that still waits when this is dropped
/// is told that nobody answers.
#[derive(Debug)]
pub struct Incoming {
    pub request: Request,
    answer: Option<Answer>,
    generation: u64,
}

fn event(event: pb::load_event::Event) -> pb::LoadEvent {
    pb::LoadEvent { event: Some(event) }
}

impl Incoming {
    /// A client's call, and where its answer will come.
    pub fn client(request: ClientRequest) -> (Self, oneshot::Receiver<Answered>) {
        let (answer, answered) = oneshot::channel();
        let call = Self {
            request: Request::Client(request),
            answer: Some(Answer::Client(answer)),
            generation: fork::generation(),
        };
        (call, answered)
    }

    pub fn is_client(&self) -> bool {
        matches!(self.request, Request::Client(_))
    }

    /// Whether nobody waits for the answer any more.
    pub fn is_gone(&self) -> bool {
        self.generation == fork::generation()
            && match &self.answer {
                Some(Answer::Once(answer)) => answer.is_closed(),
                Some(Answer::Load(events)) => events.is_closed(),
                Some(Answer::Client(answer)) => answer.is_closed(),
                None => true,
            }
    }

    /// The way to the asker, unless used up. In a forked child it is the parent's: left alone, for good.
    fn take(&mut self) -> Option<Answer> {
        let answer = self.answer.take()?;
        if self.generation == fork::generation() {
            return Some(answer);
        }
        std::mem::forget(answer);
        None
    }

    /// Tells the asker of a load that it is queued.
    pub fn accept(&self) {
        if self.generation != fork::generation() {
            return;
        }
        if let Some(Answer::Load(events)) = &self.answer {
            let _ = events.try_send(Ok(event(pb::load_event::Event::Accepted(pb::Accepted {}))));
        }
    }

    /// Answers; false where that was done already, or with the answer to another question.
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

    /// Refuses; false where it was answered already.
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
        self.fail(Refusal::Closed, "nobody answers here");
    }
}

/// The service: hands every call to the node.
#[derive(Clone, Debug)]
struct Service(Arc<Events>);

impl Service {
    fn queue(&self, request: Request, answer: Answer) {
        self.0.call(Incoming {
            request,
            answer: Some(answer),
            generation: fork::generation(),
        });
    }

    async fn once(&self, request: Request) -> Result<Reply, Status> {
        let (answer, answered) = oneshot::channel();
        self.queue(request, Answer::Once(answer));
        answered
            .await
            .unwrap_or_else(|_| Err(Status::unavailable("nobody answers here")))
    }
}

macro_rules! once {
    ($self:ident, $request:ident, $kind:ident) => {
        match $self.once(Request::$kind($request.into_inner())).await? {
            Reply::$kind(reply) => Ok(Response::new(reply)),
            _ => Err(Status::internal("the answer to another question")),
        }
    };
}

#[tonic::async_trait]
impl peer_server::Peer for Service {
    async fn hello(&self, request: tonic::Request<pb::HelloMessage>) -> Result<Response<pb::HelloMessage>, Status> {
        once!(self, request, Hello)
    }

    type LoadStream = ReceiverStream<Result<pb::LoadEvent, Status>>;

    async fn load(&self, request: tonic::Request<pb::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let (events, stream) = mpsc::channel(2); // accepted, and the answer
        self.queue(Request::Load(request.into_inner()), Answer::Load(events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn write(&self, request: tonic::Request<pb::WriteRequest>) -> Result<Response<pb::WriteReply>, Status> {
        once!(self, request, Write)
    }

    async fn tell(&self, request: tonic::Request<pb::TellRequest>) -> Result<Response<pb::TellReply>, Status> {
        once!(self, request, Tell)
    }

    async fn hand_over(
        &self,
        _request: tonic::Request<pb::HandOverRequest>,
    ) -> Result<Response<pb::HandOverReply>, Status> {
        Err(Status::unimplemented("this node takes no hand-over"))
    }
}

/// A message that is too large is RESOURCE_EXHAUSTED, as in other languages; tonic alone calls it OUT_OF_RANGE, which
/// nothing else here does.
fn as_elsewhere<B>(mut response: http::Response<B>) -> http::Response<B> {
    if let Some(status) = response.headers_mut().get_mut("grpc-status")
        && status == "11"
    {
        *status = HeaderValue::from_static("8");
    }
    response
}

/// Serves the HTTP/2 connections that `connections` brings, until `stopping` and then to the end of each call: nodes,
/// foreign clients (values of at most `max_value` bytes), and who asks whether the node is ready.
pub async fn serve(
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    clients: Foreign,
    state: watch::Receiver<State>,
    security: Arc<Security>,
    max_value: usize,
    max_message: usize,
    stopping: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let peer = peer_server::PeerServer::new(Service(clients.events.clone()))
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message);
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(100_000)
        .layer(MapResponseLayer::new(as_elsewhere))
        .add_service(InterceptedService::new(peer, Bearer(security.clone())))
        .add_service(InterceptedService::new(
            foreign::service(clients, max_value, max_message),
            Bearer(security),
        ))
        .add_service(foreign::health(state))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stopping)
        .await
}
