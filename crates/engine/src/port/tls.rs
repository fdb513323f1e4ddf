//! TLS under a connection of the runtime, whose protocols need not know of it.
use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stream::Stream;
use crate::{
    security::{Security, tls},
    socket::Address,
};

/// A refused client has this long to read the alert.
const LINGER: Duration = Duration::from_secs(1);
/// The first byte of a client that speaks TLS.
pub const HANDSHAKE: u8 = 0x16;
/// A fatal alert, "handshake failure".
const ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 40];

/// Accepts TLS on a new connection if this node has it. None: the connection was refused, or took longer than `patience`.
pub async fn accept(stream: Stream, security: &Security, patience: Duration) -> Option<Stream> {
    let (Stream::Tcp(_), Some(tls)) = (&stream, &security.tls) else {
        return Some(stream);
    };
    let accepted = TlsAcceptor::from(tls.configs().server.clone()).accept(stream);
    match timeout(patience, accepted.into_fallible()).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream.into()))),
        Ok(Err((_, stream))) => {
            linger(stream).await;
            None
        }
        Err(_) => None,
    }
}

/// Sends a client the alert that this port has no TLS.
pub async fn refuse(mut stream: Stream) -> io::Result<()> {
    stream.write_all(ALERT).await?;
    linger(stream).await;
    Ok(())
}

/// Closes only once the other side has, or in a second: closing over unread bytes would cut off the alert.
async fn linger(mut stream: Stream) {
    let _ = timeout(LINGER, async {
        let _ = stream.shutdown().await;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    })
    .await;
}

/// Begins TLS on a connection to that address, if it is TCP and this node has TLS.
pub async fn connect(stream: Stream, address: &Address, security: &Security, h2: bool) -> io::Result<Stream> {
    let (Address::Tcp(text), Some(tls)) = (address, &security.tls) else {
        return Ok(stream);
    };
    let configs = tls.configs();
    let config = if h2 { &configs.grpc } else { &configs.resp };
    let name = tls::server_name(text)?;
    let stream = TlsConnector::from(config.clone()).connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}
