//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod memory;
pub mod wire;
