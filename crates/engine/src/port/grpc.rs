//! kamacache.v1.Peer, served beside what foreign.rs has: each call becomes an `Incoming` that the node answers in its own time.
use std::{future::Future, sync::Arc};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Response, Status,
    codegen::http::{self, HeaderValue},
    service::interceptor::InterceptedService,
};
use tower::util::MapResponseLayer;

use super::{
    auth::Bearer,
    foreign::{self, Foreign},
    http::State,
    http2::{CONNECTION_WINDOW, Connection, STREAM_WINDOW},
};
use crate::{
    call::{Answer, Incoming, Reply, Request},
    events::Events,
    proto::peer::{self as pb, peer_server},
    security::Security,
};

/// The service: hands every call to the node.
#[derive(Clone, Debug)]
struct Service(Arc<Events>);

impl Service {
    fn queue(&self, request: Request, answer: Answer) {
        self.0.call(Incoming::new(request, answer));
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
