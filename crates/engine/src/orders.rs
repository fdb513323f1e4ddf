//! The requests of peers about writes, answered without Python: an owner orders them, a listener takes note of them.
use bytes::Bytes;

use crate::{
    call::{NO_KEY, is_key},
    memory::{self, Groups, Memory, Write},
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

/// Orders writes as their owner. They are refused together if this node is no candidate for one of their keys.
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
    let refused = !writes.iter().all(|write| memory.is_candidate(write.key));
    let ordered: Option<Vec<_>> =
        if refused { None } else { writes.into_iter().map(|write| memory.order(write).map(bytes)).collect() };
    Ok(pb::WriteReply {
        members: if refused { groups.members.lock().clone() } else { Vec::new() },
        refused: ordered.is_none(),
        versions: ordered.unwrap_or_default(),
        clock: bytes(merged(&*memory, 0)?),
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

/// Returns a part of the writes that a peer missed.
pub fn missed(groups: &Groups, request: pb::MissedRequest) -> Result<pb::MissedReply, Refused> {
    let memory = memory::group(groups, request.group.as_bytes()).ok_or(Refused::UnknownGroup(request.group))?;
    let missed = memory.missed(request.since, usize::try_from(request.part).unwrap_or(usize::MAX));
    let known = |(key, version): (String, u128)| pb::Known { key, version: bytes(version) };
    Ok(pb::MissedReply {
        writes: missed.writes.into_iter().map(known).collect(),
        next: missed.next.unwrap_or(0) as u64,
        forgotten: missed.forgotten,
        floor: bytes(memory.floor()),
    })
}
