//! RESP, the protocol of Redis: how nodes read each other's memory, and what Redis clients and the command line ask.
pub mod codec;
pub mod command;
pub mod commands;
pub mod guard;
pub mod output;
pub mod queue;
pub mod reply;
pub mod session;
pub mod table;

pub use codec::{ENCRYPTED, Limits, Parser, ProtocolError, line, put};
pub use reply::{ABSENT, Answer, HOT, PING, Parsed, Reply, Unpack, ask, auth, pack, pack_nothing, reply};
