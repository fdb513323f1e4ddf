//! pb.KamaCache, the service of KamaCache-Go's nodes, for foreign gRPC clients; and grpc.health.v1.
//!
//! Memory answers at once what it has; the node's Python answers the rest. A call that is cancelled or late is dropped,
//! and so is its request to Python.
use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::watch, time::timeout};
use tonic::{Request, Response, Status};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::http::State;
use crate::{
    call::{ClientReply, ClientRequest, Incoming, KEY, NO_KEY, is_key, nobody},
    events::Events,
    marked,
    memory::{self, Groups, Memory},
    proto::foreign::{self as pb, kama_cache_server},
};

/// Bytes of a message beside its value: the name of a group, a key, and their tags.
const ROOM: usize = KEY + 1024;

/// Bytes of the name of a service that is probed. Strangers probe too, and tonic takes memory by what they claim.
const PROBE: usize = 4096;

#[derive(Clone)]
pub struct Foreign {
    pub groups: Arc<Groups>,
    pub events: Arc<Events>,
}

impl Foreign {
    fn find(&self, request: &pb::Request) -> Result<Arc<dyn Memory>, Status> {
        if request.group.is_empty() {
            return Err(Status::invalid_argument("group is empty"));
        }
        if !is_key(&request.key) {
            return Err(Status::invalid_argument(NO_KEY));
        }
        memory::group(&self.groups, request.group.as_bytes()).ok_or_else(|| Status::not_found("no such group here"))
    }

    async fn ask(
        &self,
        command: &'static str,
        request: pb::Request,
        value: Option<Bytes>,
        limit: Option<Duration>,
    ) -> Result<ClientReply, Status> {
        let (incoming, answer) = Incoming::client(ClientRequest {
            command,
            keys: vec![(request.group, request.key)],
            value,
            ..ClientRequest::default()
        });
        self.events.call(incoming);
        let answered = match limit {
            None => answer.await,
            Some(limit) => {
                timeout(limit, answer).await.map_err(|_| Status::deadline_exceeded("the time of this call is over"))?
            }
        };
        answered.unwrap_or_else(|_| Err(nobody())).map_err(|refused| Status::new(refused.refusal.code(), refused.text))
    }
}

/// Returns the time that the client gives a call, less a little: the server ends a late call as well, but as cancelled.
fn limit<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok()?;
    let whole = match unit {
        "H" => Duration::from_secs(number.checked_mul(3600)?),
        "M" => Duration::from_secs(number.checked_mul(60)?),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(whole.saturating_sub(Duration::from_millis(2)))
}

#[tonic::async_trait]
impl kama_cache_server::KamaCache for Foreign {
    async fn get(&self, request: Request<pb::Request>) -> Result<Response<pb::ResponseForGet>, Status> {
        let limit = limit(&request);
        let request = request.into_inner();
        let memory = self.find(&request)?;
        let mut found = None;
        memory.get(&request.key, &mut |here| found = here.map(|value| value.map(|held| held.keep())));
        let value = match found {
            Some(value) => value,
            None => self.ask("get", request, None, limit).await?.values.into_iter().next().flatten(),
        };
        let value = value.and_then(marked::shown_of).ok_or_else(|| Status::not_found("no such key"))?;
        Ok(Response::new(pb::ResponseForGet { value }))
    }

    async fn set(&self, request: Request<pb::Request>) -> Result<Response<pb::ResponseForGet>, Status> {
        let limit = limit(&request);
        let mut request = request.into_inner();
        self.find(&request)?;
        let value = std::mem::take(&mut request.value);
        self.ask("set", request, Some(value.clone()), limit).await?;
        Ok(Response::new(pb::ResponseForGet { value }))
    }

    async fn delete(&self, request: Request<pb::Request>) -> Result<Response<pb::ResponseForDelete>, Status> {
        let limit = limit(&request);
        let request = request.into_inner();
        self.find(&request)?;
        self.ask("del", request, None, limit).await?;
        Ok(Response::new(pb::ResponseForDelete { value: true }))
    }
}

/// Returns the service for values of at most `max_value` bytes.
pub fn service(foreign: Foreign, max_value: usize, max_message: usize) -> kama_cache_server::KamaCacheServer<Foreign> {
    kama_cache_server::KamaCacheServer::new(foreign)
        .max_decoding_message_size(max_value.saturating_add(ROOM).min(max_message))
        .max_encoding_message_size(max_message)
}

/// Returns the health service: the node and each of its services are serving while the node is ready. So is the service
/// of its cluster, for which KamaCache-Go's nodes are asked.
pub fn health(mut state: watch::Receiver<State>, cluster: String) -> HealthServer<HealthService> {
    let reporter = HealthReporter::new();
    let service = HealthService::from_health_reporter(reporter.clone());
    let server = HealthServer::new(service).max_decoding_message_size(PROBE);
    tokio::spawn(async move {
        loop {
            let status = match *state.borrow_and_update() {
                State::Ready => ServingStatus::Serving,
                State::Joining | State::Leaving => ServingStatus::NotServing,
            };
            for service in ["", "pb.KamaCache", "kamacache.v1.Peer", &cluster] {
                reporter.set_service_status(service, status).await;
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    });
    server
}
