//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod clock;
pub mod etcd;
pub mod events;
pub mod fork;
pub mod hash;
pub mod memory;
pub mod peer;
pub mod placement;
pub mod policy;
pub mod socket;
pub mod store;
pub mod sync;
pub mod tracked;
pub mod transport;
pub mod version;
pub mod wire;
