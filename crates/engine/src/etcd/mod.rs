//! A session with etcd that keeps leases alive, keeps keys written under them, mirrors prefixes, and recovers by itself.
//!
//! The session owns one thread, which runs no Python, so the leases live while the interpreter is busy. Callers state
//! the entries that they want. They wait until etcd has them, until the session knows that etcd is out of reach, or
//! until their time is up.
mod connection;
mod keeper;
pub mod state;

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    runtime::Builder,
    sync::{Notify, oneshot},
};

pub use connection::{Options, TlsFiles, Trouble, TroubleKind};
use state::{Entry, State};

use crate::{
    fork,
    proto::etcd as pb,
    sync::{Condvar, Mutex},
};

/// The part that callers and the thread share. `changed` follows every change of `state` that the thread makes.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: Notify,
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

pub struct Session {
    shared: Arc<Shared>,
    options: Arc<Options>,
    running: Mutex<Option<Running>>,
    generation: u64,
}

impl Session {
    /// Makes a session that connects at its first use.
    pub fn new(options: Options) -> Self {
        Self {
            shared: Arc::default(),
            options: Arc::new(options),
            running: Mutex::default(),
            generation: fork::generation(),
        }
    }

    /// Checks the options; the error says what is wrong with them.
    pub fn check(&self) -> Result<(), String> {
        if self.options.endpoints.is_empty() {
            return Err("needs endpoints".into());
        }
        match &self.options.tls {
            Some(files) => files.read().map(drop),
            None => Ok(()),
        }
    }

    /// Returns whether this process is a forked child of the one that made it.
    pub fn is_forked(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Starts the thread if need be. Every use begins here: a forked child must not touch the parent's locks.
    fn begin(&self) -> Result<(), Trouble> {
        if self.is_forked() {
            return Err(Trouble::away("this session with etcd belongs to the parent process"));
        }
        let mut running = self.running.lock();
        if self.shared.state.lock().closed {
            return Err(closed());
        }
        if running.is_none() {
            *running = Some(self.start().map_err(|error| Trouble::away(error.to_string()))?);
        }
        drop(running);
        Ok(())
    }

    fn start(&self) -> std::io::Result<Running> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
        let (shared, options) = (self.shared.clone(), self.options.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("kamacache-etcd".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = keeper::run(&shared, &options) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background(); // a name may still be looked up
        })?;
        Ok(Running { stop, thread })
    }

    /// Keeps these entries written from now on, in this order, and returns once they are, under leases that live. After
    /// a failure the session goes on trying.
    pub fn register(&self, entries: Vec<Entry>, within: Duration) -> Result<(), Trouble> {
        self.begin()?;
        self.shared.state.lock().want(entries);
        self.wait_for(within, |state| state.is_registered().then_some(()))
    }

    /// Withdraws the entries by revoking their leases, the longest first. A node that has taken a key over keeps it.
    pub fn withdraw(&self, within: Duration) -> Result<(), Trouble> {
        if self.is_forked() || self.running.lock().is_none() {
            return Ok(());
        }
        self.shared.state.lock().want(Vec::new());
        self.wait_for(within, |state| state.is_done().then_some(()))
    }

    /// Returns the entries under a prefix: as old as this call at most, or as the watch brought them a moment ago.
    pub fn list(&self, prefix: &Bytes, within: Duration) -> Result<Vec<(Bytes, Bytes)>, Trouble> {
        self.begin()?;
        let question = self.shared.state.lock().ask(prefix);
        self.wait_for(within, |state| {
            let here = question.is_none_or(|question| state.is_answered(prefix, question));
            here.then(|| state.list(prefix))
        })
    }

    /// Drops another session's key, which a list has shown, with all that is bound to its lease. Waits for nothing.
    pub fn drop_key(&self, key: &Bytes) -> Result<(), Trouble> {
        self.begin()?;
        self.shared.state.lock().drop_key(key);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Waits until a list may have changed since `seen`. The returned number differs from `seen` then.
    pub fn wait(&self, seen: u64, within: Duration) -> Result<u64, Trouble> {
        self.begin()?;
        let deadline = Instant::now() + within;
        let mut state = self.shared.state.lock();
        while state.changes == seen && !state.closed {
            let in_time;
            (state, in_time) = self.shared.changed.wait_until(state, deadline);
            if !in_time {
                break;
            }
        }
        if state.closed { Err(closed()) } else { Ok(state.changes) }
    }

    /// Returns whether the entries are in etcd, under leases that live.
    pub fn is_registered(&self) -> bool {
        !self.is_forked() && self.shared.state.lock().is_registered()
    }

    fn wait_for<R>(&self, within: Duration, ready: impl Fn(&State) -> Option<R>) -> Result<R, Trouble> {
        self.shared.wake.notify_one();
        let deadline = Instant::now() + within;
        let mut state = self.shared.state.lock();
        loop {
            if let Some(result) = ready(&state) {
                return Ok(result);
            }
            if state.closed {
                return Err(closed());
            }
            if let Some(trouble) = &state.trouble {
                return Err(trouble.clone());
            }
            let in_time;
            (state, in_time) = self.shared.changed.wait_until(state, deadline);
            if !in_time {
                let endpoints = self.options.endpoints.join(", ");
                return Err(Trouble::away(format!("etcd at {endpoints} does not answer")));
            }
        }
    }

    /// Withdraws the entries within this time, and ends the thread. May be called twice.
    pub fn close(&self, within: Duration) {
        if self.is_forked() {
            return;
        }
        let _ = self.withdraw(within); // if that fails, the lease ends by itself
        let running = self.running.lock().take();
        self.shared.update(|state| state.closed = true);
        if let Some(running) = running {
            let _ = running.stop.send(());
            let _ = running.thread.join();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

fn closed() -> Trouble {
    Trouble::away("the session with etcd is closed")
}
