//! What several tests of the store use.
use std::sync::Arc;

use kamacache_engine::{memory::Value, store::Store};

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
