//! The message of a gRPC call, awaited before it is decoded: tonic takes as much memory as the head of a message claims.
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;
use tonic::{
    Status,
    body::Body,
    codegen::{Body as HttpBody, http},
};
use tower::{Service, ServiceExt};

use super::room::{FULL, Part, Room};
use crate::runtime::TURN;

pub type Responds = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Bytes in front of a message: a flag and its length.
const HEAD: usize = 5;

/// Gathers the message of each call, of at most `most` bytes, and passes it to `inner`.
#[derive(Clone)]
pub struct Whole<S> {
    pub inner: S,
    pub most: usize,
    pub room: Room,
}

impl<S> Service<http::Request<Body>> for Whole<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Responds;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Responds {
        let (inner, most, mut part, time) = (self.inner.clone(), self.most, self.room.part(), self.room.time);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let gathered = timeout(time, gather(body, most, &mut part)).await;
            let late = |_| Err(Status::deadline_exceeded("the message did not arrive in full in time"));
            let message = match gathered.unwrap_or_else(late) {
                Ok(message) => Body::new(Message { rest: message, turn: 0 }),
                Err(status) => return Ok(status.into_http()),
            };
            drop(part);
            inner.oneshot(http::Request::from_parts(head, message)).await
        })
    }
}

/// Reads a body to its end, or until it is clear that tonic will refuse it.
async fn gather(mut body: Body, most: usize, part: &mut Part) -> Result<Bytes, Status> {
    let mut message = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else { continue };
        if message.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        // Doubles what has arrived, whatever length the head claims.
        if message.capacity() - message.len() < data.len() {
            let more = data.len().max(message.len());
            if !part.hold(message.len() + more).await {
                return Err(Status::resource_exhausted(FULL));
            }
            message.reserve(more);
        }
        message.extend_from_slice(&data);
        let claimed = message.first_chunk::<HEAD>().map_or(0, |&[_, a, b, c, d]| u32::from_be_bytes([a, b, c, d]));
        if claimed as usize > most || message.len() > HEAD + most {
            break;
        }
    }
    Ok(message.freeze())
}

/// A message that has arrived, given on in parts so that other connections have their turn.
struct Message {
    rest: Bytes,
    turn: usize,
}

impl HttpBody for Message {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.rest.len().min(TURN);
        self.turn += next;
        let next = self.rest.split_to(next);
        Poll::Ready((!next.is_empty()).then(|| Ok(http_body::Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }
}
