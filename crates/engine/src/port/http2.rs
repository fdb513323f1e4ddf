//! A connection that speaks HTTP/2, for the gRPC server: with its first bytes put back in front, and a limit on the
//! time until a call has the password.
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

use super::{
    places::{Closed, Place},
    stream::Stream,
};

/// Flow control windows of HTTP/2, so that a large value need not wait for window updates.
pub const STREAM_WINDOW: u32 = 4 << 20;
pub const CONNECTION_WINDOW: u32 = 16 << 20;
/// Calls that one connection has under way. A node that has more makes further connections.
pub const STREAMS: u32 = 200;

/// The place of a connection, for its calls.
pub type Door = Arc<Place>;

pub struct Connection {
    first: Bytes,
    stream: Stream,
    door: Door,
    /// The door must be open by then; None: it need not, or is open.
    until: Option<Pin<Box<Sleep>>>,
    /// Tells a connection without the password to give way to another.
    closed: Closed,
}

impl Connection {
    pub fn new(first: Vec<u8>, stream: Stream, door: Door, until: Option<Instant>, closed: Closed) -> Self {
        Self { first: first.into(), stream, door, until: until.map(|until| Box::pin(sleep_until(until))), closed }
    }

    /// Returns the stream, unless time is up. Also called to write: a client that does not read keeps the server from
    /// reading.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<Pin<&mut Stream>> {
        if self.door.is_open() {
            self.until = None;
        }
        if let Some(until) = &mut self.until {
            let gives_way = Pin::new(&mut self.closed).poll(cx).is_ready();
            if gives_way || until.as_mut().poll(cx).is_ready() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return self.in_time(cx)?.poll_read(cx, buf);
        }
        let n = self.first.len().min(buf.remaining());
        buf.put_slice(&self.first[..n]);
        self.first.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

impl Connected for Connection {
    type ConnectInfo = Door;
    fn connect_info(&self) -> Door {
        self.door.clone()
    }
}
