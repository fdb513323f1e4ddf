//! Calls to other nodes over gRPC.
//!
//! Invariant: a `Peer` is in the table while its channel is believed good. A call counts in `waiting` while it waits;
//! while any call waits, exactly one probe task runs (`probing`).
use std::{collections::HashMap, error::Error, future::Future, io, sync::Arc, time::Duration};

use crate::sync::Mutex;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tonic::{
    Code, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Uri},
};
use tower::service_fn;

use super::{
    CONNECT, Failure, FailureKind,
    probe::{connect, probe},
};
use crate::{
    call::{Reply, Request},
    names::Names,
    port::http2::{CONNECTION_WINDOW, STREAM_WINDOW, STREAMS},
    proto::peer::{self as pb, peer_client::PeerClient},
    security::Security,
    socket::Address,
};

/// A peer must queue a load within this time.
const ACCEPT: Duration = Duration::from_millis(500);

/// A channel to another node's gRPC server.
struct Peer {
    address: Address,
    name: String,
    channel: Channel,
    alarm: watch::Sender<Option<Failure>>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    calls: usize,
    probing: bool,
}

impl Peer {
    /// Returns whether its connection takes one more call.
    fn has_room(&self) -> bool {
        self.waiting.lock().calls < STREAMS as usize
    }

    /// Returns whether no call waits any more: then the probe task ends.
    fn is_idle(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.probing = waiting.calls > 0;
        !waiting.probing
    }
}

/// Adds the password and the service to every call.
#[derive(Clone)]
struct Says(Arc<Security>);

impl Interceptor for Says {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(password) = &self.0.password {
            request.metadata_mut().insert("authorization", password.bearer().clone());
        }
        if let Some(service) = self.0.service.parse().ok().filter(|_| !self.0.service.is_empty()) {
            request.metadata_mut().insert("kamacache-service", service);
        }
        Ok(request)
    }
}

/// Channels by address.
pub struct Peers {
    peers: Mutex<HashMap<String, Vec<Arc<Peer>>>>,
    /// The calls under way, each by its id: one whose sender is dropped ends.
    calls: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    names: Names,
    security: Arc<Security>,
    max_message: usize,
}

/// Counts a call as waiting while it lives.
struct Waits(Arc<Peer>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.lock().calls -= 1;
    }
}

impl Peers {
    pub fn new(names: Names, security: Arc<Security>, max_message: usize) -> Self {
        Self { peers: Mutex::default(), calls: Mutex::default(), names, security, max_message }
    }

    /// Returns a channel to the peer of that name that has room for one more call, and counts the call. Runs on the
    /// runtime, as the channel's task starts here.
    fn wait(self: &Arc<Self>, name: &str) -> Result<Waits, Failure> {
        let mut peers = self.peers.lock();
        let known = peers.get(name).and_then(|channels| channels.iter().find(|peer| peer.has_room()).cloned());
        let peer = match known {
            Some(peer) => peer,
            None => {
                let peer = Arc::new(self.make(name)?);
                peers.entry(name.to_owned()).or_default().push(peer.clone());
                peer
            }
        };
        let mut waiting = peer.waiting.lock();
        waiting.calls += 1;
        if !waiting.probing {
            waiting.probing = true;
            let (peers, peer) = (self.clone(), peer.clone());
            tokio::spawn(async move {
                let idle = || peer.is_idle();
                if let Some(failure) = probe(&peer.address, &peer.name, &peers.names, &peers.security, idle).await {
                    peers.drop_peer(&peer);
                    peer.alarm.send_replace(Some(failure));
                } else {
                    peers.drop_further(&peer);
                }
            });
        }
        drop(waiting);
        Ok(Waits(peer))
    }

    fn make(&self, name: &str) -> Result<Peer, Failure> {
        let address: Address = name.parse().map_err(|error| Failure::io(name, &error))?;
        let (to, names, security) = (address.clone(), self.names.clone(), self.security.clone());
        let connect = service_fn(move |_: Uri| {
            let (to, names, security) = (to.clone(), names.clone(), security.clone());
            async move {
                let connected = timeout(CONNECT, connect(&to, &names, &security, true)).await;
                Ok::<_, io::Error>(TokioIo::new(connected??))
            }
        });
        // The connector knows the address; the URI is only the :authority.
        let channel = Endpoint::from_static("http://kamacache")
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_with_connector_lazy(connect);
        let alarm = watch::Sender::new(None);
        Ok(Peer { address, name: name.to_owned(), channel, alarm, waiting: Mutex::default() })
    }

    /// Drops a channel that failed, unless another has taken its place.
    fn drop_peer(&self, peer: &Arc<Peer>) {
        let mut peers = self.peers.lock();
        if let Some(channels) = peers.get_mut(&peer.name) {
            channels.retain(|now| !Arc::ptr_eq(now, peer));
            if channels.is_empty() {
                peers.remove(&peer.name);
            }
        }
    }

    /// Drops a channel that no call uses any more, unless it is the first to its peer.
    fn drop_further(&self, peer: &Arc<Peer>) {
        let mut peers = self.peers.lock();
        let Some(channels) = peers.get_mut(&peer.name) else { return };
        if channels.first().is_some_and(|first| !Arc::ptr_eq(first, peer)) {
            channels.retain(|now| !Arc::ptr_eq(now, peer) || now.waiting.lock().calls > 0);
        }
    }

    /// Closes the connections to an address. Calls that wait on them fail, unless the peer still finishes what it
    /// serves.
    pub fn forget(&self, name: &str, finishing: bool) {
        let channels = self.peers.lock().remove(name).unwrap_or_default();
        for peer in channels.iter().filter(|_| !finishing) {
            peer.alarm.send_replace(Some(Failure::unreachable(format!("{name} is gone"))));
        }
    }

    /// Takes note of a call. Returns what ends when it is cancelled.
    pub fn begin(&self, id: u64) -> oneshot::Receiver<()> {
        let (call, cancelled) = oneshot::channel();
        self.calls.lock().insert(id, call);
        cancelled
    }

    /// Ends a call, unless it has ended. A peer whose load has not begun drops it.
    pub fn cancel(&self, id: u64) {
        self.calls.lock().remove(&id);
    }

    /// Asks a peer. Without a timeout the answer may take as long as the peer answers probes.
    pub async fn call(
        self: Arc<Self>,
        address: String,
        request: Request,
        within: Option<Duration>,
        cancelled: oneshot::Receiver<()>,
    ) -> Result<Reply, Failure> {
        let waits = self.wait(&address)?;
        let peer = &waits.0;
        let mut alarm = peer.alarm.subscribe();
        let asked = async {
            match within {
                None => self.ask(peer, request).await,
                Some(within) => patient(within, self.ask(peer, request))
                    .await
                    .unwrap_or_else(|| Err(Failure::silent(&address, within))),
            }
        };
        tokio::select! {
            biased;
            result = asked => result,
            Ok(failed) = alarm.wait_for(Option::is_some) => {
                Err(failed.clone().unwrap_or_else(|| Failure::closed(&address)))
            }
            _ = cancelled => Err(Failure::unreachable("the call was cancelled")),
        }
    }

    async fn ask(&self, peer: &Arc<Peer>, request: Request) -> Result<Reply, Failure> {
        let says = Says(self.security.clone());
        let mut client = PeerClient::with_interceptor(peer.channel.clone(), says)
            .max_decoding_message_size(self.max_message)
            .max_encoding_message_size(self.max_message);
        let result = match request {
            Request::Hello(message) => client.hello(message).await.map(|reply| Reply::Hello(reply.into_inner())),
            Request::Fill(message) => client.fill(message).await.map(|reply| Reply::Fill(reply.into_inner())),
            Request::Write(message) => client.write(message).await.map(|reply| Reply::Write(reply.into_inner())),
            Request::Tell(message) => client.tell(message).await.map(|reply| Reply::Tell(reply.into_inner())),
            Request::Load(message) => match load(client, message, &peer.name).await {
                Ok(result) => result.map(Reply::Load),
                Err(failure) => {
                    self.drop_peer(peer);
                    return Err(failure);
                }
            },
            Request::Client(_) => return Err(Failure::unreachable("nodes are not asked as clients ask")),
        };
        result.map_err(|status| {
            let (failure, broken) = failure(&peer.name, &status);
            if broken {
                self.drop_peer(peer);
            }
            failure
        })
    }
}

/// Waits for the event `accepted`, within `ACCEPT`, then for the answer without a limit. The outer error: the peer is
/// silent.
async fn load(
    mut client: PeerClient<InterceptedService<Channel, Says>>,
    message: pb::LoadRequest,
    address: &str,
) -> Result<Result<pb::LoadReply, Status>, Failure> {
    use pb::load_event::Event;
    let begun = async {
        let mut events = client.load(message).await?.into_inner();
        let first = events.message().await?;
        Ok((events, first))
    };
    let (mut events, mut next) = match patient(ACCEPT, begun).await {
        None => {
            return Err(Failure::unreachable(format!("{address} did not accept the load within 500 ms")));
        }
        Some(Err(status)) => return Ok(Err(status)),
        Some(Ok(begun)) => begun,
    };
    loop {
        match next {
            Some(pb::LoadEvent { event: Some(Event::Reply(reply)) }) => return Ok(Ok(reply)),
            Some(_) => {}
            None => return Ok(Err(Status::unavailable("the load ended without an answer"))),
        }
        next = match events.message().await {
            Ok(next) => next,
            Err(status) => return Ok(Err(status)),
        };
    }
}

/// Returns the failure that a status stands for, and whether the connection is broken.
fn failure(address: &str, status: &Status) -> (Failure, bool) {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    let transport = cause.is_some();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return (Failure::io(address, error), true);
        }
        cause = error.source();
    }
    if transport {
        return (Failure::closed(address), true);
    }
    let text = || format!("{address}: {}", status.message());
    match status.code() {
        Code::ResourceExhausted => (Failure { kind: FailureKind::Overloaded, text: text() }, false),
        Code::Unauthenticated => (Failure::denied(address, status.message().as_bytes()), false),
        Code::NotFound => (Failure { kind: FailureKind::UnknownGroup, text: text() }, false),
        _ => (Failure::unreachable(text()), false),
    }
}

/// Polls once more when `timeout` would give up: if this process was stopped, the answer may lie in the socket.
async fn patient<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    match timeout(limit, &mut future).await {
        Ok(output) => Some(output),
        Err(_) => timeout(Duration::from_millis(10), future).await.ok(),
    }
}
