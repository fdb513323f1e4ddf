//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod clock;
pub mod fork;
pub mod hash;
pub mod memory;
pub mod placement;
pub mod policy;
pub mod store;
pub mod version;
pub mod wire;
