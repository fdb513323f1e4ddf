//! A non-blocking connection to a peer's memory, driven by an event loop: `Pipeline`.
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::net::{RecvFlags, SendFlags};

use super::{Failure, REPLY, link::Link, times::PeerTimes};
use crate::{
    fork,
    resp::{self, Look, Reply},
};

const BUFFER: usize = 64 * 1024;

/// Requests whose replies come in the same order. `T` names a request for its caller.
pub struct Pipeline<T> {
    address: String,
    link: Option<Link>,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    waiting: VecDeque<(T, usize, Instant)>, // with the number of keys asked for, and when
    times: Arc<PeerTimes>,
    /// The time when something was last read, or was asked while no reply was due.
    moved: Instant,
    generation: u64,
}

impl<T> Pipeline<T> {
    /// Drives a connection, and counts the times of its answers in `times`.
    pub fn new(address: String, link: Link, times: Arc<PeerTimes>) -> Self {
        Self {
            address,
            link: Some(link),
            output: Vec::new(),
            sent: 0,
            input: Vec::with_capacity(BUFFER),
            waiting: VecDeque::new(),
            times,
            moved: Instant::now(),
            generation: fork::generation(),
        }
    }

    fn link(&mut self) -> Result<&mut Link, Failure> {
        if self.generation != fork::generation() {
            return Err(Failure::forked());
        }
        self.link.as_mut().ok_or_else(|| Failure::unreachable(format!("{}: this connection is closed", self.address)))
    }

    pub fn fd(&mut self) -> Result<RawFd, Failure> {
        Ok(self.link()?.socket().as_raw_fd())
    }

    /// Buffers a request; `keys` is not empty.
    pub fn ask<'k>(
        &mut self,
        token: T,
        group: &str,
        keys: impl ExactSizeIterator<Item = &'k str>,
        look: Look,
    ) -> Result<(), Failure> {
        self.link()?;
        let now = Instant::now();
        if self.waiting.is_empty() {
            self.moved = now;
        }
        self.waiting.push_back((token, keys.len(), now));
        resp::ask(&mut self.output, group, keys, look);
        Ok(())
    }

    /// Writes what is buffered. Returns false while the socket takes no more.
    pub fn flush(&mut self) -> Result<bool, Failure> {
        self.link()?;
        loop {
            let Some(link) = &mut self.link else { return Ok(true) }; // seen open above
            let rest = &self.output[self.sent..];
            let taken = if rest.is_empty() {
                link.flush(SendFlags::DONTWAIT).map(|()| 0)
            } else {
                link.send(rest, SendFlags::DONTWAIT)
            };
            match taken.map_err(|error| (error.kind(), error)) {
                Ok(0) => break,
                Ok(n) => self.sent += n,
                Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => return Ok(false),
                Err((_, error)) => return Err(self.failed(&error)),
            }
        }
        self.output.clear();
        self.output.shrink_to(BUFFER);
        self.sent = 0;
        Ok(true)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::io(&self.address, error)
    }

    /// Reads what has arrived and passes each whole reply to `answered`, with the bytes that its positions refer to.
    pub fn receive<E: From<Failure>>(
        &mut self,
        mut answered: impl FnMut(T, usize, Reply, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.link()?;
        let (mut drained, mut any) = (false, false);
        let ended = loop {
            let mut at = 0;
            let need = loop {
                match resp::reply(&self.input[at..], REPLY) {
                    Ok(Ok((reply, used))) => {
                        match self.proves(&reply, at) {
                            Ok(false) => {}
                            Ok(true) => {
                                at += used;
                                continue;
                            }
                            Err(failure) => break Err(failure),
                        }
                        let Some((token, keys, asked)) = self.waiting.pop_front() else {
                            break Err(Failure::nonsense(&self.address, "an answer to no question"));
                        };
                        self.times.peek().observe(asked.elapsed());
                        answered(token, keys, reply, &self.input[at..at + used])?;
                        (at, any) = (at + used, true);
                    }
                    Ok(Err(need)) => break Ok(need),
                    Err(error) => break Err(Failure::protocol(&self.address, error)),
                }
            };
            self.input.drain(..at);
            let held = self.input.len();
            match need {
                Err(failure) => break Some(failure),
                Ok(_) if drained => break None,
                // Doubles what has arrived, whatever length the peer claims.
                Ok(need) => self.input.reserve((need - held).clamp(BUFFER / 4, BUFFER.max(held))),
            }
            let room = self.input.capacity() - held;
            let Some(link) = &mut self.link else { break None }; // seen open above
            let received = link.recv(&mut self.input, RecvFlags::DONTWAIT);
            match received.map_err(|error| (error.kind(), error)) {
                Ok(None) => break None, // a part of a handshake or record; the loop comes back if there is more
                Ok(Some(0)) => break Some(Failure::closed(&self.address)),
                Ok(Some(n)) => {
                    self.moved = Instant::now();
                    drained = n < room && link.is_plain();
                }
                Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => break None,
                Err((_, error)) => break Some(self.failed(&error)),
            }
        };
        if self.input.is_empty() && self.input.capacity() > 1 << 20 {
            self.input = Vec::with_capacity(BUFFER);
        }
        match ended {
            Some(failure) if !any => Err(failure.into()),
            _ => Ok(()), // the next call meets the end of the connection again
        }
    }

    /// Returns whether the reply at that position is the one to the password, and accepts it.
    fn proves(&mut self, reply: &Reply, at: usize) -> Result<bool, Failure> {
        match &mut self.link {
            Some(link) => link.proves(&self.address, reply, &self.input[at..]),
            None => Ok(false),
        }
    }

    /// Returns how long the peer may go on before it counts as silent: `silence` without a byte, `whole` for an answer.
    /// Zero: it counts as silent now. None: no reply is due.
    pub fn patience(&self, silence: Duration, whole: Duration) -> Option<Duration> {
        let (.., asked) = self.waiting.front()?;
        let quiet = silence.saturating_sub(self.moved.elapsed());
        Some(quiet.min(whole.saturating_sub(asked.elapsed())))
    }

    /// Closes, and returns the tokens that were not answered.
    pub fn close(&mut self) -> impl Iterator<Item = T> {
        self.link = None;
        self.output.clear();
        let unanswered = std::mem::take(&mut self.waiting);
        for (_, _, asked) in &unanswered {
            self.times.peek().observe(asked.elapsed());
        }
        unanswered.into_iter().map(|(token, ..)| token)
    }
}
