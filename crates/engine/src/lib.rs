//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod hash;
pub mod placement;
pub mod policy;
pub mod wire;
