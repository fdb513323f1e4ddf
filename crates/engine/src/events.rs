//! The reports of a transport to its node: calls of peers and clients, and the ends of the node's own calls.
//!
//! Invariant: `calls` is the number of calls in `queue`; nothing enters a closed queue but ends of own calls, so that
//! each of them is reported exactly once.
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    call::{Incoming, Refusal, Reply},
    peer::{Failure, link::Link},
    sync::{Condvar, Mutex},
};

/// Calls that may wait here; more are refused as overload. Those of clients only while half of the room is left.
const CALLS: usize = 10_000;

/// A request for the metrics. If it is dropped without an answer, the reply says that there are none.
pub struct Scrape(oneshot::Sender<String>);

impl Scrape {
    pub fn new() -> (Self, oneshot::Receiver<String>) {
        let (reply, answer) = oneshot::channel();
        (Self(reply), answer)
    }

    pub fn reply(self, text: String) {
        let _ = self.0.send(text); // the caller may be gone
    }
}

pub enum Event {
    Call(Incoming),
    Scrape(Scrape),
    Done(u64, Result<Reply, Failure>),
    /// The end of a connect.
    Connected(u64, Result<(String, Link), Failure>),
    /// This process stood still.
    Stood,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    calls: usize,
    closed: bool,
}

#[derive(Default)]
pub struct Events {
    state: Mutex<State>,
    arrived: Condvar,
}

impl Events {
    /// Queues a call, or refuses it if too many wait or the transport is closed.
    pub fn call(&self, mut call: Incoming) {
        let mut state = self.state.lock();
        let room = if call.is_client() { CALLS / 2 } else { CALLS };
        if state.closed || state.calls >= room {
            drop(state);
            call.fail(Refusal::Overloaded, "too many calls wait here");
            return;
        }
        state.calls += 1;
        state.queue.push_back(Event::Call(call));
        self.arrived.notify_one();
    }

    /// Queues a request for the metrics, or drops it if the transport is closed.
    pub fn scrape(&self, scrape: Scrape) {
        let mut state = self.state.lock();
        if !state.closed {
            state.queue.push_back(Event::Scrape(scrape));
            self.arrived.notify_one();
        }
    }

    /// Queues the end of a call or connect that this node began.
    pub fn ended(&self, end: Event) {
        let mut state = self.state.lock();
        state.queue.push_back(end);
        self.arrived.notify_one();
    }

    /// Returns the next event; None after that time, or when closed and empty.
    pub fn next(&self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        loop {
            if let Some(event) = state.queue.pop_front() {
                state.calls -= usize::from(matches!(event, Event::Call(_)));
                return Some(event);
            }
            if state.closed {
                return None;
            }
            let notified;
            (state, notified) = self.arrived.wait_until(state, deadline);
            if !notified && state.queue.is_empty() {
                return None;
            }
        }
    }

    /// Takes no more calls, drops those that wait, and wakes every waiter.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.calls = 0;
        let (ends, asked) =
            state.queue.drain(..).partition(|event| matches!(event, Event::Done(..) | Event::Connected(..)));
        state.queue = ends;
        self.arrived.notify_all();
        drop(state);
        drop::<VecDeque<Event>>(asked); // answers each, so not under the lock
    }
}

/// A call or connect of this node. If it is dropped before its end, as by a runtime that stops, it ends as a failure.
pub struct Begun<T> {
    events: Arc<Events>,
    end: fn(u64, Result<T, Failure>) -> Event,
    id: u64,
    result: Option<Result<T, Failure>>,
}

impl<T> Begun<T> {
    pub fn new(events: Arc<Events>, end: fn(u64, Result<T, Failure>) -> Event, id: u64) -> Self {
        Self { events, end, id, result: None }
    }

    pub fn end(mut self, result: Result<T, Failure>) {
        self.result = Some(result);
    }
}

impl<T> Drop for Begun<T> {
    fn drop(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(Failure::ended()));
        self.events.ended((self.end)(self.id, result));
    }
}
