//! TLS on a socket, for threads and event loops. It never waits by itself.
use std::{
    io::{self, BufRead, Read, Write},
    os::fd::OwnedFd,
};

use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustls::ClientConnection;

use crate::{
    security::tls::{Tls, server_name},
    tracked::Tracked,
};

pub struct Session(ClientConnection);

impl Session {
    pub fn new(tls: &Tls, address: &str) -> io::Result<Self> {
        let session = ClientConnection::new(tls.configs().resp.clone(), server_name(address)?);
        let mut session = session.map_err(io::Error::other)?;
        session.set_buffer_limit(None); // requests are held whole anyway
        Ok(Self(session))
    }

    /// Takes bytes to send. They leave with `flush`, after the handshake.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.writer().write_all(bytes)
    }

    /// Returns whether something is ready to leave.
    pub fn has_unsent(&self) -> bool {
        self.0.wants_write()
    }

    /// Sends what is ready to leave, as far as one wait goes: a peer that takes little at a time must not hold a thread.
    pub fn flush(&mut self, socket: &Tracked<OwnedFd>, flags: SendFlags) -> io::Result<()> {
        while self.0.wants_write() {
            self.0.write_tls(&mut Sender(socket, flags))?;
            if !flags.contains(SendFlags::DONTWAIT) {
                break;
            }
        }
        Ok(())
    }

    /// Reads from the socket at most once, and returns how many decrypted bytes there are; 0 at the end of the stream.
    /// None: a part of a handshake or of a record came. The caller looks at its time before it reads on.
    pub fn recv(
        &mut self,
        socket: &Tracked<OwnedFd>,
        into: &mut Vec<u8>,
        flags: RecvFlags,
    ) -> io::Result<Option<usize>> {
        if let Some(n) = self.decrypted(into)? {
            return Ok(Some(n));
        }
        self.0.read_tls(&mut Receiver(socket, flags))?;
        let processed = self.0.process_new_packets();
        let delayed = self.flush(socket, SendFlags::DONTWAIT); // the handshake goes on, or an alert leaves
        if let Err(error) = processed {
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        match delayed {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => self.decrypted(into),
        }
    }

    fn decrypted(&mut self, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let mut reader = self.0.reader();
        match reader.fill_buf() {
            Ok(bytes) => {
                let n = bytes.len();
                into.extend_from_slice(bytes);
                reader.consume(n);
                Ok(Some(n))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Some(0)), // as a plain one ends
            Err(error) => Err(error),
        }
    }
}

struct Sender<'a>(&'a Tracked<OwnedFd>, SendFlags);

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.0, bytes, self.1 | SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiver<'a>(&'a Tracked<OwnedFd>, RecvFlags);

impl Read for Receiver<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.0, into, self.1)?.0)
    }
}
