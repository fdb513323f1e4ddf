//! The thread of a transport and its runtime, started by the first task. No Python runs on it, and nothing that takes
//! long: work on many keys or bytes goes to threads of its own (`aside`), and copies yield to other tasks (`Pace`).
use std::{
    fs,
    future::Future,
    io, mem,
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{
    net::UnixStream,
    runtime::{Builder, Handle},
    sync::oneshot,
    task::{spawn_blocking, yield_now},
};

use crate::{sync::Mutex, tracked::Also};

/// Threads for heavy work, which waits for them in the order in which it came.
const HEAVY: usize = 2;
/// Work on more keys, or on more bytes, is heavy.
pub const MANY: usize = 1000;
pub const LONG: usize = 16 * 1024;
/// Bytes that are copied before other tasks have a turn.
pub const TURN: usize = 256 * 1024;

/// Does work that takes long while other tasks go on. It fails only if it panics, or if the runtime ends.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

/// Drops what takes long to drop, while other tasks go on.
pub fn discard<T: Send + 'static>(value: T) {
    match Handle::try_current() {
        Ok(handle) => drop(handle.spawn_blocking(move || drop(value))),
        Err(_) => drop(value), // not on the thread of a transport
    }
}

/// The turns of a task that does much in small steps.
#[derive(Default)]
pub struct Pace(usize);

impl Pace {
    /// Counts a step over that many bytes, and gives others a turn after a thousand steps or `TURN` bytes.
    pub async fn step(&mut self, bytes: usize) {
        self.0 += TURN / MANY + bytes;
        if self.0 >= TURN {
            self.0 = 0;
            yield_now().await;
        }
    }
}

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Running {
        handle: Handle,
        stop: oneshot::Sender<()>,
        thread: JoinHandle<()>,
    },
    Closed,
}

pub struct Runtime {
    state: Mutex<State>,
    woken: Arc<dyn Fn() + Send + Sync>,
}

impl Runtime {
    /// `woken` is called on the thread each time it wakes, before all else.
    pub fn new(woken: impl Fn() + Send + Sync + 'static) -> Self {
        Self { state: Mutex::default(), woken: Arc::new(woken) }
    }

    /// Starts a task, and before the first one the thread.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let mut state = self.state.lock();
        if matches!(*state, State::Idle) {
            *state = Self::start(self.woken.clone())?;
        }
        match &*state {
            State::Running { handle, .. } => drop(handle.spawn(task)),
            _ => {
                let text = "this node's transport is closed";
                return Err(io::Error::new(io::ErrorKind::NotConnected, text));
            }
        }
        Ok(())
    }

    fn start(woken: Arc<dyn Fn() + Send + Sync>) -> io::Result<State> {
        let (runtime, also) = Also::open(|| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .on_thread_unpark(move || woken())
                .thread_name("kamacache-heavy")
                .max_blocking_threads(HEAVY)
                .build()?;
            let own = descriptors(runtime.handle()).unwrap_or_default();
            Ok((runtime, own))
        })?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("kamacache-wire".into()).spawn(move || {
            let _ = runtime.block_on(stopped);
            drop(also);
            runtime.shutdown_background();
        })?;
        Ok(State::Running { handle, stop, thread })
    }

    pub fn is_closed(&self) -> bool {
        matches!(*self.state.lock(), State::Closed)
    }

    /// Drops all tasks and ends the thread.
    pub fn close(&self) {
        let state = mem::replace(&mut *self.state.lock(), State::Closed);
        if let State::Running { stop, thread, .. } = state {
            let _ = stop.send(()); // the runtime drops its tasks: listeners, connections, calls
            let _ = thread.join();
        }
    }
}

/// Finds the epoll of a runtime, its copies, and the eventfd that wakes it. Tokio does not expose them, but /proc shows
/// which epoll watches a socket of this runtime, and what else that epoll watches.
fn descriptors(runtime: &Handle) -> io::Result<Vec<RawFd>> {
    let _entered = runtime.enter();
    let (mark, _other) = UnixStream::pair()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let path = entry?.path();
        let number = |text: &str| text.parse::<RawFd>().ok();
        let told = fs::read_to_string(&path).unwrap_or_default(); // one that was just closed is not ours
        let watched = told.lines().filter_map(|line| line.strip_prefix("tfd:"));
        let watched: Vec<_> = watched.filter_map(|line| number(line.split_whitespace().next()?)).collect();
        if watched.contains(&mark.as_raw_fd()) {
            found.extend(path.file_name().and_then(|name| number(name.to_str()?)));
            found.extend(watched.into_iter().filter(is_eventfd));
        }
    }
    Ok(found)
}

fn is_eventfd(fd: &RawFd) -> bool {
    fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|what| what.as_os_str() == "anon_inode:[eventfd]")
}
