//! One non-blocking connection to a peer's memory, driven by an event loop: `Pipeline`.
use std::{
    collections::VecDeque,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Arc,
    time::Instant,
};

use rustix::{
    buffer::spare_capacity,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{Failure, times::PeerTimes};
use crate::{
    fork,
    socket::{self, Address},
    tracked::Tracked,
    wire::resp::{self, Reply},
};

const BUFFER: usize = 64 * 1024;
const REPLY: usize = 512 << 20;

/// Requests whose replies come in their order. `T` names a request for its asker.
#[derive(Debug)]
pub struct Pipeline<T> {
    address: String,
    socket: Option<Tracked<OwnedFd>>,
    connected: bool,
    output: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    waiting: VecDeque<(T, usize, Instant)>, // with the number of keys asked for, and when
    times: Arc<PeerTimes>,
    generation: u64,
}

impl<T> Pipeline<T> {
    /// Counts the times of its answers in `times`.
    pub fn connect(address: &str, times: Arc<PeerTimes>) -> Result<Self, Failure> {
        let socket = address.parse::<Address>().and_then(|address| socket::connect(&address));
        Ok(Self {
            address: address.to_owned(),
            socket: Some(socket.map_err(|error| Failure::io(address, &error))?),
            connected: false,
            output: Vec::new(),
            sent: 0,
            input: Vec::with_capacity(BUFFER),
            waiting: VecDeque::new(),
            times,
            generation: fork::generation(),
        })
    }

    fn socket(&self) -> Result<&Tracked<OwnedFd>, Failure> {
        if self.generation != fork::generation() {
            return Err(Failure::forked());
        }
        self.socket
            .as_ref()
            .ok_or_else(|| Failure::unreachable(format!("{}: this connection is closed", self.address)))
    }

    pub fn fd(&self) -> Result<RawFd, Failure> {
        Ok(self.socket()?.as_raw_fd())
    }

    /// Buffers a question; `keys` is not empty.
    pub fn ask<'k>(
        &mut self,
        token: T,
        group: &str,
        keys: impl ExactSizeIterator<Item = &'k str>,
        former: bool,
    ) -> Result<(), Failure> {
        self.socket()?;
        self.waiting.push_back((token, keys.len(), Instant::now()));
        resp::ask(&mut self.output, group, keys, former);
        Ok(())
    }

    /// Writes what is buffered; false while the socket takes no more.
    pub fn flush(&mut self) -> Result<bool, Failure> {
        self.socket()?;
        while self.sent < self.output.len() {
            match send(self.socket()?, &self.output[self.sent..], SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.connected = true;
                    self.sent += n;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                // Not connected yet, or never: the socket's own error knows.
                Err(Errno::NOTCONN) if !self.connected => {
                    self.made()?;
                    return Ok(false);
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.output.clear();
        self.output.shrink_to(BUFFER);
        self.sent = 0;
        Ok(true)
    }

    fn made(&self) -> Result<(), Failure> {
        socket::connected(self.socket()?).map_err(|error| Failure::io(&self.address, &error))
    }

    fn failed(&self, error: Errno) -> Failure {
        Failure::io(&self.address, &error.into())
    }

    /// Reads what has arrived and gives each whole reply to `answered`, with the bytes that its positions count in.
    pub fn receive<E: From<Failure>>(
        &mut self,
        mut answered: impl FnMut(T, usize, Reply, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.socket()?;
        let (mut drained, mut any) = (false, false);
        let ended = loop {
            let mut at = 0;
            let need = loop {
                match resp::reply(&self.input[at..], REPLY) {
                    Ok(Ok((reply, used))) => {
                        let Some((token, keys, asked)) = self.waiting.pop_front() else {
                            break Err(Failure::nonsense(&self.address, "an answer that nobody asked for"));
                        };
                        self.times.peek().observe(asked.elapsed());
                        answered(token, keys, reply, &self.input[at..at + used])?;
                        (at, any) = (at + used, true);
                    }
                    Ok(Err(need)) => break Ok(need),
                    Err(error) => break Err(Failure::nonsense(&self.address, error.0)),
                }
            };
            self.input.drain(..at);
            let held = self.input.len();
            match need {
                Err(failure) => break Some(failure),
                Ok(_) if drained => break None,
                // Doubles what has arrived, whatever was claimed.
                Ok(need) => self.input.reserve((need - held).clamp(BUFFER / 4, BUFFER.max(held))),
            }
            let room = self.input.capacity() - held;
            let Some(socket) = &self.socket else { break None }; // seen open above
            match recv(socket, spare_capacity(&mut self.input), RecvFlags::empty()) {
                Ok((_, 0)) => break Some(Failure::closed(&self.address)),
                Ok((_, n)) => drained = n < room,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break None,
                Err(Errno::NOTCONN) if !self.connected => break self.made().err(),
                Err(error) => break Some(self.failed(error)),
            }
        };
        if self.input.is_empty() && self.input.capacity() > 1 << 20 {
            self.input = Vec::with_capacity(BUFFER);
        }
        match ended {
            Some(failure) if !any => Err(failure.into()),
            _ => Ok(()), // what ended the connection shows again at the next call
        }
    }

    /// Closes; the tokens still unanswered.
    pub fn close(&mut self) -> impl Iterator<Item = T> {
        self.socket = None;
        self.output.clear();
        let unanswered = std::mem::take(&mut self.waiting);
        for (_, _, asked) in &unanswered {
            self.times.peek().observe(asked.elapsed());
        }
        unanswered.into_iter().map(|(token, ..)| token)
    }
}
