//! The engine of KamaCache: memory, placement and the network. It knows no Python.
#![forbid(unsafe_code)]

pub mod arrivals;
pub mod call;
mod chunks;
pub mod clock;
pub mod contacts;
pub mod etcd;
pub mod events;
pub mod fork;
pub mod hash;
pub mod histogram;
pub mod marked;
pub mod memory;
pub mod names;
pub mod orders;
pub mod outcome;
pub mod peer;
pub mod placement;
pub mod policy;
pub mod port;
pub mod proto;
pub mod resp;
pub mod runtime;
pub mod security;
pub mod socket;
pub mod store;
pub mod sync;
mod table;
pub mod tracked;
pub mod transport;
pub mod version;
pub mod watch;
