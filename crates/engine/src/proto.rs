//! The messages and services of proto/*.proto.

/// proto/peer.proto: requests between nodes.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod peer {
    tonic::include_proto!("kamacache.v1");
}

/// proto/kamacache.proto: the service of KamaCache-Go.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod foreign {
    tonic::include_proto!("pb");
}

/// proto/etcd.proto: the part of etcd's API that the registry calls.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod etcd {
    tonic::include_proto!("etcdserverpb");
}
