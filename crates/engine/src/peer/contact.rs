//! Pings, which say how far a member is with its writes, the fetching of writes that were missed, and questions for people.
use std::time::{Duration, Instant};

use prost::Message;

use super::{
    Failure, FailureKind,
    blocking::Pool,
    many::{Outcome, exchange, packed},
};
use crate::{memory::Memory, orders, proto::peer as pb, resp};

/// The time for one part of the missed writes.
const PART: Duration = Duration::from_secs(1);

/// Pings all of these at once, as member `me`.
pub fn ping_many(
    pool: &Pool,
    me: &str,
    addresses: Vec<String>,
    timeout: Duration,
) -> Vec<Result<pb::Contact, Failure>> {
    let mut question = Vec::new();
    resp::send(&mut question, "KC.PING", me.as_bytes());
    let questions: Vec<_> = addresses.into_iter().map(|to| (to, question.clone())).collect();
    let outcomes = exchange(pool, &questions, timeout, false).into_iter();
    questions.iter().zip(outcomes).map(|((address, _), outcome)| message(pool, address, outcome)).collect()
}

/// Asks each of these what it knows of itself, all at once. The answers are JSON.
pub fn statuses(pool: &Pool, addresses: Vec<String>, timeout: Duration) -> Vec<Result<Vec<u8>, Failure>> {
    let mut question = Vec::new();
    resp::send(&mut question, "KC.STATUS", b"self");
    let questions: Vec<_> = addresses.into_iter().map(|to| (to, question.clone())).collect();
    let outcomes = exchange(pool, &questions, timeout, false).into_iter();
    let text = |bytes: &[u8]| Some(bytes.to_vec());
    questions.iter().zip(outcomes).map(|((address, _), outcome)| packed(pool, address, outcome, text)).collect()
}

/// Has a group take note of the writes that a member remembers after a number. Returns whether it remembers all. A member
/// without the group knows of no write to it.
pub fn fetch_missed(
    pool: &Pool,
    address: &str,
    memory: &dyn Memory,
    since: u64,
    within: Duration,
) -> Result<bool, Failure> {
    let deadline = Instant::now() + within;
    let mut whole = true;
    let mut request = pb::MissedRequest { group: memory.name().to_owned(), since, part: 0 };
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).min(PART);
        let mut question = Vec::new();
        resp::send(&mut question, "KC.MISSED", &request.encode_to_vec());
        let reply: pb::MissedReply = match message(pool, address, pool.ask(address, &question, left)) {
            Err(failure) if failure.kind == FailureKind::UnknownGroup => return Ok(true),
            reply => reply?,
        };
        let nonsense = |_: orders::Refused| Failure::nonsense(address, "not a version");
        let writes = reply.writes.iter().map(|known| Ok((known.key.as_str(), orders::version(&known.version)?)));
        let writes = writes.collect::<Result<Vec<_>, orders::Refused>>().map_err(nonsense)?;
        // A version too far ahead is not taken in, here as anywhere.
        memory.merge(writes.iter().map(|(_, version)| *version).max().unwrap_or(0));
        for (key, version) in writes {
            memory.tell(key, version);
        }
        memory.raise(orders::version(&reply.floor).map_err(nonsense)?);
        whole &= !reply.forgotten;
        if reply.next == 0 {
            return Ok(whole);
        }
        request.part = reply.next;
    }
}

fn message<M: Message + Default>(pool: &Pool, address: &str, outcome: Outcome) -> Result<M, Failure> {
    packed(pool, address, outcome, |bytes| M::decode(bytes).ok())
}
