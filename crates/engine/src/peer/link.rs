//! A connection to a peer's memory, for threads and for event loops: with TLS and the password if the node has them. It
//! begins with the name of the service.
//!
//! Bytes that `send` took and the system did not are held here, and leave before anything is read. Without a password
//! and TLS there are none: then this is just the socket.
use std::{io, mem, os::fd::OwnedFd};

use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, SendFlags, recv, send},
};

use super::{Failure, tls::Session};
use crate::{
    resp::{self, Reply},
    security::{Password, Security},
    socket::Address,
    tracked::Tracked,
};

pub struct Link {
    socket: Tracked<OwnedFd>,
    guarded: Option<Box<Guarded>>,
}

/// TLS, the password and the service, which stand between the requests and the socket.
struct Guarded {
    tls: Option<Session>,
    /// Without TLS.
    unsent: Vec<u8>,
    /// The number of replies to the password and the service that have not come.
    unproven: usize,
}

impl Guarded {
    fn new(address: &Address, security: &Security) -> io::Result<Option<Box<Self>>> {
        let mut tls = match (address, &security.tls) {
            (Address::Tcp(text), Some(tls)) => Some(Session::new(tls, text)?),
            _ => None,
        };
        let mut unsent = Vec::new();
        let unproven = resp::greet(&mut unsent, security.password.as_ref().map(Password::text), &security.service);
        if let Some(tls) = &mut tls {
            tls.take(&mem::take(&mut unsent))?;
        }
        Ok((tls.is_some() || unproven > 0).then(|| Box::new(Self { tls, unsent, unproven })))
    }

    fn flush(&mut self, socket: &Tracked<OwnedFd>, flags: SendFlags) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.flush(socket, flags);
        }
        while !self.unsent.is_empty() {
            let n = send(socket, &self.unsent, flags | SendFlags::NOSIGNAL)?;
            self.unsent.drain(..n);
            if !flags.contains(SendFlags::DONTWAIT) {
                break; // after one wait, as with TLS
            }
        }
        Ok(())
    }

    fn has_unsent(&self) -> bool {
        self.tls.as_ref().map_or(!self.unsent.is_empty(), Session::has_unsent)
    }
}

impl Link {
    /// Protects a connected socket as this node's options say.
    pub fn new(socket: Tracked<OwnedFd>, to: &Address, security: &Security) -> io::Result<Self> {
        let guarded = Guarded::new(to, security)?;
        Ok(Self { socket, guarded })
    }

    pub fn socket(&self) -> &Tracked<OwnedFd> {
        &self.socket
    }

    /// Returns whether nothing stands between requests and socket.
    pub fn is_plain(&self) -> bool {
        self.guarded.is_none()
    }

    /// Returns whether something that was sent waits for the socket.
    pub fn has_unsent(&self) -> bool {
        self.guarded.as_ref().is_some_and(|guarded| guarded.has_unsent())
    }

    /// Sends or holds bytes, and returns how many.
    pub fn send(&mut self, bytes: &[u8], flags: SendFlags) -> io::Result<usize> {
        let Some(guarded) = &mut self.guarded else {
            return Ok(send(&self.socket, bytes, flags | SendFlags::NOSIGNAL)?);
        };
        match &mut guarded.tls {
            Some(tls) => tls.take(bytes)?,
            None => guarded.unsent.extend_from_slice(bytes),
        }
        match guarded.flush(&self.socket, flags) {
            Err(error) if !is_delay(&error) => Err(error),
            _ => Ok(bytes.len()),
        }
    }

    /// Sends what is held.
    pub fn flush(&mut self, flags: SendFlags) -> io::Result<()> {
        match &mut self.guarded {
            Some(guarded) => guarded.flush(&self.socket, flags),
            None => Ok(()),
        }
    }

    /// Reads what has arrived into the spare room of a buffer, with TLS at its end. Returns how much; 0 at the end of
    /// the stream. None: something moved, but nothing for the caller, who looks at its time and calls again.
    pub fn recv(&mut self, into: &mut Vec<u8>, flags: RecvFlags) -> io::Result<Option<usize>> {
        if let Some(guarded) = &mut self.guarded {
            let wait = !flags.contains(RecvFlags::DONTWAIT);
            match guarded.flush(&self.socket, if wait { SendFlags::empty() } else { SendFlags::DONTWAIT }) {
                Err(error) if !is_delay(&error) => return Err(error),
                Ok(()) if wait && guarded.has_unsent() => return Ok(None),
                _ => {} // what cannot leave now must not keep the peer's answers out
            }
            if let Some(tls) = &mut guarded.tls {
                return tls.recv(&self.socket, into, flags);
            }
        }
        Ok(Some(recv(&self.socket, spare_capacity(into), flags)?.1))
    }

    /// Returns whether this reply is one to the password or the service, and accepts it.
    pub fn proves(&mut self, address: &str, reply: &Reply, input: &[u8]) -> Result<bool, Failure> {
        let Some(guarded) = &mut self.guarded else {
            return Ok(false);
        };
        if guarded.unproven == 0 {
            return Ok(false);
        }
        guarded.unproven -= 1;
        match reply {
            Reply::Simple(_) => {}
            Reply::Error(text) => return Err(Failure::denied(address, &input[text.clone()])),
            _ => return Err(Failure::nonsense(address, "of another kind")),
        }
        if guarded.tls.is_none() && guarded.unsent.is_empty() && guarded.unproven == 0 {
            self.guarded = None;
        }
        Ok(true)
    }
}

/// Returns whether sending may go on later.
fn is_delay(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, NotConnected, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | NotConnected)
}
