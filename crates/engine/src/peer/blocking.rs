//! Questions to a peer's memory on the caller's own thread, over pooled connections.
use std::{
    collections::HashMap,
    io::ErrorKind,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::sync::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    net::{RecvFlags, SendFlags, sockopt},
};

use super::{
    CONNECT, Failure,
    link::Link,
    times::{PeerTimes, Times},
};
use crate::{
    resp::{self, Reply},
    security::Security,
    socket,
    tracked::Tracked,
};

/// Idle connections kept per address.
const IDLE: usize = 16;
/// A buffer larger than this is not kept with an idle connection.
const KEEP: usize = 2 << 20;
const BUFFER: usize = 16 * 1024;
/// No reply is longer: a packed one is at most 64 MiB and what it took to notice.
const REPLY: usize = 512 << 20;

/// A connected socket and what has been read of the current reply.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    input: Vec<u8>,
    /// The time limit set on the socket.
    patience: Option<Duration>,
    /// Kept here, so that no answer has to look them up.
    times: Arc<PeerTimes>,
}

/// Where a step of an exchange stands.
pub(super) enum Step {
    Done(Reply),
    /// Nothing more to read for now.
    Waiting,
    /// Closed by the other side before anything of the reply came: on a pooled connection, a peer that restarted.
    Stale,
}

impl Connection {
    pub(super) fn new(link: Link, times: Arc<PeerTimes>) -> Self {
        Self {
            link,
            input: Vec::with_capacity(BUFFER),
            patience: None,
            times,
        }
    }

    pub(super) fn times(&self) -> &PeerTimes {
        &self.times
    }

    pub(super) fn socket(&self) -> &Tracked<OwnedFd> {
        self.link.socket()
    }

    /// Whether something that was sent waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.link.has_unsent()
    }

    /// The bytes that the last reply's positions count in.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    fn connect(address: &str, pool: &Pool, deadline: Instant, timeout: Duration) -> Result<Self, Failure> {
        let link = Link::connect(address, &pool.security)?;
        let deadline = deadline.min(Instant::now() + CONNECT);
        if !wait(&mut [PollFd::new(link.socket(), PollFlags::OUT)], deadline) {
            return Err(Failure::silent(address, timeout.min(CONNECT)));
        }
        let mut connection = Self::new(link, pool.times.of(address));
        connection.made().map_err(|error| Failure::io(address, &error))?;
        Ok(connection)
    }

    /// The connect is decided: makes the socket a blocking one, or says why there is none.
    pub(super) fn made(&mut self) -> std::io::Result<()> {
        socket::connected(self.socket())?;
        Ok(ioctl_fionbio(self.socket(), false)?)
    }

    /// Sends what the system takes of `request`; how much.
    pub(super) fn send(&mut self, request: &[u8], flags: SendFlags) -> std::io::Result<usize> {
        self.link.send(request, flags)
    }

    /// Reads until the reply is whole or nothing more is there.
    pub(super) fn receive(&mut self, address: &str, flags: RecvFlags) -> Result<Step, Failure> {
        loop {
            match resp::reply(&self.input, REPLY).map_err(|error| Failure::protocol(address, error))? {
                Ok((reply, used)) if self.link.proves(address, &reply, &self.input)? => {
                    self.input.drain(..used);
                    continue; // the reply to the question may have come with it
                }
                Ok((reply, used)) if used == self.input.len() => return Ok(Step::Done(reply)),
                Ok(_) => return Err(Failure::nonsense(address, "more than was asked for")),
                Err(need) => {
                    // Doubles what has arrived, whatever was claimed.
                    let more = (need - self.input.len()).clamp(BUFFER, BUFFER.max(self.input.len()));
                    self.input.reserve(more);
                }
            }
            let received = self.link.recv(&mut self.input, flags);
            match received.map_err(|error| (error.kind(), error)) {
                Ok(0) | Err((ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, _)) if self.input.is_empty() => {
                    return Ok(Step::Stale);
                }
                Ok(0) => return Err(Failure::closed(address)),
                Ok(_) => {}
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) => return Ok(Step::Waiting),
                Err((_, error)) => return Err(Failure::io(address, &error)),
            }
        }
    }

    /// One request and its reply, at the latest by the deadline.
    fn exchange(
        &mut self,
        address: &str,
        request: &[u8],
        deadline: Instant,
        timeout: Duration,
    ) -> Result<Option<Reply>, Failure> {
        if self.patience != Some(timeout) {
            for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
                let set = sockopt::set_socket_timeout(self.socket(), which, Some(timeout));
                set.map_err(|error| Failure::io(address, &error.into()))?;
            }
            self.patience = Some(timeout);
        }
        self.input.clear();
        let mut sent = 0;
        while sent < request.len() {
            let taken = self.send(&request[sent..], SendFlags::empty());
            match taken.map_err(|error| (error.kind(), error)) {
                Ok(n) => sent += n,
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) if Instant::now() < deadline => {}
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) => {
                    return Err(Failure::silent(address, timeout));
                }
                Err((ErrorKind::BrokenPipe | ErrorKind::ConnectionReset, _)) => return Ok(None),
                Err((_, error)) => return Err(Failure::io(address, &error)),
            }
        }
        let mut late = false;
        loop {
            // Past the deadline only what has arrived counts: this process may itself have been stopped.
            let flags = if late { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            match self.receive(address, flags)? {
                Step::Done(reply) => return Ok(Some(reply)),
                Step::Stale => return Ok(None),
                Step::Waiting if late => return Err(Failure::silent(address, timeout)),
                Step::Waiting => late = Instant::now() >= deadline,
            }
        }
    }
}

/// Polls until something is ready; false past the deadline.
pub(super) fn wait(sockets: &mut [PollFd<'_>], deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec {
            tv_sec: 3600,
            tv_nsec: 0,
        });
        match poll(sockets, Some(&left)) {
            Ok(0) => return false,
            Err(Errno::INTR) if Instant::now() < deadline => {}
            Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

/// The idle connections of one process.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<HashMap<String, Vec<Connection>>>,
    pub(super) security: Arc<Security>,
    pub(super) times: Arc<Times>,
}

impl Pool {
    /// Counts the times of its answers in `times`.
    pub fn new(security: Arc<Security>, times: Arc<Times>) -> Self {
        Self {
            idle: Mutex::default(),
            security,
            times,
        }
    }

    /// An idle connection, the one used last.
    pub(super) fn take(&self, address: &str) -> Option<Connection> {
        self.idle.lock().get_mut(address)?.pop()
    }

    /// Keeps a connection whose reply has been read in full.
    pub fn put(&self, address: &str, mut connection: Connection) {
        connection.input.clear();
        if connection.input.capacity() > KEEP {
            connection.input = Vec::with_capacity(BUFFER);
        }
        let mut idle = self.idle.lock();
        if let Some(connections) = idle.get_mut(address) {
            if connections.len() < IDLE {
                connections.push(connection);
                return;
            }
        } else {
            idle.insert(address.to_owned(), vec![connection]);
            return;
        }
        drop(idle);
        drop(connection); // closes it, so not under the lock
    }

    /// Closes the idle connections to an address.
    pub fn forget(&self, address: &str) {
        let connections = self.idle.lock().remove(address);
        drop(connections);
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        let all = std::mem::take(&mut *self.idle.lock());
        drop(all);
    }

    /// Asks one peer: the reply, and the connection that holds its bytes, to be `put` back once they are read.
    pub fn ask(&self, address: &str, request: &[u8], timeout: Duration) -> Result<(Reply, Connection), Failure> {
        let asked = Instant::now();
        let answer = self.exchange(address, request, asked + timeout, timeout);
        match &answer {
            Ok((_, connection)) => connection.times.peek().observe(asked.elapsed()),
            Err(_) => self.times.of(address).peek().observe(asked.elapsed()),
        }
        answer
    }

    fn exchange(
        &self,
        address: &str,
        request: &[u8],
        deadline: Instant,
        timeout: Duration,
    ) -> Result<(Reply, Connection), Failure> {
        if let Some(mut connection) = self.take(address) {
            if let Some(reply) = connection.exchange(address, request, deadline, timeout)? {
                return Ok((reply, connection));
            }
            self.forget(address); // as stale as this one
        }
        let mut connection = Connection::connect(address, self, deadline, timeout)?;
        match connection.exchange(address, request, deadline, timeout)? {
            Some(reply) => Ok((reply, connection)),
            None => Err(Failure::closed(address)),
        }
    }

    /// Whether the peer's engine answers.
    pub fn ping(&self, address: &str, timeout: Duration) -> Result<(), Failure> {
        match self.exchange(address, resp::PING, Instant::now() + timeout, timeout)? {
            (Reply::Simple(_), connection) => {
                self.put(address, connection);
                Ok(())
            }
            (Reply::Error(text), connection) => Err(Failure::error(address, &connection.input()[text])),
            _ => Err(Failure::nonsense(address, "not a PONG")),
        }
    }
}
