//! RESP, the protocol of Redis: for nodes that read each other's memory, for Redis clients and for the command line.
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
pub use reply::{ABSENT, Answer, HOT, Look, PING, Parsed, Reply, Unpack, ask, greet, pack, pack_nothing, reply, send};
