//! Requests about writes over the fast lane, on the caller's own thread.
use std::time::Duration;

use prost::Message;

use super::{
    Failure,
    blocking::Pool,
    many::{Outcome, ask_many, packed},
};
use crate::{
    call::{Reply, Request},
    proto::peer as pb,
    resp,
};

/// Sends all these requests at once, each a Write or a Tell, and returns the replies in the same order, within
/// `timeout`. A Write with terms goes alone, as it must not arrive twice.
pub fn send_all(pool: &Pool, asks: Vec<(String, Request)>, timeout: Duration) -> Vec<Result<Reply, Failure>> {
    let once = matches!(&asks[..], [(_, Request::Write(write))] if write.items.iter().any(|item| item.terms.is_some()));
    let (questions, kinds): (Vec<_>, Vec<_>) = asks.into_iter().map(question).unzip();
    let outcomes = match &questions[..] {
        [(address, request)] if once => vec![pool.ask_once(address, request, timeout)],
        _ => ask_many(pool, &questions, timeout),
    };
    let replied = |((outcome, (address, _)), decode): ((Outcome, &(String, Vec<u8>)), Decode)| {
        packed(pool, address, outcome, decode)
    };
    outcomes.into_iter().zip(&questions).zip(kinds).map(replied).collect()
}

type Decode = fn(&[u8]) -> Option<Reply>;

fn question((address, request): (String, Request)) -> ((String, Vec<u8>), Decode) {
    let mut out = Vec::new();
    let decode: Decode = match request {
        Request::Write(message) => {
            resp::send(&mut out, "KC.WRITE", &message.encode_to_vec());
            |bytes| pb::WriteReply::decode(bytes).ok().map(Reply::Write)
        }
        Request::Tell(message) => {
            resp::send(&mut out, "KC.TELL", &message.encode_to_vec());
            |bytes| pb::TellReply::decode(bytes).ok().map(Reply::Tell)
        }
        _ => |_| None,
    };
    ((address, out), decode)
}
