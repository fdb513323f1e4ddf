//! A connection on the runtime: TCP or Unix, with or without TLS.
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener},
};
use tokio_rustls::TlsStream;

use super::unix::UnixStream;
use crate::{
    security::Origin,
    socket::{self, Address},
    tracked::Tracked,
};

/// After this long without a byte the system probes the other side, which may have lost its power or its network.
const SILENCE: Duration = Duration::from_secs(60);

/// A connected stream socket.
pub enum Stream {
    Tcp(Tracked<TcpStream>),
    Unix(UnixStream),
    /// One of the others, decrypted.
    Tls(Box<TlsStream<Stream>>),
}

impl Stream {
    pub fn origin(&self) -> Origin {
        Origin(match self {
            Self::Tcp(stream) => {
                stream.peer_addr().map_or("a host that is gone".into(), |peer| peer.ip().to_string().into())
            }
            Self::Unix(_) => "a process of this machine".into(),
            Self::Tls(stream) => return stream.get_ref().0.origin(),
        })
    }

    /// Registers a connected non-blocking socket with the runtime.
    pub fn new(socket: Tracked<OwnedFd>, of: &Address) -> io::Result<Self> {
        Ok(match of {
            Address::Tcp(_) => Self::Tcp(socket.try_map(|fd| TcpStream::from_std(fd.into()))?),
            Address::Unix(_) => Self::Unix(UnixStream::new(socket)?),
        })
    }

    /// Connects. The caller limits the time.
    pub async fn connect(address: &Address) -> io::Result<Self> {
        let stream = Self::new(socket::connect(address)?, address)?;
        if let Self::Tcp(stream) = &stream {
            stream.writable().await?;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
        }
        Ok(stream) // a Unix socket is connected at once
    }
}

/// A listening socket.
pub enum Acceptor {
    Tcp(Tracked<TcpListener>),
    Unix(Tracked<UnixListener>),
}

impl Acceptor {
    /// Registers a listening non-blocking socket with the runtime.
    pub fn new(socket: Tracked<OwnedFd>, of: &Address) -> io::Result<Self> {
        Ok(match of {
            Address::Tcp(_) => Self::Tcp(socket.try_map(|fd| TcpListener::from_std(fd.into()))?),
            Address::Unix(_) => Self::Unix(socket.try_map(|fd| UnixListener::from_std(fd.into()))?),
        })
    }

    /// Returns the next connection.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
                let stream = poll_fn(|cx| Tracked::poll_open(|| accept(cx))).await?;
                // These fail if the client is gone; then reading fails too.
                let _ = stream.set_nodelay(true);
                let _ = SockRef::from(&*stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE));
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => {
                let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
                let stream = poll_fn(|cx| Tracked::poll_open(|| accept(cx))).await?;
                Ok(Stream::Unix(UnixStream::new(stream.try_map(|stream| Ok(stream.into_std()?.into()))?)?))
            }
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Tcp($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
            Stream::Unix($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new(&mut **$stream);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut *self, stream => stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(&mut *self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
