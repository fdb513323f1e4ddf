//! Connects to peers on the runtime. Names are resolved and all their addresses tried.
use std::{
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{CONNECT, Failure, is_refusal, link::Link};
use crate::{
    names::Names, port::stream::Stream, runtime::Runtime, security::Security, socket::Address, tracked::Tracked,
};

/// An address of a name is tried alone for this long, then the next one beside it.
const HEAD_START: Duration = Duration::from_millis(50);
/// Pause before a Unix socket with a full backlog is tried again.
const AGAIN: Duration = Duration::from_millis(5);

/// Connects within `CONNECT` to the first place of an address that accepts.
pub async fn dial(address: &Address, names: &Names) -> io::Result<Stream> {
    let deadline = Instant::now() + CONNECT;
    let Ok(places) = timeout_at(deadline, names.find(address)).await else {
        return Err(io::Error::other("the resolver has not answered yet"));
    };
    timeout_at(deadline, first(places?)).await?
}

async fn first(places: Vec<Address>) -> io::Result<Stream> {
    let (mut places, mut attempts) = (places.into_iter(), JoinSet::new());
    let mut failed: Option<io::Error> = None;
    loop {
        let ended = match places.next() {
            Some(place) => {
                attempts.spawn(connect(place));
                let Ok(ended) = timeout(HEAD_START, attempts.join_next()).await else {
                    continue;
                };
                ended
            }
            None => attempts.join_next().await,
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            // A refusal says that the peer is gone, so it counts only if every place refuses.
            Some(Ok(Err(error))) if failed.as_ref().is_none_or(is_refusal) => failed = Some(error),
            Some(_) => {}
            None => return Err(failed.unwrap_or_else(|| io::Error::other("the name has no address"))),
        }
    }
}

async fn connect(place: Address) -> io::Result<Stream> {
    loop {
        match Stream::connect(&place).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(AGAIN).await,
            connected => return connected,
        }
    }
}

/// Connects for threads and event loops outside the runtime.
pub struct Dialer {
    pub runtime: Arc<Runtime>,
    pub names: Names,
    pub security: Arc<Security>,
}

impl Dialer {
    /// Connects and calls `then` on the runtime, or drops it uncalled if the runtime ends before that.
    pub fn start(
        &self,
        address: &str,
        then: impl FnOnce(Result<Link, Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io(address, &error);
        let to: Address = address.parse().map_err(failed)?;
        let (names, security, text) = (self.names.clone(), self.security.clone(), address.to_owned());
        let task = async move {
            let linked = async { Link::new(socket(dial(&to, &names).await?)?, &to, &security) };
            then(linked.await.map_err(|error| Failure::io(&text, &error)));
        };
        self.runtime.spawn(task).map_err(|error| Failure::unspawned(&error))
    }
}

/// Takes a connection off the runtime.
fn socket(stream: Stream) -> io::Result<Tracked<OwnedFd>> {
    match stream {
        Stream::Tcp(stream) => stream.try_map(|stream| Ok(stream.into_std()?.into())),
        Stream::Unix(stream) => stream.into_socket(),
        Stream::Tls(_) => Err(io::Error::other("not what `dial` makes")),
    }
}
