//! The gRPC server: kamacache.v1.Peer, whose calls become `Incoming`s for the node to answer, and the services of
//! foreign.rs.
use std::{
    convert::Infallible,
    future::{Future, ready},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Response, Status,
    body::Body,
    codegen::{
        Body as HttpBody, StdError,
        http::{self, HeaderValue},
    },
    server::NamedService,
    service::interceptor::InterceptedService,
};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};
use tower::{Service, ServiceExt};

use super::{
    auth::Bearer,
    foreign::{self, Foreign},
    http::State,
    http2::{CONNECTION_WINDOW, Connection, Door, STREAM_WINDOW, STREAMS},
    room::Room,
    whole::{Responds, Whole},
};
use crate::{
    call::{Answer, DROPPED, Incoming, Reply, Request},
    events::Events,
    memory::Groups,
    orders::{self, Refused},
    proto::{
        foreign::kama_cache_server::KamaCacheServer,
        peer::{
            self as pb,
            peer_server::{self, PeerServer},
        },
    },
    runtime::{MANY, aside},
    security::Security,
};

/// The service of other nodes. What is about writes is answered here; the node's Python answers the rest.
#[derive(Clone)]
struct Calls {
    groups: Arc<Groups>,
    events: Arc<Events>,
}

impl Calls {
    fn queue(&self, request: Request, answer: Answer) {
        self.events.call(Incoming::new(request, answer));
    }

    async fn once(&self, request: Request) -> Result<Reply, Status> {
        let (answer, answered) = oneshot::channel();
        self.queue(request, Answer::Once(answer));
        answered.await.unwrap_or_else(|_| Err(Status::unavailable(DROPPED)))
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
impl peer_server::Peer for Calls {
    async fn hello(&self, request: tonic::Request<pb::HelloMessage>) -> Result<Response<pb::HelloMessage>, Status> {
        once!(self, request, Hello)
    }

    type LoadStream = ReceiverStream<Result<pb::LoadEvent, Status>>;

    async fn load(&self, request: tonic::Request<pb::LoadRequest>) -> Result<Response<Self::LoadStream>, Status> {
        let (events, stream) = mpsc::channel(2); // accepted, and the answer
        self.queue(Request::Load(request.into_inner()), Answer::Load(events));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fill(&self, request: tonic::Request<pb::FillRequest>) -> Result<Response<pb::FillReply>, Status> {
        once!(self, request, Fill)
    }

    async fn write(&self, request: tonic::Request<pb::WriteRequest>) -> Result<Response<pb::WriteReply>, Status> {
        if request.get_ref().inherit {
            return once!(self, request, Write); // that takes questions to others
        }
        let (groups, request) = (self.groups.clone(), request.into_inner());
        let many = request.items.len() > MANY;
        aside_if(many, move || orders::write(&groups, request)).await.map(Response::new)
    }

    async fn tell(&self, request: tonic::Request<pb::TellRequest>) -> Result<Response<pb::TellReply>, Status> {
        let (groups, request) = (self.groups.clone(), request.into_inner());
        let many = request.writes.len() > MANY;
        aside_if(many, move || orders::tell(&groups, &request)).await.map(Response::new)
    }
}

/// Answers a request, on a thread for heavy work if it has many keys.
async fn aside_if<T: Send + 'static>(
    many: bool,
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Status> {
    let answered = if many { aside(work).await.map_err(|_| Status::unavailable(DROPPED))? } else { work() };
    answered.map_err(status)
}

fn status(refused: Refused) -> Status {
    match refused {
        Refused::UnknownGroup(name) => Status::not_found(format!("there is no group {name:?} on this node")),
        Refused::Invalid(text) => Status::invalid_argument(text),
    }
}

/// Changes the status of a message that is too large to RESOURCE_EXHAUSTED, as in other languages; tonic alone calls it
/// OUT_OF_RANGE, which nothing else here does.
fn as_elsewhere(mut response: http::Response<Body>) -> http::Response<Body> {
    match response.headers_mut().get_mut("grpc-status") {
        Some(status) if status == "11" => *status = HeaderValue::from_static("8"),
        _ => {}
    }
    response
}

type Served<S> = InterceptedService<Whole<S>, Bearer>;

/// The services by the names in their requests' paths.
#[derive(Clone)]
struct Services {
    peer: Served<PeerServer<Calls>>,
    foreign: Served<KamaCacheServer<Foreign>>,
    health: HealthServer<HealthService>,
    security: Arc<Security>,
}

impl Services {
    /// Returns how long a call waits before its password is looked at: none, once the connection has given it.
    fn pause(&self, request: &http::Request<Body>) -> Duration {
        let stranger = request.extensions().get::<Door>().filter(|door| !door.is_open());
        stranger.map_or(Duration::ZERO, |door| self.security.pause(&door.origin.0))
    }
}

fn respond<S, B>(service: &S, pause: Duration, request: http::Request<Body>) -> Responds
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    let responds = service.clone().oneshot(request);
    Box::pin(async move {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        Ok(as_elsewhere(responds.await?.map(Body::new)))
    })
}

impl Service<http::Request<Body>> for Services {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Responds;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Responds {
        match request.uri().path().split('/').nth(1).unwrap_or_default() {
            PeerServer::<Calls>::NAME => respond(&self.peer, self.pause(&request), request),
            KamaCacheServer::<Foreign>::NAME => respond(&self.foreign, self.pause(&request), request),
            HealthServer::<HealthService>::NAME => respond(&self.health, Duration::ZERO, request),
            _ => Box::pin(ready(Ok(Status::unimplemented("no such service").into_http()))),
        }
    }
}

/// The limits of what is served here.
pub struct Sizes {
    pub max_value: usize,
    pub max_message: usize,
    pub room: Room,
}

/// Serves the HTTP/2 connections that `connections` brings, until `stopping` and then to the end of each call: nodes,
/// foreign clients, and probes of the node's health.
pub async fn serve(
    connections: mpsc::Receiver<std::io::Result<Connection>>,
    clients: Foreign,
    state: watch::Receiver<State>,
    security: Arc<Security>,
    sizes: Sizes,
    stopping: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let Sizes { max_value, max_message, room } = sizes;
    let peer = PeerServer::new(Calls { groups: clients.groups.clone(), events: clients.events.clone() })
        .max_decoding_message_size(max_message)
        .max_encoding_message_size(max_message);
    let cluster = security.service.clone();
    let foreign = foreign::service(clients, max_value, max_message);
    let services = Services {
        peer: guarded(peer, max_message, &room, &security),
        foreign: guarded(foreign, max_message, &room, &security),
        health: foreign::health(state, cluster),
        security,
    };
    tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .serve_with_incoming_shutdown(services, ReceiverStream::new(connections), stopping)
        .await
}

/// Puts the password, and then the limits of memory, before a service.
fn guarded<S>(inner: S, most: usize, room: &Room, security: &Arc<Security>) -> Served<S> {
    InterceptedService::new(Whole { inner, most, room: room.clone() }, Bearer(security.clone()))
}
