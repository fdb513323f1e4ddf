//! A node's one port and its ways to other nodes. Owns one thread, which never runs Python and never waits for it.
use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::sync::Mutex;
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{
    call::{Reply, Request},
    events::{Event, Events},
    fork,
    memory::{Groups, Memory},
    peer::{
        Failure,
        blocking::Pool,
        channel::Peers,
        reactor::Pipeline,
        times::{self, Times},
    },
    port::{
        foreign::Foreign,
        grpc,
        http::Status,
        server::{self, Shared},
    },
    resp::Limits,
    security::Security,
    socket::Listener,
};

/// Bytes of one RESP command: a batch of a great many keys, or one of the largest value.
const COMMAND: usize = 64 << 20;
/// For what was answered before a close to reach those who asked.
const LAST: Duration = Duration::from_millis(250);

/// The thread and its runtime.
#[derive(Debug)]
struct Running {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    shared: Shared,
}

#[derive(Debug)]
enum State {
    Idle,
    Running(Running),
    Closed,
}

pub struct Transport {
    state: Mutex<State>,
    groups: Arc<Groups>,
    events: Arc<Events>,
    status: Arc<Status>,
    security: Arc<Security>,
    peers: Arc<Peers>,
    pool: Pool,
    times: Arc<Times>,
    calls: AtomicU64,
    max_message: usize,
    max_value: usize,
    generation: u64,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A started call: dropped before its end (the runtime stops), it ends as a failure.
struct Call {
    events: Arc<Events>,
    id: u64,
    result: Option<Result<Reply, Failure>>,
}

impl Call {
    fn end(mut self, result: Result<Reply, Failure>) {
        self.result = Some(result);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let closed = || Err(Failure::unreachable("this node's transport is closed"));
        self.events.done(self.id, self.result.take().unwrap_or_else(closed));
    }
}

impl Transport {
    /// gRPC messages have at most `max_message` bytes, as has an argument of a RESP command.
    pub fn new(max_message: usize, security: Arc<Security>) -> Self {
        let (events, times) = (Arc::<Events>::default(), Arc::<Times>::default());
        Self {
            state: Mutex::new(State::Idle),
            groups: Arc::default(),
            status: Arc::new(Status::new(events.clone(), security.clone())),
            events,
            peers: Arc::new(Peers::new(security.clone(), max_message)),
            pool: Pool::new(security.clone(), times.clone()),
            times,
            security,
            calls: AtomicU64::new(0),
            max_message,
            max_value: max_message,
            generation: fork::generation(),
        }
    }

    /// What foreign clients send has at most so many bytes.
    pub fn with_max_value(mut self, max_value: usize) -> Self {
        self.max_value = max_value;
        self
    }

    /// Every use begins here: in a forked child nothing of the parent's is touched, its locks least of all.
    fn alive(&self) -> Result<(), Failure> {
        if self.generation == fork::generation() {
            Ok(())
        } else {
            Err(Failure::forked())
        }
    }

    /// Whether this process is a forked child of the one that made it.
    pub fn is_forked(&self) -> bool {
        self.alive().is_err()
    }

    fn on_thread<R>(&self, act: impl FnOnce(&Running) -> R) -> io::Result<R> {
        let mut state = self.state.lock();
        if matches!(*state, State::Idle) {
            *state = State::Running(self.start()?);
        }
        match &*state {
            State::Running(running) => Ok(act(running)),
            _ => Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "this node's transport is closed",
            )),
        }
    }

    fn start(&self) -> io::Result<Running> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(4)
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (http2, connections) = mpsc::channel(64);
        let clients = Foreign {
            groups: self.groups.clone(),
            events: self.events.clone(),
        };
        let state = self.status.state();
        let (ending, ended) = oneshot::channel::<()>();
        let grpc = grpc::serve(
            connections,
            clients,
            state,
            self.security.clone(),
            self.max_value,
            self.max_message,
            async {
                let _ = ended.await;
            },
        );
        let thread = thread::Builder::new().name("kamacache-wire".into()).spawn(move || {
            runtime.block_on(async {
                let grpc = tokio::spawn(grpc);
                let _ = stopped.await;
                drop(ending);
                let _ = timeout(LAST, grpc).await; // what was answered is written; RESP takes a turn of this
            });
            runtime.shutdown_background();
        })?;
        let limits = Limits {
            arguments: 1 << 20,
            argument: self.max_message,
            command: COMMAND.max(2 * self.max_message),
        };
        Ok(Running {
            handle,
            stop,
            thread,
            shared: Shared {
                groups: self.groups.clone(),
                events: self.events.clone(),
                status: self.status.clone(),
                limits,
                security: self.security.clone(),
                http2,
            },
        })
    }

    /// Binds an address and serves it; the address bound.
    pub fn listen(&self, address: &str) -> io::Result<String> {
        self.alive().map_err(io::Error::other)?;
        let listener = Listener::bind(&address.parse()?)?;
        let bound = listener.address.to_string();
        self.on_thread(|running| running.handle.spawn(server::accept(listener, running.shared.clone())))?;
        Ok(bound)
    }

    /// Answers for this group from now on.
    pub fn serve(&self, memory: Arc<dyn Memory>) {
        if self.alive().is_ok() {
            let before = self.groups.lock().insert(memory.name().to_owned(), memory);
            drop(before);
        }
    }

    pub fn hide(&self, group: &str) {
        if self.alive().is_ok() {
            let before = self.groups.lock().remove(group);
            drop(before);
        }
    }

    /// The connections for questions on the caller's own thread.
    pub fn pool(&self) -> Result<&Pool, Failure> {
        self.alive()?;
        if matches!(*self.state.lock(), State::Closed) {
            return Err(Failure::unreachable("this node's transport is closed"));
        }
        Ok(&self.pool)
    }

    /// An id that no other call has.
    pub fn call_id(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a call; its end is an event of that id.
    pub fn call(&self, id: u64, address: &str, request: Request, within: Option<Duration>) -> Result<(), Failure> {
        self.alive()?;
        let (address, peers) = (address.to_owned(), self.peers.clone());
        let (events, times, asked) = (self.events.clone(), self.times.of(&address), Instant::now());
        let start = |running: &Running| {
            let call = Call {
                events,
                id,
                result: None,
            };
            running.handle.spawn(async move {
                let kind = times::kind(&request);
                let result = peers.call(address, request, within).await;
                times.of_kind(kind).observe(asked.elapsed());
                call.end(result);
            })
        };
        self.on_thread(start)
            .map(drop)
            .map_err(|error| Failure::unreachable(error.to_string()))
    }

    /// What HTTP says of this node.
    pub fn status(&self) -> Result<&Status, Failure> {
        self.alive()?;
        Ok(&self.status)
    }

    /// A connection for an event loop; the times of its answers count here.
    pub fn pipeline<T>(&self, address: &str) -> Result<Pipeline<T>, Failure> {
        self.alive()?;
        Pipeline::connect(address, &self.security, self.times.of(address))
    }

    /// How long peers took so far.
    pub fn times(&self) -> Result<Vec<times::Read>, Failure> {
        self.alive()?;
        Ok(self.times.read())
    }

    /// The next event; None after that time or when closed.
    pub fn next_event(&self, timeout: Duration) -> Result<Option<Event>, Failure> {
        self.alive()?;
        Ok(self.events.next(timeout))
    }

    /// Closes the connections to an address; what waits on them fails, unless the peer still finishes what it serves.
    pub fn forget(&self, address: &str, finishing: bool) -> Result<(), Failure> {
        self.alive()?;
        self.pool.forget(address);
        self.peers.forget(address, finishing);
        self.times.forget(address);
        Ok(())
    }

    /// Stops listening, fails what waits, ends the thread.
    pub fn close(&self) {
        if self.alive().is_err() {
            return;
        }
        let state = mem::replace(&mut *self.state.lock(), State::Closed);
        if let State::Running(running) = state {
            let _ = running.stop.send(()); // the runtime drops its tasks: listeners, connections, calls
            let _ = running.thread.join();
        }
        self.events.close();
        self.pool.clear();
        let groups = mem::take(&mut *self.groups.lock());
        drop(groups);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.close();
    }
}
