//! The messages of other nodes and of KamaCache-Go's: the first byte of an input says which it is.
use std::sync::Arc;

use kamacache_engine::{
    orders,
    proto::{foreign, peer as pb},
};
use prost::Message;

/// Decodes a message, and checks that encoding it loses nothing.
fn decode<M: Message + Default + PartialEq>(input: &[u8]) -> Option<M> {
    let message = M::decode(input).ok()?;
    let bytes = message.encode_to_vec();
    let again = M::decode(&*bytes).expect("what was encoded");
    assert!(again == message || bytes == again.encode_to_vec(), "a message that comes back changed"); // NaN is not itself
    Some(message)
}

pub fn run(input: &[u8]) {
    let Some((kind, input)) = input.split_first() else { return };
    match kind % 16 {
        0 => {
            if let Some(request) = decode::<pb::WriteRequest>(input) {
                drop(orders::write(&super::groups(), request));
            }
        }
        1 => {
            if let Some(request) = decode::<pb::TellRequest>(input) {
                drop(orders::tell(&super::groups(), &request));
            }
        }
        2 => {
            if let Some(request) = decode::<pb::MissedRequest>(input) {
                drop(orders::missed(&super::groups(), request));
            }
        }
        3 => both(input),
        4 => drop(decode::<pb::HelloMessage>(input)),
        5 => drop(decode::<pb::Contact>(input)),
        6 => drop(decode::<pb::MissedReply>(input)),
        7 => drop(decode::<pb::LoadRequest>(input)),
        8 => drop(decode::<pb::LoadEvent>(input)),
        9 => drop(decode::<pb::FillRequest>(input)),
        10 => drop(decode::<pb::FillReply>(input)),
        11 => drop(decode::<pb::WriteReply>(input)),
        12 => drop(decode::<pb::TellReply>(input)),
        13 => drop(decode::<foreign::Request>(input)),
        14 => drop(decode::<foreign::ResponseForGet>(input)),
        _ => drop(decode::<foreign::ResponseForDelete>(input)),
    }
}

/// A write, then what it left: the same bytes as several messages to one store.
fn both(input: &[u8]) {
    let groups = super::groups();
    let Some(request) = decode::<pb::WriteRequest>(input) else { return };
    let keys: Vec<_> = request.items.iter().map(|item| item.key.clone()).collect();
    let Ok(reply) = orders::write(&groups, request) else { return };
    let versions = reply.versions.iter().cloned();
    let writes = keys.into_iter().zip(versions).map(|(key, version)| pb::Known { key, version }).collect();
    let told = orders::tell(&groups, &pb::TellRequest { group: "g".into(), writes, ..pb::TellRequest::default() });
    assert!(told.is_ok_and(|told| reply.refused || !told.greater.is_empty()));
    let memory = Arc::clone(groups.named.lock().get("g").expect("the only group"));
    assert!(memory.missed(0, 0).is_some());
}
