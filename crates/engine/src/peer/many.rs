//! One request to each of several peers, all at once, on the caller's thread.
use std::{
    io::ErrorKind,
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    net::{RecvFlags, SendFlags},
};

use super::{
    Failure,
    blocking::{Connection, Pool, Step, WHOLE, wait},
    link::Link,
};
use crate::resp::Reply;

/// The time between two looks for new connections while answers are awaited on others.
const LOOK: Duration = Duration::from_millis(1);

/// The reply of one peer, with the connection that holds its bytes.
pub type Outcome = Result<(Reply, Connection), Failure>;

struct Exchange<'a> {
    address: &'a str,
    request: &'a [u8],
    connection: Option<Connection>,
    fresh: bool,
    sent: usize,
    asked: Instant,
    /// Its answer must be whole by then, however steadily its bytes come.
    until: Instant,
    /// True if the time of its answer is counted.
    counts: bool,
    outcome: Option<Outcome>,
}

/// The connections that are being made, each with the place of its question.
struct Dials {
    made: (Sender<Made>, Receiver<Made>),
    open: usize,
}

type Made = (usize, Result<Link, Failure>);

impl Dials {
    fn start(&mut self, place: usize, exchange: &mut Exchange<'_>, pool: &Pool) {
        (exchange.fresh, exchange.sent) = (true, 0);
        let tell = self.made.0.clone();
        match pool.dialer.start(exchange.address, move |link| drop(tell.send((place, link)))) {
            Ok(()) => self.open += 1,
            Err(failure) => exchange.fail(failure, pool),
        }
    }
}

impl Exchange<'_> {
    fn fail(&mut self, failure: Failure, pool: &Pool) {
        if self.counts {
            pool.unanswered(self.address, self.asked);
        }
        self.connection = None;
        let ended = pool.dialer.runtime.is_closed(); // it may have dropped the connect that this has waited for
        self.outcome = Some(Err(if ended { Failure::ended() } else { failure }));
    }

    /// Goes as far as it can without waiting. Returns true if the connection was stale and another is needed.
    fn advance(&mut self, pool: &Pool) -> bool {
        match self.step() {
            Ok(Step::Done(reply)) => {
                self.outcome = self.connection.take().map(|connection| {
                    if self.counts {
                        connection.times().peek().observe(self.asked.elapsed());
                    }
                    Ok((reply, connection))
                });
            }
            Ok(Step::Waiting) => {}
            Ok(Step::Stale) if self.fresh => self.fail(Failure::closed(self.address), pool),
            Ok(Step::Stale) => {
                pool.forget(self.address);
                self.connection = None;
                return true;
            }
            Err(failure) => self.fail(failure, pool),
        }
        false
    }

    fn step(&mut self) -> Result<Step, Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(Step::Waiting);
        };
        let unsent = self.sent < self.request.len();
        while self.sent < self.request.len() {
            let taken = connection.send(&self.request[self.sent..], SendFlags::DONTWAIT);
            match taken.map_err(|error| (error.kind(), error)) {
                Ok(n) => self.sent += n,
                Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => return Ok(Step::Waiting),
                Err((ErrorKind::BrokenPipe | ErrorKind::ConnectionReset, _)) => return Ok(Step::Stale),
                Err((_, error)) => return Err(Failure::io(self.address, &error)),
            }
        }
        if unsent {
            return Ok(Step::Waiting); // the reply cannot be here yet
        }
        connection.receive(self.address, RecvFlags::DONTWAIT, self.until)
    }

    fn interest(&self) -> PollFlags {
        if self.sent < self.request.len() {
            PollFlags::OUT
        } else if self.connection.as_ref().is_some_and(Connection::has_unsent) {
            PollFlags::OUT | PollFlags::IN
        } else {
            PollFlags::IN
        }
    }
}

/// Returns what `decode` makes of the message in a reply, and puts the connection back.
pub fn packed<T>(
    pool: &Pool,
    address: &str,
    outcome: Outcome,
    decode: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, Failure> {
    let (reply, connection) = outcome?;
    let message = match reply {
        Reply::Packed(packed) => {
            decode(&connection.input()[packed]).ok_or_else(|| Failure::nonsense(address, "not a message of a node"))
        }
        Reply::Error(text) => Err(Failure::error(address, &connection.input()[text])),
        _ => Err(Failure::nonsense(address, "of another kind")),
    };
    pool.put(address, connection);
    message
}

/// Asks all these peers, and returns the outcomes in the same order, within `timeout`.
pub fn ask_many(pool: &Pool, questions: &[(String, Vec<u8>)], timeout: Duration) -> Vec<Outcome> {
    match questions {
        [(address, request)] => vec![pool.ask(address, request, timeout)], // it need not poll
        _ => exchange(pool, questions, timeout, true),
    }
}

/// Does that; the times of the answers are only counted if `counts`.
pub fn exchange(pool: &Pool, questions: &[(String, Vec<u8>)], timeout: Duration, counts: bool) -> Vec<Outcome> {
    let asked = Instant::now();
    let deadline = asked + timeout;
    let mut dials = Dials { made: mpsc::channel(), open: 0 };
    let mut exchanges: Vec<_> = questions
        .iter()
        .map(|(address, request)| Exchange {
            address,
            request,
            connection: pool.take(address),
            fresh: false,
            sent: 0,
            asked,
            until: asked + timeout.max(WHOLE),
            counts,
            outcome: None,
        })
        .collect();
    for (place, exchange) in exchanges.iter_mut().enumerate() {
        if exchange.connection.is_none() || exchange.advance(pool) {
            dials.start(place, exchange, pool);
        }
    }
    while exchanges.iter().any(|exchange| exchange.outcome.is_none()) {
        let open = exchanges.iter().enumerate().filter(|(_, exchange)| exchange.outcome.is_none());
        let (places, mut sockets): (Vec<_>, Vec<_>) = open
            .filter_map(|(place, exchange)| {
                let socket = exchange.connection.as_ref()?.socket();
                Some((place, PollFd::new(socket, exchange.interest())))
            })
            .unzip();
        let pause = if dials.open == 0 { timeout } else { LOOK };
        if !sockets.is_empty() {
            wait(&mut sockets, deadline.min(Instant::now() + pause));
        }
        let ready: Vec<_> = places
            .iter()
            .zip(&sockets)
            .filter_map(|(&place, socket)| (!socket.revents().is_empty()).then_some(place))
            .collect();
        let left = match ready.is_empty() && places.is_empty() {
            true => deadline.saturating_duration_since(Instant::now()) + LOOK,
            false => Duration::ZERO,
        };
        let now = Instant::now();
        // Past the deadline a reply that has arrived still counts: this process may itself have been stopped.
        for place in if now < deadline { ready } else { places } {
            if exchanges[place].advance(pool) {
                dials.start(place, &mut exchanges[place], pool);
            }
        }
        if let Ok((place, link)) = dials.made.1.recv_timeout(left) {
            dials.open -= 1;
            let exchange = &mut exchanges[place];
            match link.and_then(|link| Connection::new(exchange.address, link, pool)) {
                Ok(connection) => {
                    exchange.connection = Some(connection);
                    exchange.advance(pool);
                }
                Err(failure) => exchange.fail(failure, pool),
            }
        }
        if Instant::now() >= deadline {
            let late = exchanges.iter_mut().filter(|exchange| exchange.outcome.is_none());
            late.for_each(|exchange| exchange.fail(Failure::silent(exchange.address, timeout), pool));
        }
    }
    let lost = |exchange: &Exchange<'_>| Err(Failure::closed(exchange.address));
    exchanges.into_iter().map(|mut exchange| exchange.outcome.take().unwrap_or_else(|| lost(&exchange))).collect()
}
