//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod clock;
pub mod events;
pub mod fork;
pub mod hash;
pub mod histogram;
pub mod memory;
pub mod peer;
pub mod placement;
pub mod policy;
pub mod security;
pub mod socket;
pub mod store;
pub mod sync;
pub mod tracked;
pub mod transport;
pub mod version;
pub mod wire;
