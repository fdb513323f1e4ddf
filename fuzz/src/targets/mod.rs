//! The engine's parsers, one function each. A function panics if the parser breaks a promise.
mod commands;
mod etcd;
mod messages;
mod port;
mod replies;
mod texts;

use std::{sync::Arc, time::Duration};

use kamacache_engine::{
    clock::Clock,
    memory::{Groups, Value},
    store::{Candidacy, Options, Store},
    version::Hlc,
};

pub struct Target {
    pub name: &'static str,
    /// The most bytes of memory that one input may make the parser hold.
    pub most: usize,
    pub run: fn(&[u8]),
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// Inputs have at most 4 KiB. A store of 1 MiB keeps what a few of its commands write.
pub const ALL: &[Target] = &[
    Target { name: "commands", most: 4 * MIB, run: commands::run },
    Target { name: "replies", most: 64 * KIB, run: replies::run },
    Target { name: "messages", most: 4 * MIB, run: messages::run },
    Target { name: "port", most: 16 * MIB, run: port::run },
    Target { name: "etcd", most: MIB, run: etcd::run },
    Target { name: "texts", most: 64 * KIB, run: texts::run },
];

#[derive(Clone)]
pub struct Shared(bytes::Bytes);

impl Value for Shared {
    fn received(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the groups of a node that has one, "g", which owns every key. Time stands still.
pub fn groups() -> Arc<Groups> {
    let second = 1_000_000_000;
    let clock = Arc::new(Clock::manual(1_700_000_000 * second));
    let store = Store::<Shared>::new(Options {
        name: "g".into(),
        max_bytes: MIB as u64,
        policy: "lru".into(),
        clock: clock.clone(),
        near_ttl: second,
        remember: Duration::from_secs(10).as_nanos() as u64,
        freshness: None,
        overhead: 100,
        keep_evicted: false,
        packs: false,
    });
    let store = store.expect("there is this policy");
    store.order_by(Arc::new(Hlc::new(clock, 7)));
    store.place(Candidacy::new(None, 0), 0);
    store.join();
    let groups = Arc::new(Groups::default());
    groups.named.lock().insert("g".into(), Arc::new(store));
    groups
}
