//! A connection over a Unix socket that waits for room to write only if there is none.
//!
//! The system reports room whenever the other side has read something. A socket that always waits for it, as Tokio's
//! does, wakes this thread once more for each reply; if both sides share a core, that costs more than the reply.
use std::{
    io::{self, IoSlice},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    net::{self, RecvFlags, SendAncillaryBuffer, SendFlags},
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

use crate::tracked::Tracked;

/// The least and the most that is read at a time: what is read into is zeroed first.
const LEAST: usize = 2 * 1024;
const MOST: usize = 64 * 1024;

pub struct UnixStream {
    socket: Tracked<AsyncFd<OwnedFd>>,
    /// The same socket, while there is no room.
    full: Option<Tracked<AsyncFd<OwnedFd>>>,
    /// The number of bytes to read next, as the last reads brought.
    room: usize,
}

impl UnixStream {
    /// Registers a connected non-blocking socket with the runtime.
    pub fn new(socket: Tracked<OwnedFd>) -> io::Result<Self> {
        Ok(Self { socket: socket.try_map(|fd| watched(fd, Interest::READABLE))?, full: None, room: LEAST })
    }

    /// Returns the socket, which the runtime watches no longer.
    pub fn into_socket(self) -> io::Result<Tracked<OwnedFd>> {
        self.socket.try_map(|socket| Ok(socket.into_inner()))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        all: usize,
        send: impl Fn(&OwnedFd) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            match send(self.socket.get_ref()) {
                Ok(n) => {
                    if n == all {
                        self.full = None;
                    }
                    return Poll::Ready(Ok(n));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.full.is_none() {
                        let again = Tracked::open(|| Ok(fcntl_dupfd_cloexec(self.socket.get_ref(), 0)?))?;
                        self.full = Some(again.try_map(|fd| watched(fd, Interest::WRITABLE))?);
                    }
                    if let Some(full) = &self.full {
                        ready!(full.poll_write_ready(cx))?.clear_ready();
                    }
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

#[allow(deprecated)] // its successor is unsafe, for the sake of types that replace their descriptors
fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

impl AsyncRead for UnixStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining().min(self.room);
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            match net::recv(self.socket.get_ref(), buf.initialize_unfilled_to(room), RecvFlags::empty()) {
                Ok((n, _)) => {
                    if 0 < n && n < room {
                        ready.clear_ready(); // that was all: what comes now is reported again
                    }
                    buf.advance(n);
                    self.room = if n == self.room { MOST } else { (2 * n).clamp(LEAST, MOST) };
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

impl AsyncWrite for UnixStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, buf.len(), |fd| net::send(fd, buf, SendFlags::NOSIGNAL))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_send(cx, all, |fd| net::sendmsg(fd, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(net::shutdown(self.socket.get_ref(), net::Shutdown::Write)?))
    }
}
