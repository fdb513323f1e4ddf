//! Probes, which distinguish a frozen peer from a busy one while calls wait on it.
use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep_until, timeout},
};

use super::{Failure, FailureKind, dial::dial};
use crate::{
    names::Names,
    port::{stream::Stream, tls},
    resp,
    security::{Password, Security},
    socket::Address,
};

/// The rhythm of probes; two in a row without an answer and the peer counts as frozen.
const PROBE: Duration = Duration::from_millis(250);

/// Probes a peer until no call waits on it (None), or until it is found dead or frozen.
pub async fn probe(
    address: &Address,
    name: &str,
    names: &Names,
    security: &Security,
    is_idle: impl Fn() -> bool,
) -> Option<Failure> {
    let mut connection = None;
    let mut unanswered = 0;
    let mut tick = Instant::now();
    loop {
        tick += PROBE;
        sleep_until(tick).await;
        tick = tick.max(Instant::now() - PROBE); // ticks that a stall has missed are skipped
        if is_idle() {
            return None;
        }
        let error = match timeout(PROBE, ping(address, names, security, connection.take())).await {
            Ok(Ok(answered)) => {
                (connection, unanswered) = (Some(answered), 0);
                continue;
            }
            Ok(Err(error)) => Failure::io(name, &error),
            Err(_) => Failure::unreachable(format!("{name} left two probes unanswered")),
        };
        unanswered += 1;
        if unanswered == 2 || error.kind == FailureKind::Refused {
            return Some(error);
        }
    }
}

/// Connects, with TLS if this node has it. The caller limits the time.
pub async fn connect(address: &Address, names: &Names, security: &Security, h2: bool) -> io::Result<Stream> {
    tls::connect(dial(address, names).await?, address, security, h2).await
}

/// Sends one KC.PING, and returns the connection.
async fn ping(address: &Address, names: &Names, security: &Security, connection: Option<Stream>) -> io::Result<Stream> {
    let (mut request, mut expected) = (Vec::new(), Vec::new());
    let mut stream = match connection {
        Some(stream) => stream,
        None => {
            let password = security.password.as_ref().map(Password::text);
            for _ in 0..resp::greet(&mut request, password, &security.service) {
                expected.extend_from_slice(b"+OK\r\n");
            }
            connect(address, names, security, false).await?
        }
    };
    request.extend_from_slice(resp::PING);
    expected.extend_from_slice(b"+PONG\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await?;
    if answer == expected { Ok(stream) } else { Err(io::Error::other("gave no proper answer to a probe")) }
}
