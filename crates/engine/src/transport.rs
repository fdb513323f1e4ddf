//! A node's port and its ways to other nodes. It owns one thread, which never runs Python and never waits for it.
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{io, mem};

use tokio::sync::oneshot;

use crate::{
    call::Request,
    events::{Begun, Event, Events},
    fork,
    memory::{Groups, Memory},
    names::Names,
    peer::{
        Failure,
        blocking::Pool,
        channel::Peers,
        dial::Dialer,
        link::Link,
        reactor::Pipeline,
        times::{self, Times},
    },
    port::{
        foreign::Foreign,
        grpc,
        http::Status,
        room::Room,
        server::{self, Shared},
    },
    resp::Limits,
    runtime::Runtime,
    security::Security,
    socket::{Address, Listener},
    sync::Mutex,
};

/// Bytes of one RESP command: a batch of a great many keys, or one of the largest value.
const COMMAND: usize = 64 << 20;
/// Bytes of all requests that have not arrived in full.
const UNFINISHED: usize = 256 << 20;
/// A request must arrive in full within this time.
const ARRIVAL: Duration = Duration::from_secs(60);
/// A close waits this long until answers have left.
const LAST: Duration = Duration::from_millis(250);
/// The thread wakes at least this often.
const TICK: Duration = Duration::from_millis(100);

/// The services of the port, once there is one.
struct Server {
    shared: Shared,
    ending: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

pub struct Transport {
    runtime: Arc<Runtime>,
    server: Mutex<Option<Server>>,
    groups: Arc<Groups>,
    events: Arc<Events>,
    status: Arc<Status>,
    security: Arc<Security>,
    names: Names,
    peers: Arc<Peers>,
    pool: Pool,
    times: Arc<Times>,
    ids: AtomicU64,
    max_message: usize,
    max_value: usize,
    patience: Duration,
    generation: u64,
}

impl Transport {
    /// gRPC messages and arguments of RESP commands have at most `max_message` bytes, values of foreign gRPC clients
    /// `max_value`. A client must show within `patience` that it may stay (see `Shared`).
    pub fn new(
        max_message: usize,
        max_value: usize,
        patience: Duration,
        security: Arc<Security>,
        groups: Arc<Groups>,
    ) -> Self {
        let (events, times) = (Arc::<Events>::default(), Arc::<Times>::default());
        let names = Names::default();
        let served = groups.clone();
        // Whenever its thread wakes, and before it answers.
        let runtime = Arc::new(Runtime::new(move || {
            served.stood();
        }));
        let dialer = Dialer { runtime: runtime.clone(), names: names.clone(), security: security.clone() };
        Self {
            runtime,
            server: Mutex::default(),
            groups,
            status: Arc::new(Status::new(events.clone(), security.clone())),
            events,
            peers: Arc::new(Peers::new(names.clone(), security.clone(), max_message)),
            pool: Pool::new(dialer, times.clone()),
            names,
            times,
            security,
            ids: AtomicU64::new(0),
            max_message,
            max_value,
            patience,
            generation: fork::generation(),
        }
    }

    /// Fails in a forked child. Every use begins here, as a child must not touch the parent's locks.
    fn alive(&self) -> Result<(), Failure> {
        if self.generation == fork::generation() { Ok(()) } else { Err(Failure::forked()) }
    }

    /// Returns whether this process is a forked child of the one that made it.
    pub fn is_forked(&self) -> bool {
        self.alive().is_err()
    }

    /// Starts the services unless they run.
    fn server(&self) -> io::Result<Shared> {
        let mut server = self.server.lock();
        if let Some(server) = &*server {
            return Ok(server.shared.clone());
        }
        let (http2, connections) = tokio::sync::mpsc::channel(64);
        let clients = Foreign { groups: self.groups.clone(), events: self.events.clone() };
        let (ending, until) = oneshot::channel::<()>();
        let (tell, ended) = mpsc::channel();
        let (state, security) = (self.status.state(), self.security.clone());
        let limits =
            Limits { arguments: 1 << 20, argument: self.max_message, command: COMMAND.max(2 * self.max_message) };
        let room = Room::new(UNFINISHED.max(2 * limits.command), ARRIVAL);
        let sizes = grpc::Sizes { max_value: self.max_value, max_message: self.max_message, room: room.clone() };
        self.runtime.spawn(async move {
            let until = async {
                let _ = until.await;
            };
            let _ = grpc::serve(connections, clients, state, security, sizes, until).await;
            drop(tell);
        })?;
        self.runtime.spawn(watch(self.groups.clone(), self.events.clone()))?;
        let shared = Shared {
            groups: self.groups.clone(),
            events: self.events.clone(),
            status: self.status.clone(),
            limits,
            room,
            security: self.security.clone(),
            patience: self.patience,
            http2,
        };
        *server = Some(Server { shared: shared.clone(), ending, ended });
        Ok(shared)
    }

    /// Binds an address, whose name is resolved within that time, and serves it: with the socket that is `given`, if there
    /// is one. Returns the address bound.
    pub fn listen(&self, address: &str, within: Duration, given: Option<OwnedFd>) -> io::Result<String> {
        self.alive().map_err(io::Error::other)?;
        let (address, names) = (address.parse::<Address>()?, self.names.clone());
        if let Some(socket) = given {
            return self.accept(Listener::inherited(address, socket)?);
        }
        let (tell, told) = mpsc::sync_channel(1);
        let named = address.clone();
        self.runtime.spawn(async move { drop(tell.send(names.find(&named).await)) })?;
        let slow = |_| Err(io::Error::other("its name could not be resolved in time"));
        self.accept(Listener::bind(&address, &told.recv_timeout(within).unwrap_or_else(slow)?)?)
    }

    fn accept(&self, listener: Listener) -> io::Result<String> {
        let bound = listener.address.to_string();
        let accept = server::accept(listener, self.server()?);
        self.runtime.spawn(async { drop(accept.await) })?;
        Ok(bound)
    }

    /// Answers for this group from now on.
    pub fn serve(&self, memory: Arc<dyn Memory>) {
        if self.alive().is_ok() {
            let before = self.groups.named.lock().insert(memory.name().to_owned(), memory);
            drop(before);
        }
    }

    pub fn hide(&self, group: &str) {
        if self.alive().is_ok() {
            let before = self.groups.named.lock().remove(group);
            drop(before);
        }
    }

    /// Returns the connections for reads on the caller's own thread.
    pub fn pool(&self) -> Result<&Pool, Failure> {
        self.alive()?;
        if self.runtime.is_closed() {
            return Err(Failure::ended());
        }
        Ok(&self.pool)
    }

    /// Returns an id that no other call or connect has.
    pub fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a call; its end is an event of that id.
    pub fn call(&self, id: u64, address: &str, request: Request, within: Option<Duration>) -> Result<(), Failure> {
        self.alive()?;
        let (address, peers) = (address.to_owned(), self.peers.clone());
        let (times, asked) = (self.times.of(&address), Instant::now());
        let (call, cancelled) = (self.begin(id, Event::Done), self.peers.begin(id));
        let task = async move {
            let kind = times::kind(&request);
            let result = peers.clone().call(address, request, within, cancelled).await;
            peers.cancel(id); // it is over
            times.of_kind(kind).observe(asked.elapsed());
            call.end(result);
        };
        self.runtime.spawn(task).map_err(|error| Failure::unspawned(&error))
    }

    /// Cancels a call. Its end is an event all the same.
    pub fn cancel(&self, id: u64) {
        self.peers.cancel(id);
    }

    /// Starts a connect for an event loop; its end is an event of that id.
    pub fn connect(&self, id: u64, address: &str) -> Result<(), Failure> {
        self.alive()?;
        let begun = self.begin(id, Event::Connected);
        let named = address.to_owned();
        let then = move |link: Result<Link, Failure>| begun.end(link.map(|link| (named, link)));
        let _ = self.pool.dialer.start(address, then); // as above
        Ok(())
    }

    fn begin<T>(&self, id: u64, end: fn(u64, Result<T, Failure>) -> Event) -> Begun<T> {
        Begun::new(self.events.clone(), end, id)
    }

    /// Returns the driver of a connection for an event loop; the times of its answers are counted here.
    pub fn pipeline<T>(&self, address: String, link: Link) -> Pipeline<T> {
        let times = self.times.of(&address);
        Pipeline::new(address, link, times)
    }

    /// Returns the state of this node, as HTTP reports it.
    pub fn status(&self) -> Result<&Status, Failure> {
        self.alive()?;
        Ok(&self.status)
    }

    /// Returns how long peers have taken to answer.
    pub fn times(&self) -> Result<Vec<times::Read>, Failure> {
        self.alive()?;
        Ok(self.times.read())
    }

    /// Returns the next event; None after that time, or when closed.
    pub fn next_event(&self, timeout: Duration) -> Result<Option<Event>, Failure> {
        self.alive()?;
        Ok(self.events.next(timeout))
    }

    /// Closes the connections to an address. Calls that wait on them fail, unless the peer still finishes what it
    /// serves.
    pub fn forget(&self, address: &str, finishing: bool) -> Result<(), Failure> {
        self.alive()?;
        self.pool.forget(address);
        self.peers.forget(address, finishing);
        self.times.forget(address);
        self.names.forget(address);
        Ok(())
    }

    /// Stops listening, fails waiting calls, ends the thread.
    pub fn close(&self) {
        if self.alive().is_err() {
            return;
        }
        let server = self.server.lock().take();
        if let Some(server) = server {
            drop(server.ending);
            let _ = server.ended.recv_timeout(LAST); // time to write the answers, those over RESP too
        }
        self.runtime.close();
        self.events.close();
        self.pool.clear();
        let groups = mem::take(&mut *self.groups.named.lock());
        drop(groups);
    }
}

/// Reports when this process has stood still.
async fn watch(groups: Arc<Groups>, events: Arc<Events>) {
    let mut reported = 0;
    loop {
        tokio::time::sleep(TICK).await;
        let stood = groups.stood();
        if stood != 0 && stood != reported {
            reported = stood;
            events.ended(Event::Stood);
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}
