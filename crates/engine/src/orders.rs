//! The requests of peers about writes, answered without Python: an owner orders them, a listener takes note of them.
use bytes::Bytes;
use prost::Message;

use crate::{
    arrivals::arrived,
    call::{NO_KEY, is_key},
    contacts::Contacts,
    memory::{self, Change, Decided, Groups, Memory, Moved, Only, Terms, Took, Write},
    proto::peer as pb,
};

/// A request that cannot be answered: its group is not here, or it is malformed.
pub enum Refused {
    UnknownGroup(String),
    Invalid(&'static str),
}

/// Returns a version of a message: big-endian, none for 0.
pub fn version(bytes: &[u8]) -> Result<u128, Refused> {
    match bytes {
        [] => Ok(0),
        _ => bytes.try_into().map(u128::from_be_bytes).map_err(|_| Refused::Invalid("a version has 16 bytes")),
    }
}

/// Returns the bytes of a version in a message.
pub fn bytes(version: u128) -> Bytes {
    if version == 0 { Bytes::new() } else { Bytes::copy_from_slice(&version.to_be_bytes()) }
}

fn merged(memory: &dyn Memory, clock: u128) -> Result<u128, Refused> {
    memory.merge(clock).ok_or(Refused::Invalid("a version is more than a day ahead: one of the two clocks is wrong"))
}

fn checked(key: &str) -> Result<(), Refused> {
    if is_key(key) { Ok(()) } else { Err(Refused::Invalid(NO_KEY)) }
}

/// Returns the terms of a message.
pub fn terms(message: &pb::Terms) -> Result<Terms, Refused> {
    let only = match message.only {
        0 => Only::Always,
        1 => Only::Absent,
        2 => Only::Present,
        3 => Only::Version(version(&message.version)?),
        _ => return Err(Refused::Invalid("these terms are unknown here")),
    };
    let change = match message.change {
        0 => Change::Replace,
        1 => Change::Add { delta: message.delta, initial: message.initial },
        2 => Change::Touch,
        _ => return Err(Refused::Invalid("this change is unknown here")),
    };
    let pb::Terms { keep_ttl, wants, .. } = *message;
    Ok(Terms { only, change, keep_ttl, wants, inherited: false })
}

/// Returns the message of what was decided, and the version.
fn outcome(decided: Decided<Bytes>) -> (Bytes, pb::Outcome) {
    let Decided { version, verdict, existed, value, number, held } = decided;
    let held = bytes(held);
    (bytes(version), pb::Outcome { verdict: verdict as u32, existed, value, number, held })
}

/// Orders writes as their owner. They are refused together if this node is no candidate for one of their keys, or no
/// owner of one that has terms, or if they come too late, or if this process stood still just now: their writers gave up
/// then, and others may have written since. A writer that still waits sends them again.
pub fn write(groups: &Groups, request: pb::WriteRequest) -> Result<pb::WriteReply, Refused> {
    let memory = memory::group(groups, request.group.as_bytes()).ok_or(Refused::UnknownGroup(request.group))?;
    if request.items.is_empty() {
        return Err(Refused::Invalid("a write has at least one item"));
    }
    let mut writes = Vec::with_capacity(request.items.len());
    for item in &request.items {
        checked(&item.key)?;
        writes.push(Write {
            key: &item.key,
            value: (!item.delete).then(|| item.value.clone()),
            ttl: u64::try_from(item.ttl_ms).ok().map(|ms| ms.saturating_mul(1_000_000)),
            above: version(&item.above)?,
            ordered: version(&item.ordered)?,
        });
    }
    let newest = writes.iter().map(|write| write.above.max(write.ordered)).max().unwrap_or(0);
    merged(&*memory, newest.max(version(&request.clock)?))?;
    let all_terms =
        request.items.iter().map(|item| item.terms.as_ref().map(terms).transpose()).collect::<Result<Vec<_>, _>>()?;
    let takes = |(write, terms): (&Write<'_>, &Option<Terms>)| match terms {
        Some(_) => memory.is_owner(write.key),
        None => memory.is_candidate(write.key),
    };
    let late = request.until_ms > 0 && memory.now_ms() > request.until_ms;
    let refused = late || groups.reads_late() || !writes.iter().zip(&all_terms).all(takes);
    let mut outcomes = Vec::new();
    let ordered: Option<Vec<_>> = if refused {
        None
    } else if all_terms.iter().all(Option::is_none) {
        writes.into_iter().map(|write| memory.order(write).map(bytes)).collect()
    } else {
        let decide = |(write, terms): (Write<'_>, Option<Terms>)| match terms {
            Some(terms) => Some(outcome(memory.decide(write, &terms))),
            None => memory.order(write).map(|version| (bytes(version), pb::Outcome::default())),
        };
        let decided: Option<Vec<_>> = writes.into_iter().zip(all_terms).map(decide).collect();
        decided.map(|decided| {
            let versions;
            (versions, outcomes) = decided.into_iter().unzip();
            versions
        })
    };
    Ok(pb::WriteReply {
        members: if refused { groups.members.lock().clone() } else { Vec::new() },
        refused: ordered.is_none(),
        versions: ordered.unwrap_or_default(),
        outcomes,
        clock: bytes(merged(&*memory, 0)?),
        now_ms: if refused { memory.now_ms() } else { 0 },
    })
}

/// Takes note of writes that their owners have ordered, and of a clear. Without the group there is nothing to drop.
pub fn tell(groups: &Groups, request: &pb::TellRequest) -> Result<pb::TellReply, Refused> {
    let writes: Vec<_> = request
        .writes
        .iter()
        .map(|known| checked(&known.key).and_then(|()| Ok((known.key.as_str(), version(&known.version)?))))
        .collect::<Result<_, _>>()?;
    let (clock, floor) = (version(&request.clock)?, version(&request.floor)?);
    let Some(memory) = memory::group(groups, request.group.as_bytes()) else {
        return Ok(pb::TellReply { greater: vec![Bytes::new(); writes.len()], ..pb::TellReply::default() });
    };
    merged(&*memory, writes.iter().map(|(_, version)| *version).max().unwrap_or(0).max(clock).max(floor))?;
    let above = |known: u128, version: u128| if known > version { bytes(known) } else { Bytes::new() };
    let greater = writes.iter().map(|&(key, version)| above(memory.tell(key, version), version)).collect();
    let floor = if floor == 0 { Bytes::new() } else { above(memory.raise(floor), floor) };
    Ok(pb::TellReply { greater, floor, clock: bytes(merged(&*memory, 0)?) })
}

/// Takes over entries of keys that this node owns now.
pub fn hand_over(groups: &Groups, request: pb::HandOver) -> Result<pb::HandOverReply, Refused> {
    let memory = memory::group(groups, request.group.as_bytes()).ok_or(Refused::UnknownGroup(request.group.clone()))?;
    took_over(&*memory, &groups.contacts, request)
}

/// Does that for the memory of its group.
pub fn took_over(
    memory: &dyn Memory,
    contacts: &Contacts,
    request: pb::HandOver,
) -> Result<pb::HandOverReply, Refused> {
    let mut reply = pb::HandOverReply { clock: bytes(merged(memory, version(&request.clock)?)?), ..Default::default() };
    if !contacts.are_between(&request.from, &request.to) || !memory.takes_over() {
        reply.refused = true;
        return Ok(reply);
    }
    let mut before = request.before;
    for (place, (key, entry)) in request.keys.iter().zip(request.entries).enumerate() {
        checked(key)?;
        let size = entry.encoded_len();
        let took = memory.take_over(key, moved(entry)?, request.since, before);
        before += size as u64;
        reply.full |= took == Took::Full;
        if took != Took::Done {
            reply.kept.push(place as u32);
        }
    }
    request.keys.iter().rev().for_each(|key| memory.used(key)); // the first was used last
    reply.since = arrived();
    Ok(reply)
}

/// Does the same with encoded messages.
pub fn took_over_encoded(memory: &dyn Memory, contacts: &Contacts, message: &[u8]) -> Result<Vec<u8>, Refused> {
    let request = pb::HandOver::decode(message).map_err(|_| Refused::Invalid("not a message of a node"))?;
    Ok(took_over(memory, contacts, request)?.encode_to_vec())
}

fn moved(entry: pb::Moved) -> Result<Moved, Refused> {
    const MS: i64 = 1_000_000;
    let pb::Moved { answer, over_ms, age_ms, took_us } = entry;
    let answer = answer.unwrap_or_default();
    let over = i64::try_from(over_ms).unwrap_or(i64::MAX);
    let left = (answer.remaining_ms >= 0).then(|| answer.remaining_ms.saturating_sub(over).saturating_mul(MS));
    Ok(Moved {
        version: version(&answer.version)?,
        value: (!answer.absent).then_some(answer.value),
        left,
        age: age_ms.saturating_mul(MS as u64),
        took: took_us.saturating_mul(1_000),
    })
}

/// Returns the message of an entry that is handed over. Its time is rounded down: a copy must not outlive its source.
pub fn to_moved(entry: Moved) -> pb::Moved {
    let ms = entry.left.map_or(-1, |left| left.div_euclid(1_000_000));
    let answer = pb::Answer {
        absent: entry.value.is_none(),
        value: entry.value.unwrap_or_default(),
        version: bytes(entry.version),
        remaining_ms: if entry.left.is_none() { -1 } else { ms.max(0) },
        ..Default::default()
    };
    let over_ms = if entry.left.is_none() { 0 } else { ms.min(0).unsigned_abs() };
    pb::Moved { answer: Some(answer), over_ms, age_ms: entry.age / 1_000_000, took_us: entry.took / 1_000 }
}

/// Returns a part of the writes that a peer missed. A group that is being closed refuses, as a process that has ended does:
/// it cannot tell its writes any more, and that says nothing against the entries of the peer.
pub fn missed(groups: &Groups, request: pb::MissedRequest) -> Result<pb::MissedReply, Refused> {
    let memory = memory::group(groups, request.group.as_bytes()).ok_or(Refused::UnknownGroup(request.group))?;
    let part = usize::try_from(request.part).unwrap_or(usize::MAX);
    let missed = memory.missed(request.since, part).ok_or(Refused::Invalid("the group is closed"))?;
    let known = |(key, version): (String, u128)| pb::Known { key, version: bytes(version) };
    Ok(pb::MissedReply {
        writes: missed.writes.into_iter().map(known).collect(),
        next: missed.next.unwrap_or(0) as u64,
        forgotten: missed.forgotten,
        floor: bytes(memory.floor()),
    })
}
