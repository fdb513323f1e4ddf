//! The protocols spoken on a node's one port.
/// Generated from proto/peer.proto.
#[allow(missing_docs, clippy::all)]
pub mod peer_v1 {
    tonic::include_proto!("kamacache.v1");
}
