//! One question to each of several peers, all at once, on the caller's thread.
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    net::{RecvFlags, SendFlags},
};

use super::{
    CONNECT, Failure,
    blocking::{Connection, Pool, Step, wait},
    link::Link,
};
use crate::resp::Reply;

/// What one peer replied, with the connection that holds its bytes.
pub type Outcome = Result<(Reply, Connection), Failure>;

struct Exchange<'a> {
    address: &'a str,
    request: &'a [u8],
    connection: Option<Connection>,
    /// While connecting: until when.
    connecting: Option<Instant>,
    fresh: bool,
    sent: usize,
    asked: Instant,
    outcome: Option<Outcome>,
}

impl Exchange<'_> {
    fn connect(&mut self, pool: &Pool) {
        (self.fresh, self.sent) = (true, 0);
        match Link::connect(self.address, &pool.security) {
            Ok(link) => {
                self.connection = Some(Connection::new(link, pool.times.of(self.address)));
                self.connecting = Some(Instant::now() + CONNECT);
            }
            Err(failure) => self.fail(failure, pool),
        }
    }

    fn fail(&mut self, failure: Failure, pool: &Pool) {
        pool.times.of(self.address).peek().observe(self.asked.elapsed());
        self.connection = None;
        self.outcome = Some(Err(failure));
    }

    /// Goes as far as it can without waiting.
    fn advance(&mut self, pool: &Pool) {
        match self.step() {
            Ok(Step::Done(reply)) => {
                self.outcome = self.connection.take().map(|connection| {
                    connection.times().peek().observe(self.asked.elapsed());
                    Ok((reply, connection))
                });
            }
            Ok(Step::Waiting) => {}
            Ok(Step::Stale) if self.fresh => self.fail(Failure::closed(self.address), pool),
            Ok(Step::Stale) => {
                pool.forget(self.address);
                self.connect(pool);
            }
            Err(failure) => self.fail(failure, pool),
        }
    }

    fn step(&mut self) -> Result<Step, Failure> {
        let Some(connection) = &mut self.connection else {
            return Ok(Step::Waiting);
        };
        if self.connecting.take().is_some() {
            connection.made().map_err(|error| Failure::io(self.address, &error))?;
        }
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
        connection.receive(self.address, RecvFlags::DONTWAIT)
    }

    fn interest(&self) -> PollFlags {
        let writing = self.connecting.is_some() || self.sent < self.request.len();
        if writing {
            PollFlags::OUT
        } else if self.connection.as_ref().is_some_and(Connection::has_unsent) {
            PollFlags::OUT | PollFlags::IN
        } else {
            PollFlags::IN
        }
    }
}

/// The outcomes in the order of the questions, all by the deadline.
pub fn ask_many(pool: &Pool, questions: &[(String, Vec<u8>)], timeout: Duration) -> Vec<Outcome> {
    let asked = Instant::now();
    let deadline = asked + timeout;
    let mut exchanges: Vec<_> = questions
        .iter()
        .map(|(address, request)| {
            let connection = pool.take(address);
            let mut exchange = Exchange {
                address,
                request,
                connection,
                connecting: None,
                fresh: false,
                sent: 0,
                asked,
                outcome: None,
            };
            match exchange.connection {
                Some(_) => exchange.advance(pool),
                None => exchange.connect(pool),
            }
            exchange
        })
        .collect();
    loop {
        let open = exchanges
            .iter()
            .enumerate()
            .filter(|(_, exchange)| exchange.outcome.is_none());
        let (places, mut sockets): (Vec<_>, Vec<_>) = open
            .filter_map(|(place, exchange)| {
                let socket = exchange.connection.as_ref()?.socket();
                Some((place, PollFd::new(socket, exchange.interest())))
            })
            .unzip();
        if places.is_empty() {
            break;
        }
        let next = exchanges
            .iter()
            .filter(|exchange| exchange.outcome.is_none())
            .filter_map(|exchange| exchange.connecting);
        wait(&mut sockets, next.fold(deadline, Instant::min));
        let ready: Vec<_> = places
            .into_iter()
            .zip(sockets.iter().map(|socket| !socket.revents().is_empty()))
            .collect();
        let now = Instant::now();
        for (place, readable) in ready {
            let exchange = &mut exchanges[place];
            // Ready, or past the deadline: then what has arrived still counts, as this process may have been stopped.
            if readable || (now >= deadline && exchange.connecting.is_none()) {
                exchange.advance(pool);
            } else if exchange.connecting.is_some_and(|until| now >= until) {
                exchange.fail(Failure::silent(exchange.address, timeout.min(CONNECT)), pool);
            }
            if now >= deadline && exchange.outcome.is_none() {
                exchange.fail(Failure::silent(exchange.address, timeout), pool);
            }
        }
    }
    let lost = |exchange: &Exchange<'_>| Err(Failure::closed(exchange.address));
    exchanges
        .into_iter()
        .map(|mut exchange| exchange.outcome.take().unwrap_or_else(|| lost(&exchange)))
        .collect()
}
