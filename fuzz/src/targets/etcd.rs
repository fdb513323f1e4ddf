//! The answers of etcd, taken in as its session does: pieces of an input are a kind, a length and a message.
use std::time::{Duration, Instant};

use bytes::Bytes;
use kamacache_engine::{
    etcd::state::{Entry, Job, Lease, State},
    proto::etcd as pb,
};
use prost::Message;

const PREFIX: &[u8] = b"/kamacache/app/";
const LIFE: u32 = 10;
const OWN: &[u8] = b"/kamacache/app/me";

pub fn run(input: &[u8]) {
    let (prefix, own) = (Bytes::from_static(PREFIX), Bytes::from_static(OWN));
    let mut state = State::default();
    state.want(vec![Entry { key: own, value: Bytes::from_static(b"{}"), life: LIFE }]);
    let mut rest = input;
    while let [kind, length, after @ ..] = rest {
        let (message, left) = after.split_at((*length as usize).min(after.len()));
        rest = left;
        take(&mut state, kind % 8, message, &prefix);
        let next = state.next();
        assert!(!state.is_done() || !matches!(next, Some(Job::Write(..) | Job::Grant(_))), "done, and still to write");
        let listed = state.list(&prefix);
        assert!(listed.windows(2).all(|two| two[0].0 < two[1].0), "a list without order");
    }
}

fn take(state: &mut State, kind: u8, message: &[u8], prefix: &Bytes) {
    let question = state.ask(prefix).unwrap_or(0);
    match kind {
        0 | 1 => {
            let Ok(answer) = pb::RangeResponse::decode(message) else { return };
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            if kind == 0 {
                state.read(prefix, question, revision, answer.kvs);
                assert!(state.is_answered(prefix, question));
            } else if state.compare(prefix, &answer) == Some(true) {
                state.checked(prefix, question);
            }
        }
        2 => {
            let Ok(answer) = pb::WatchResponse::decode(message) else { return };
            if !answer.canceled {
                state.watched(answer.events);
            }
        }
        3 | 4 => {
            // As `Keeper::lives` takes it in.
            let (id, ttl) = if kind == 3 {
                let Ok(answer) = pb::LeaseGrantResponse::decode(message) else { return };
                (answer.id, answer.ttl)
            } else {
                let Ok(answer) = pb::LeaseKeepAliveResponse::decode(message) else { return };
                (answer.id, answer.ttl)
            };
            let until = Instant::now() + Duration::from_secs(ttl.clamp(0, 3600).unsigned_abs());
            state.leases.insert(LIFE, Lease { id, until });
        }
        5 => {
            let Ok(answer) = pb::PutResponse::decode(message) else { return };
            if let Some(Job::Write(version, ..)) = state.next() {
                state.wrote(version, answer.header.map_or(0, |header| header.revision));
            }
        }
        6 => drop(pb::AuthenticateResponse::decode(message)),
        _ => {
            state.reconnected();
            state.leases.clear();
            state.lost_lease(0);
        }
    }
}
