//! What several tests of the store use.
use std::sync::Arc;

use kamacache_engine::{
    clock::{Clock, SECOND},
    memory::Value,
    store::{Options, Store},
    version::Hlc,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Arc<Vec<u8>>);

impl Value for Bytes {
    fn received(bytes: bytes::Bytes) -> Self {
        Self(Arc::new(bytes.into()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the remembered writes, those of each shard in the order of their arrival.
#[allow(dead_code, reason = "not every file of tests uses it")]
pub fn recent(store: &Store<Bytes>) -> Vec<(String, u128)> {
    let parts = std::iter::successors(Some(store.missed(0, 0)), |part| Some(store.missed(0, part.next?)));
    parts.flat_map(|part| part.writes).collect()
}

/// Returns the options of a small store, of which a test may change some.
#[allow(dead_code, reason = "not every file of tests uses it")]
pub fn options(clock: &Arc<Clock>) -> Options {
    Options {
        name: "g".into(),
        max_bytes: 1 << 20,
        policy: "lru".into(),
        clock: clock.clone(),
        near_ttl: SECOND,
        remember: 10 * SECOND,
        freshness: None,
        overhead: 100,
        keep_evicted: false,
        packs: false,
    }
}

/// Returns a store that has joined and orders writes as this node.
#[allow(dead_code, reason = "not every file of tests uses it")]
pub fn joined(options: Options, node: u64) -> Store<Bytes> {
    let hlc = Arc::new(Hlc::new(options.clock.clone(), node));
    let store = Store::new(options).unwrap();
    store.order_by(hlc);
    store.join();
    store
}
