//! The engine of KamaCache: what a hit needs, here or in a peer's memory. Knows no Python.
pub mod events;
pub mod fork;
pub mod memory;
pub mod peer;
pub mod socket;
pub mod tracked;
pub mod transport;
pub mod wire;
