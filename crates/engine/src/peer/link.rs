//! A connection to a peer's memory, for threads and for event loops: says the password first, where there is one.
//!
//! What `send` took and the system did not is held here, and goes out before anything is read. Without a password that
//! is nothing, ever, and this is the socket itself.
use std::{io, mem, os::fd::OwnedFd};

use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::Failure;
use crate::{
    security::Security,
    socket::{self, Address},
    tracked::Tracked,
    wire::resp::{self, Reply},
};

#[derive(Debug)]
pub struct Link {
    socket: Tracked<OwnedFd>,
    guarded: Option<Box<Guarded>>,
}

/// What lies between the requests and the socket, while anything does.
#[derive(Debug, Default)]
struct Guarded {
    unsent: Vec<u8>,
    /// The password was sent, and its reply is still to come.
    unproven: bool,
}

impl Link {
    /// Begins to connect; `socket::connected` tells how that ended.
    pub fn connect(address: &str, security: &Security) -> Result<Self, Failure> {
        let socket = address.parse::<Address>().and_then(|address| socket::connect(&address));
        let socket = socket.map_err(|error| Failure::io(address, &error))?;
        let guarded = security.password.as_ref().map(|password| {
            let mut guarded = Box::<Guarded>::default();
            resp::auth(&mut guarded.unsent, password.text());
            guarded.unproven = true;
            guarded
        });
        Ok(Self { socket, guarded })
    }

    pub fn socket(&self) -> &Tracked<OwnedFd> {
        &self.socket
    }

    /// Whether nothing lies between requests and socket.
    pub fn is_plain(&self) -> bool {
        self.guarded.is_none()
    }

    /// Whether something that was sent waits for the socket.
    pub fn has_unsent(&self) -> bool {
        self.guarded.as_ref().is_some_and(|guarded| !guarded.unsent.is_empty())
    }

    /// Sends or holds bytes; how many.
    pub fn send(&mut self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        let Some(guarded) = &mut self.guarded else {
            return Ok(send(&self.socket, bytes, flags | SendFlags::NOSIGNAL)?);
        };
        guarded.unsent.extend_from_slice(bytes);
        match self.flush(flags) {
            Err(error) if !is_delay(&error) => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    /// Sends what is held.
    pub fn flush(&mut self, flags: SendFlags) -> io::Result<()> {
        let Some(guarded) = &mut self.guarded else {
            return Ok(());
        };
        while !guarded.unsent.is_empty() {
            let n = send(&self.socket, &guarded.unsent, flags | SendFlags::NOSIGNAL)?;
            guarded.unsent.drain(..n);
        }
        Ok(())
    }

    /// Reads what has arrived into the spare room of a buffer; how much, 0 at the end.
    pub fn recv(&mut self, into: &mut Vec<u8>, flags: RecvFlags) -> io::Result<usize> {
        if self.guarded.is_some() {
            let dont_wait = flags.contains(RecvFlags::DONTWAIT);
            self.flush(if dont_wait {
                SendFlags::DONTWAIT
            } else {
                SendFlags::empty()
            })?;
        }
        Ok(recv(&self.socket, spare_capacity(into), flags)?.1)
    }

    /// Whether this reply is to the password, which was accepted.
    pub fn proves(&mut self, address: &str, reply: &Reply, input: &[u8]) -> Result<bool, Failure> {
        let Some(guarded) = &mut self.guarded else {
            return Ok(false);
        };
        if !mem::take(&mut guarded.unproven) {
            return Ok(false);
        }
        match reply {
            Reply::Simple(_) => {}
            Reply::Error(text) => return Err(Failure::denied(address, &input[text.clone()])),
            _ => return Err(Failure::nonsense(address, "of another kind")),
        }
        if guarded.unsent.is_empty() {
            self.guarded = None;
        }
        Ok(true)
    }
}

/// Whether sending may go on later.
fn is_delay(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}
