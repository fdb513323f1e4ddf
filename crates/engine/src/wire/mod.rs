//! The protocols spoken on a node's one port.
pub mod auth;
pub mod clients;
pub mod commands;
pub mod connection;
pub mod foreign;
pub mod grpc;
pub mod http;
pub mod http2;
pub mod queue;
pub mod redis;
pub mod resp;
pub mod server;
pub mod stream;
pub mod table;
pub mod tls;

/// Generated from proto/peer.proto.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod peer_v1 {
    tonic::include_proto!("kamacache.v1");
}

/// Generated from proto/kamacache.proto.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod foreign_pb {
    tonic::include_proto!("pb");
}
