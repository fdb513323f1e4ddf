//! Accepts connections, finds out by their first bytes what they speak, and serves RESP.
use std::{
    future::Future,
    io::{self, IoSlice},
    mem,
    sync::Arc,
    time::Duration,
};

use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::{Instant, timeout, timeout_at},
};

use super::{
    http,
    http2::Connection,
    stream::{Acceptor, Stream},
    tls,
};
use crate::{
    events::Events,
    memory::Groups,
    resp::{
        Limits, Parser,
        guard::Guard,
        output::Output,
        queue::Queue,
        session::{Arguments, Next, Session},
        table,
    },
    security::Security,
    socket::Listener,
};

/// The limits of a connection before the password: enough for AUTH and HELLO.
const STRANGER: Limits = Limits { arguments: 10, argument: 1024, command: 4096 };

const BUFFER: usize = 16 * 1024;
/// Replies are written when they have grown to this size; nothing is read meanwhile.
const OUTPUT: usize = 1 << 20;
/// Bytes of later commands that are read while an answer is due.
const AHEAD: usize = 64 * 1024;
/// A connection must give the password, if there is one, and complete first bytes other than RESP's within this time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between looks for the file of a Unix socket, while nobody connects.
const LOOK: Duration = Duration::from_secs(1);

/// The number of descriptors of a process without a limit.
const DESCRIPTORS: u64 = 1 << 20;
/// How HTTP/2 begins.
const HTTP2: &[u8; 4] = b"PRI ";

/// What every connection needs.
#[derive(Clone)]
pub struct Shared {
    pub groups: Arc<Groups>,
    /// The queue for requests of clients that memory does not answer.
    pub events: Arc<Events>,
    pub status: Arc<http::Status>,
    pub limits: Limits,
    pub security: Arc<Security>,
    /// Connections for the gRPC server.
    pub http2: mpsc::Sender<io::Result<Connection>>,
}

/// Accepts until the runtime ends, then removes the file of a Unix socket. If it was removed by others, it is made anew.
pub async fn accept(listener: Listener, shared: Shared) -> io::Result<()> {
    let Listener { socket, address, mut file } = listener;
    let mut acceptor = Acceptor::new(socket, &address)?;
    let places = Arc::new(Semaphore::new(most()));
    loop {
        let accepted = match &file {
            None => acceptor.accept().await,
            Some(present) => match timeout(LOOK, acceptor.accept()).await {
                Ok(accepted) => accepted,
                Err(_) if present.is_there() => continue,
                Err(_) => {
                    let named = address.clone();
                    let bound = spawn_blocking(move || Listener::bind(&named, std::slice::from_ref(&named))); // may wait for a lock
                    if let Ok(Ok(again)) = bound.await {
                        if let Ok(accepting) = Acceptor::new(again.socket, &address) {
                            (acceptor, file) = (accepting, again.file);
                        }
                    }
                    continue;
                }
            },
        };
        match accepted {
            Ok(stream) => match places.clone().try_acquire_owned() {
                Ok(place) => drop(tokio::spawn(serve(stream, place, shared.clone()))),
                Err(_) => drop(stream),
            },
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Mostly for want of descriptors: the connection waits in the backlog.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Returns how many connections may be open at a time: all descriptors but an eighth, at least 64, which are left to
/// the application.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or(DESCRIPTORS, |limit| limit.min(DESCRIPTORS));
    (limit - (limit / 8).max(64).min(limit / 2)) as usize
}

/// Returns whether these first bytes show which protocol is spoken. All 24 bytes of the preface of HTTP/2 are awaited
/// here, where their time is limited.
fn is_told(input: &[u8]) -> bool {
    match input.first_chunk() {
        _ if input.first() == Some(&b'*') => true,
        Some(HTTP2) => input.len() >= 24,
        told => told.is_some(),
    }
}

/// Serves one connection to its end. A client that breaks off needs no report.
async fn serve(stream: Stream, place: OwnedSemaphorePermit, shared: Shared) {
    let Some(mut stream) = tls::accept(stream, &shared.security).await else {
        return;
    };
    let mut deadline = Instant::now() + PATIENCE;
    let mut input = Vec::with_capacity(BUFFER);
    while !is_told(&input) {
        let idle = input.is_empty() && shared.security.password.is_none(); // without a password a client may connect long before it asks
        let read = stream.read_buf(&mut input);
        let read = if idle {
            let read = read.await;
            deadline = Instant::now() + PATIENCE;
            read
        } else {
            timeout_at(deadline, read).await.unwrap_or(Ok(0))
        };
        match read {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let _ = match input.first_chunk() {
        _ if input[0] == b'*' => resp(stream, input, deadline, &shared).await,
        Some(HTTP2) => {
            let until = shared.security.password.is_some().then_some(deadline);
            let connection = Connection::new(input, stream, place, until);
            let _ = shared.http2.send(Ok(connection)).await;
            Ok(())
        }
        Some(first) if first[0] == tls::HANDSHAKE => tls::refuse(stream).await,
        Some(first) if http::is_method(first) => http::serve(stream, input, &shared.status).await,
        _ => Ok(()),
    };
}

/// Runs work that must be done by that time, if there is one.
async fn until<T>(time: Option<Instant>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match time {
        None => work.await,
        Some(time) => timeout_at(time, work).await?,
    }
}

/// Serves RESP. A client must give the password by `deadline`, as one that does not can block both reading and writing.
async fn resp(mut stream: Stream, mut input: Vec<u8>, deadline: Instant, shared: &Shared) -> io::Result<()> {
    let mut session = Session::new(Guard::new(&shared.security, stream.origin()));
    let mut parser = Parser::new(if session.guard.is_open() { shared.limits } else { STRANGER });
    let mut out = Output::default();
    let mut queue = Queue::default();
    loop {
        let mut start = 0;
        let go_on = loop {
            match parser.parse(&input[start..]) {
                Ok(true) => {
                    let arguments = Arguments { input: &input[start..], ranges: parser.arguments() };
                    let command = arguments.get(0).and_then(table::find);
                    let keys = arguments.count().saturating_sub(1);
                    if !queue.admits(command, keys) {
                        write(&mut stream, &mut out).await?;
                        input.drain(..mem::take(&mut start)); // else it would grow while more can be read
                        let enough = AHEAD + parser.arguments().last().map_or(0, |last| last.end);
                        queue.next(&mut stream, &mut input, enough, &session, &mut out).await?;
                        continue;
                    }
                    let place = queue.place(&mut out);
                    let next = table::execute(&mut session, command, arguments, &shared.groups, &shared.events, place);
                    let closes = matches!(next, Next::Close);
                    if let Next::Wait(pending) = next {
                        queue.push(pending, command, keys);
                    }
                    start += parser.finish();
                    if session.guard.is_open() {
                        parser.limit(shared.limits);
                    }
                    if closes {
                        break false;
                    }
                    if out.len() >= OUTPUT {
                        write(&mut stream, &mut out).await?;
                    }
                }
                Ok(false) => break true,
                Err(error) => {
                    queue.place(&mut out).error(&format!("ERR Protocol error: {}", error.0));
                    break false;
                }
            }
        };
        let limit = (!session.guard.is_open()).then_some(deadline); // strangers' answers never come to OUTPUT before this
        until(limit, write(&mut stream, &mut out)).await?;
        if !go_on {
            let enough = input.len() + AHEAD;
            while !queue.is_empty() {
                queue.next(&mut stream, &mut input, enough, &session, &mut out).await?;
                write(&mut stream, &mut out).await?;
            }
            return until(limit, stream.shutdown()).await;
        }
        if start == input.len() {
            input.clear();
            if input.capacity() > OUTPUT {
                input = Vec::with_capacity(BUFFER);
            }
        } else if start > 0 {
            input.drain(..start);
        }
        if input.capacity() - input.len() < BUFFER / 4 {
            input.reserve(BUFFER.max(input.len())); // doubles what has arrived, whatever length the client claims
        }
        if !queue.is_empty() {
            queue.next(&mut stream, &mut input, usize::MAX, &session, &mut out).await?;
            continue;
        }
        if until(limit, stream.read_buf(&mut input)).await? == 0 {
            return Ok(());
        }
    }
}

/// Writes everything, large values without a copy.
async fn write(stream: &mut Stream, out: &mut Output) -> io::Result<()> {
    if out.large.is_empty() {
        if !out.bytes.is_empty() {
            stream.write_all(&out.bytes).await?;
        }
    } else {
        let mut slices = Vec::with_capacity(2 * out.large.len() + 1);
        let mut at = 0;
        for (position, value) in &out.large {
            slices.push(IoSlice::new(&out.bytes[at..*position]));
            slices.push(IoSlice::new(value));
            at = *position;
        }
        slices.push(IoSlice::new(&out.bytes[at..]));
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // drops empty ones at the front
        while !left.is_empty() {
            let few = left.len().min(512); // under the system's limit of one call
            match stream.write_vectored(&left[..few]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut left, n),
            }
        }
    }
    stream.flush().await?; // TLS holds some back otherwise
    out.clear();
    if out.bytes.capacity() > OUTPUT {
        *out = Output::default();
    }
    Ok(())
}
