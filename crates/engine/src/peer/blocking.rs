//! Reads of a peer's memory on the caller's own thread, over pooled connections.
use std::{
    collections::HashMap,
    io::ErrorKind,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::sync::Mutex;
use rustix::{
    event::{PollFd, Timespec, poll},
    io::{Errno, ioctl_fionbio},
    net::{RecvFlags, SendFlags, recv, sockopt},
};

use super::{
    CONNECT, Failure, REPLY,
    dial::Dialer,
    link::Link,
    times::{PeerTimes, Times},
};
use crate::{
    resp::{self, Reply},
    tracked::Tracked,
};

/// Idle connections kept per address.
const IDLE: usize = 16;
/// A buffer larger than this is not kept with an idle connection.
const KEEP: usize = 2 << 20;
const BUFFER: usize = 16 * 1024;
/// Time for a connect beyond its limit: if this process was stopped meanwhile, it may just have succeeded.
const GRACE: Duration = Duration::from_millis(10);
/// The shortest time limit of a socket: zero would be none.
const TICK: Duration = Duration::from_millis(1);
/// A reply must be whole within this time or that of the call, if it is longer, even if its bytes keep coming.
pub(super) const WHOLE: Duration = Duration::from_secs(1);

/// The time of one question.
#[derive(Clone, Copy)]
struct Limit {
    asked: Instant,
    timeout: Duration,
}

impl Limit {
    /// Returns when a peer that sends nothing counts as silent.
    fn deadline(self) -> Instant {
        self.asked + self.timeout
    }

    /// Returns when the reply must be whole.
    fn whole(self) -> Instant {
        self.asked + self.timeout.max(WHOLE)
    }
}

/// A connected socket and what has been read of the current reply.
pub struct Connection {
    link: Link,
    input: Vec<u8>,
    /// The time limit set on the socket.
    patience: Option<Duration>,
    /// Kept here, so that an answer need not look them up.
    times: Arc<PeerTimes>,
}

/// The progress of an exchange after a step.
pub(super) enum Step {
    Done(Reply),
    /// Nothing more to read for now.
    Waiting,
    /// The peer closed before any byte of the reply: if the connection was pooled, the peer has restarted.
    Stale,
}

impl Connection {
    pub(super) fn new(address: &str, link: Link, pool: &Pool) -> Result<Self, Failure> {
        ioctl_fionbio(link.socket(), false).map_err(|error| Failure::io(address, &error.into()))?;
        Ok(Self { link, input: Vec::with_capacity(BUFFER), patience: None, times: pool.times.of(address) })
    }

    pub(super) fn times(&self) -> &PeerTimes {
        &self.times
    }

    pub(super) fn socket(&self) -> &Tracked<OwnedFd> {
        self.link.socket()
    }

    /// Returns whether something that was sent waits for the socket.
    pub(super) fn has_unsent(&self) -> bool {
        self.link.has_unsent()
    }

    /// Returns the bytes that the positions in the last reply refer to.
    pub fn input(&self) -> &[u8] {
        &self.input
    }

    fn connect(address: &str, pool: &Pool, limit: Limit) -> Result<Self, Failure> {
        let (tell, told) = mpsc::sync_channel(1);
        pool.dialer.start(address, move |link| drop(tell.send(link)))?;
        let left = limit.deadline().saturating_duration_since(Instant::now()).min(CONNECT) + GRACE;
        match told.recv_timeout(left) {
            Ok(link) => Self::new(address, link?, pool),
            Err(RecvTimeoutError::Timeout) => Err(Failure::silent(address, limit.timeout.min(CONNECT))),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::ended()),
        }
    }

    /// Returns whether nothing has come on an idle connection, not even its end.
    fn is_quiet(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        matches!(recv(self.socket(), &mut [0; 1][..], flags), Err(Errno::WOULDBLOCK))
    }

    /// Sends what the system takes of `request`, and returns how much.
    pub(super) fn send(&mut self, request: &[u8], flags: SendFlags) -> std::io::Result<usize> {
        self.link.send(request, flags)
    }

    /// Reads until the reply is whole or nothing more has arrived. A peer that still sends after `until` counts as
    /// silent.
    pub(super) fn receive(&mut self, address: &str, flags: RecvFlags, until: Instant) -> Result<Step, Failure> {
        let mut moved = false;
        loop {
            match resp::reply(&self.input, REPLY).map_err(|error| Failure::protocol(address, error))? {
                Ok((reply, used)) if self.link.proves(address, &reply, &self.input)? => {
                    self.input.drain(..used);
                    continue; // the reply to the question may have come with it
                }
                Ok((reply, used)) if used == self.input.len() => return Ok(Step::Done(reply)),
                Ok(_) => return Err(Failure::nonsense(address, "more than was asked for")),
                Err(need) => {
                    // Doubles what has arrived, whatever length the peer claims.
                    let more = (need - self.input.len()).clamp(BUFFER, BUFFER.max(self.input.len()));
                    self.input.reserve(more);
                }
            }
            if moved && Instant::now() >= until {
                return Err(Failure::unreachable(format!(
                    "{address} did not answer in time: its bytes come too slowly"
                )));
            }
            moved = true;
            let received = self.link.recv(&mut self.input, flags);
            match received.map_err(|error| (error.kind(), error)) {
                Ok(Some(0)) | Err((ErrorKind::ConnectionReset | ErrorKind::BrokenPipe, _)) if self.input.is_empty() => {
                    return Ok(Step::Stale);
                }
                Ok(Some(0)) => return Err(Failure::closed(address)),
                Ok(_) => {}
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) => return Ok(Step::Waiting),
                Err((_, error)) => return Err(Failure::io(address, &error)),
            }
        }
    }

    /// Sets the time limit on the socket: two calls of the system.
    fn be_patient(&mut self, address: &str, limit: Duration) -> Result<(), Failure> {
        for which in [sockopt::Timeout::Recv, sockopt::Timeout::Send] {
            let set = sockopt::set_socket_timeout(self.socket(), which, Some(limit.max(TICK)));
            set.map_err(|error| Failure::io(address, &error.into()))?;
        }
        self.patience = Some(limit);
        Ok(())
    }

    /// Sends a request and reads its reply, within the limit. None: the connection was stale.
    fn exchange(&mut self, address: &str, request: &[u8], limit: Limit) -> Result<Option<Reply>, Failure> {
        let patience = limit.timeout.min(WHOLE); // no longer, as the deadline is looked at between two waits
        // A little less will do: what is left then is waited for.
        if self.patience.is_none_or(|set| set > patience || set < patience / 2) {
            self.be_patient(address, patience)?;
        }
        let (deadline, until) = (limit.deadline(), limit.whole());
        let silent = || Failure::silent(address, limit.timeout);
        self.input.clear();
        let mut sent = 0;
        while sent < request.len() {
            let taken = self.send(&request[sent..], SendFlags::empty());
            match taken.map_err(|error| (error.kind(), error)) {
                Ok(n) => sent += n,
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) if Instant::now() < deadline => {
                    self.be_patient(address, deadline.saturating_duration_since(Instant::now()).min(WHOLE))?;
                }
                Err((ErrorKind::WouldBlock | ErrorKind::Interrupted, _)) => return Err(silent()),
                Err((ErrorKind::BrokenPipe | ErrorKind::ConnectionReset, _)) => return Ok(None),
                Err((_, error)) => return Err(Failure::io(address, &error)),
            }
            if sent < request.len() && Instant::now() >= until {
                return Err(silent());
            }
        }
        let mut late = false;
        loop {
            // Past the deadline only what has arrived counts: this process may itself have been stopped.
            let flags = if late { RecvFlags::DONTWAIT } else { RecvFlags::empty() };
            match self.receive(address, flags, until)? {
                Step::Done(reply) => return Ok(Some(reply)),
                Step::Stale => return Ok(None),
                Step::Waiting if late => return Err(silent()),
                Step::Waiting => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    late = left.is_zero();
                    if !late {
                        self.be_patient(address, left.min(WHOLE))?;
                    }
                }
            }
        }
    }
}

/// Polls until a socket is ready. Returns false past the deadline.
pub(super) fn wait(sockets: &mut [PollFd<'_>], deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match poll(sockets, Some(&left)) {
            Ok(0) => return false,
            Err(Errno::INTR) if Instant::now() < deadline => {}
            Err(_) => return false,
            Ok(_) => return true,
        }
    }
}

/// The idle connections of one process.
pub struct Pool {
    idle: Mutex<HashMap<String, Vec<Connection>>>,
    pub(crate) dialer: Dialer,
    times: Arc<Times>,
}

impl Pool {
    /// Makes an empty pool that counts the times of its answers in `times`.
    pub fn new(dialer: Dialer, times: Arc<Times>) -> Self {
        Self { idle: Mutex::default(), dialer, times }
    }

    /// Counts a request that was not answered, unless its peer was forgotten meanwhile.
    pub(super) fn unanswered(&self, address: &str, asked: Instant) {
        if let Some(times) = self.times.known(address) {
            times.peek().observe(asked.elapsed());
        }
    }

    /// Takes the idle connection that was used last.
    pub(super) fn take(&self, address: &str) -> Option<Connection> {
        self.idle.lock().get_mut(address)?.pop()
    }

    /// Keeps a connection whose reply has been read in full, unless its peer was forgotten meanwhile.
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
        } else if self.times.known(address).is_some() {
            idle.insert(address.to_owned(), vec![connection]);
            return;
        }
        drop(idle);
        drop(connection); // closes it, which must not happen under the lock
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

    /// Asks one peer. Returns the reply, and the connection that holds its bytes: `put` it back once they are read.
    pub fn ask(&self, address: &str, request: &[u8], timeout: Duration) -> Result<(Reply, Connection), Failure> {
        let asked = Instant::now();
        let answer = self.exchange(address, request, Limit { asked, timeout });
        match &answer {
            Ok((_, connection)) => connection.times.peek().observe(asked.elapsed()),
            Err(_) => self.unanswered(address, asked),
        }
        answer
    }

    /// Does the same, but sends the request once at most: a second one would be another request.
    pub fn ask_once(&self, address: &str, request: &[u8], timeout: Duration) -> Result<(Reply, Connection), Failure> {
        let asked = Instant::now();
        let limit = Limit { asked, timeout };
        let idle = self.take(address).filter(Connection::is_quiet);
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::connect(address, self, limit)?,
        };
        let answer = connection.exchange(address, request, limit)?;
        answer.map(|reply| (reply, connection)).ok_or_else(|| Failure::closed(address))
    }

    fn exchange(&self, address: &str, request: &[u8], limit: Limit) -> Result<(Reply, Connection), Failure> {
        if let Some(mut connection) = self.take(address) {
            if let Some(reply) = connection.exchange(address, request, limit)? {
                return Ok((reply, connection));
            }
            self.forget(address); // the others are as stale
        }
        let mut connection = Connection::connect(address, self, limit)?;
        match connection.exchange(address, request, limit)? {
            Some(reply) => Ok((reply, connection)),
            None => Err(Failure::closed(address)),
        }
    }
}
