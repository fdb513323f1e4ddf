//! The hand-over of entries to the owners of their keys, those that were used last first.
use std::time::{Duration, Instant};

use prost::Message;

use super::{blocking::Pool, many::packed};
use crate::{memory::Memory, orders, placement::Placement, proto::peer as pb, resp};

/// One message has about this many bytes, or one entry.
const BYTES: usize = 256 << 10;
const ENTRIES: usize = 2_000;
/// The time for one message.
const MESSAGE: Duration = Duration::from_secs(1);

/// The outcome of a hand-over, in entries.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Handed {
    pub handed: u64,
    /// Those whose owners may take them later.
    pub left: u64,
}

/// The entries that are under way to one owner.
struct Batch<'a> {
    address: &'a str,
    request: pb::HandOver,
    versions: Vec<u128>,
    bytes: usize,
    begun: bool,
    ended: bool,
    full: bool,
}

/// Carries a message to an address, and returns the reply; None: there is none.
type Carry<'s> = dyn FnMut(&str, Vec<u8>) -> Option<Vec<u8>> + 's;

/// Carries a message over the fast lane.
pub fn carry(pool: &Pool, address: &str, message: &[u8]) -> Option<Vec<u8>> {
    let mut question = Vec::with_capacity(message.len() + 64);
    resp::send(&mut question, "KC.HANDOVER", message);
    packed(pool, address, pool.ask(address, &question, MESSAGE), |reply| Some(reply.to_vec())).ok()
}

/// Hands over what this node does not own. `owners` are addresses and ids by their positions in the table, None for those
/// that cannot be asked: the next candidate of a key stands in for such an owner.
pub fn hand_over(
    memory: &dyn Memory,
    table: &Placement,
    owners: &[Option<(String, String)>],
    me: &str,
    until: Instant,
    send: &mut Carry<'_>,
) -> Handed {
    let mut handed = Handed::default();
    let mut batches: Vec<_> =
        owners.iter().map(|owner| owner.as_ref().map(|owner| Batch::new(memory, me, owner))).collect();
    let mut shards = memory.slots();
    'all: while shards.iter().any(|slots| !slots.is_empty()) {
        for (shard, slots) in shards.iter_mut().enumerate() {
            let Some(slot) = slots.pop() else { continue };
            let Some(mut stray) = memory.stray(shard, slot) else { continue };
            let mut candidates = table.candidates(&stray.0).iter().map(|&at| usize::from(at));
            let Some(next) = candidates.find(|&at| owners.get(at).is_some_and(Option::is_some)) else { continue };
            let Some(Some(batch)) = batches.get_mut(next) else { continue };
            if Instant::now() >= until {
                handed.left += 1;
                break 'all;
            }
            if !batch.begun {
                batch.flush(memory, send, &mut handed); // for the number, before anything is read
                let Some(again) = memory.stray(shard, slot) else { continue };
                stray = again;
            }
            if batch.ended {
                handed.left += u64::from(!batch.full);
                continue;
            }
            let (key, moved) = stray;
            batch.versions.push(moved.version);
            let entry = orders::to_moved(moved);
            batch.bytes += key.len() + entry.encoded_len();
            batch.request.keys.push(key);
            batch.request.entries.push(entry);
            if batch.bytes >= BYTES || batch.versions.len() >= ENTRIES {
                batch.flush(memory, send, &mut handed);
            }
        }
    }
    for batch in batches.iter_mut().flatten().filter(|batch| !batch.versions.is_empty()) {
        batch.flush(memory, send, &mut handed);
    }
    handed
}

impl<'a> Batch<'a> {
    fn new(memory: &dyn Memory, me: &str, (address, id): &'a (String, String)) -> Self {
        let (group, from, to) = (memory.name().to_owned(), me.to_owned(), id.clone());
        let request = pb::HandOver { group, from, to, ..Default::default() };
        Self { address, request, versions: Vec::new(), bytes: 0, begun: false, ended: false, full: false }
    }

    /// Sends what is here, and drops from memory what was taken over.
    fn flush(&mut self, memory: &dyn Memory, send: &mut Carry<'_>, handed: &mut Handed) {
        self.begun = true;
        self.request.clock = orders::bytes(memory.merge(0).unwrap_or(0));
        let reply = send(self.address, self.request.encode_to_vec());
        let keys = std::mem::take(&mut self.request.keys);
        let versions = std::mem::take(&mut self.versions);
        self.request.entries.clear();
        self.request.before += std::mem::take(&mut self.bytes) as u64;
        let decoded = reply.and_then(|reply| pb::HandOverReply::decode(reply.as_slice()).ok());
        // One that is silent is asked again until it is considered dead.
        let Some(reply) = decoded.filter(|reply| !reply.refused) else {
            self.ended = true;
            handed.left += keys.len() as u64;
            return;
        };
        memory.merge(orders::version(&reply.clock).unwrap_or(0));
        self.request.since = reply.since;
        (self.ended, self.full) = (reply.full, reply.full);
        for (place, (key, version)) in keys.iter().zip(versions).enumerate() {
            if reply.kept.contains(&(place as u32)) {
                handed.left += u64::from(!reply.full);
            } else {
                memory.hand_off(key, version);
                handed.handed += 1;
            }
        }
    }
}
