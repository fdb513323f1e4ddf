//! Accepts connections, and finds out by their first bytes what they speak.
use std::{future::Future, io, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use tokio::{
    io::AsyncReadExt,
    sync::mpsc,
    task::{spawn_blocking, yield_now},
    time::{Instant, timeout, timeout_at},
};

use super::{
    http,
    http2::Connection,
    places::{Closed, Place, Places},
    resp,
    room::Room,
    stream::{Acceptor, Stream},
    tls,
};
use crate::{events::Events, memory::Groups, resp::Limits, security::Security, socket::Listener};

pub const BUFFER: usize = 16 * 1024;
/// Time between looks for the file of a Unix socket, while nobody connects.
const LOOK: Duration = Duration::from_secs(1);

/// The number of descriptors of a process without a limit.
const DESCRIPTORS: u64 = 1 << 20;
/// How HTTP/2 begins.
const HTTP2: &[u8; 4] = b"PRI ";

/// What every connection needs.
#[derive(Clone)]
pub struct Shared {
    pub groups: Arc<Groups>,
    /// The queue for requests of clients that memory does not answer.
    pub events: Arc<Events>,
    pub status: Arc<http::Status>,
    pub limits: Limits,
    pub room: Room,
    pub security: Arc<Security>,
    /// A connection must complete a TLS handshake, a request of HTTP/1.1 and first bytes other than RESP's within this
    /// time, and give the password if there is one.
    pub patience: Duration,
    /// Connections for the gRPC server.
    pub http2: mpsc::Sender<io::Result<Connection>>,
}

/// Accepts until the runtime ends, then removes the file of a Unix socket. If it was removed by others, it is made anew.
pub async fn accept(listener: Listener, shared: Shared) -> io::Result<()> {
    let Listener { socket, address, file } = listener;
    let mut acceptor = Acceptor::new(socket, &address)?;
    let mut file = file; // removed before the socket is closed: later another file could have its inode
    let places = Places::new(most());
    loop {
        let accepted = match &file {
            None => acceptor.accept().await,
            Some(present) => match timeout(LOOK, acceptor.accept()).await {
                Ok(accepted) => accepted,
                Err(_) if present.is_there() => continue,
                Err(_) => {
                    let named = address.clone();
                    let bound = spawn_blocking(move || Listener::bind(&named, std::slice::from_ref(&named))); // may wait for a lock
                    if let Ok(Ok(again)) = bound.await {
                        if let Ok(accepting) = Acceptor::new(again.socket, &address) {
                            (acceptor, file) = (accepting, again.file);
                        }
                    }
                    continue;
                }
            },
        };
        match accepted {
            Ok(stream) => {
                if let Some((place, closed)) = places.take(stream.origin(), shared.security.password.is_none()) {
                    tokio::spawn(serve(stream, place, closed, shared.clone()));
                    yield_now().await; // one that gave way closes its socket before the next is accepted
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Mostly for want of descriptors: the connection waits in the backlog.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Returns how many connections may be open at a time: all descriptors but an eighth, at least 64, which are left to
/// the application.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(DESCRIPTORS, |limit| limit.min(DESCRIPTORS));
    (limit - (limit / 8).max(64).min(limit / 2)) as usize
}

/// Returns whether these first bytes show which protocol is spoken. All 24 bytes of the preface of HTTP/2 are awaited
/// here, where their time is limited.
fn is_told(input: &[u8]) -> bool {
    match input.first_chunk() {
        _ if input.first() == Some(&b'*') => true,
        Some(HTTP2) => input.len() >= 24,
        told => told.is_some(),
    }
}

/// Serves one connection to its end, or until it gives its place to another. A client that breaks off needs no report.
async fn serve(stream: Stream, place: Arc<Place>, mut closed: Closed, shared: Shared) {
    let begun = async {
        let stream = tls::accept(stream, &shared.security, shared.patience).await?;
        begin(stream, &shared).await
    };
    let Some((stream, input, deadline)) = while_it_may(&mut closed, begun).await.flatten() else { return };
    let served = async {
        match input.first_chunk() {
            _ if input[0] == b'*' => resp::serve(stream, input, deadline, &place, &shared).await,
            Some(HTTP2) => return Some((stream, input)),
            Some(first) if first[0] == tls::HANDSHAKE => tls::refuse(stream).await,
            Some(first) if http::is_method(first) => http::serve(stream, input, &shared.status, shared.patience).await,
            _ => Ok(()),
        }
        .ok()?;
        None
    };
    if let Some((stream, input)) = while_it_may(&mut closed, served).await.flatten() {
        let until = (!place.is_open()).then_some(deadline);
        let connection = Connection::new(input, stream, place.clone(), until, closed);
        let _ = shared.http2.send(Ok(connection)).await;
    }
}

/// Works on a connection unless that is told to close. None: it was.
async fn while_it_may<T>(closed: &mut Closed, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = closed => None,
        done = work => Some(done),
    }
}

/// Reads the first bytes of a connection, which show what it speaks, and returns until when it must give the password.
async fn begin(mut stream: Stream, shared: &Shared) -> Option<(Stream, Vec<u8>, Instant)> {
    let mut deadline = Instant::now() + shared.patience;
    let mut input = Vec::with_capacity(BUFFER);
    while !is_told(&input) {
        let idle = input.is_empty() && shared.security.password.is_none(); // without a password a client may connect long before it asks
        let read = stream.read_buf(&mut input);
        let read = if idle {
            let read = read.await;
            deadline = Instant::now() + shared.patience;
            read
        } else {
            timeout_at(deadline, read).await.unwrap_or(Ok(0))
        };
        match read {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
    Some((stream, input, deadline))
}
