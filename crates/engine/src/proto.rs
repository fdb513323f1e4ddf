//! The messages and services of proto/*.proto, as the generator wrote them (see tests/proto.rs).

/// proto/peer.proto: requests between nodes.
#[allow(clippy::all)]
pub mod peer {
    include!("proto/kamacache.v1.rs");
}

/// proto/kamacache.proto: the service of KamaCache-Go.
#[allow(clippy::all)]
pub mod foreign {
    include!("proto/pb.rs");
}

/// proto/etcd.proto: the part of etcd's API that the registry calls.
#[allow(clippy::all)]
pub mod etcd {
    include!("proto/etcdserverpb.rs");
}
