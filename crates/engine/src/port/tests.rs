use std::{
    convert::Infallible,
    future::Future,
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::{Instant, sleep},
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Body as HttpBody, http},
};
use tower::{Service, service_fn};

use super::{http::Status as State, places::Places, resp, room::Room, server::Shared, stream::Stream, whole::Whole};
use crate::{resp::Limits, security::Origin, tracked::Tracked};

const TIME: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Serves RESP to one client, which has `TIME` for each command.
async fn serve(stream: Stream) -> io::Result<()> {
    let (events, security) = (Arc::default(), Arc::default());
    let shared = Shared {
        groups: Arc::default(),
        status: Arc::new(State::new(Arc::clone(&events), Arc::clone(&security))),
        events,
        limits: Limits { arguments: 1000, argument: 1 << 20, command: 1 << 20 },
        room: Room::new(1 << 20, TIME),
        patience: PATIENCE,
        security,
        http2: tokio::sync::mpsc::channel(1).0,
    };
    let (place, _closed) = Places::new(1).take(Origin("a test".into()), true).unwrap();
    resp::serve(stream, Vec::new(), Instant::now() + PATIENCE, &place, &shared).await
}

#[test]
fn a_command_that_never_ends_ends_its_connection() {
    run(async {
        let (mut client, theirs) = UnixStream::pair().unwrap();
        let socket = Tracked::open(|| Ok(theirs.into_std()?.into())).unwrap();
        let served = tokio::spawn(serve(Stream::Unix(super::unix::UnixStream::new(socket).unwrap())));
        for _ in 0..2 {
            client.write_all(PING).await.unwrap();
            let mut answer = [0; 7];
            client.read_exact(&mut answer).await.unwrap();
            sleep(2 * TIME).await; // between commands there is no limit
        }
        client.write_all(b"*1\r\n$10000\r\n").await.unwrap();
        while !served.is_finished() {
            let _ = client.write_all(b"x").await; // each byte is not a new beginning
            sleep(TIME / 20).await;
        }
        assert_eq!(served.await.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

/// A body of which nothing comes.
struct Stalled;

impl HttpBody for Stalled {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        Poll::Pending
    }
}

#[test]
fn a_message_that_never_ends_is_refused() {
    run(async {
        let inner = service_fn(|_| async { Ok::<_, Infallible>(http::Response::new(Body::empty())) });
        let mut whole = Whole { inner, most: 100, room: Room::new(1 << 20, TIME) };
        let answer = whole.call(http::Request::new(Body::new(Stalled))).await.unwrap();
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
    });
}
