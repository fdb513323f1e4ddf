//! Stands for the messages of proto/peer.proto, so that no network has to be built.
pub mod peer {
    pub struct Contact {
        pub id: String,
        pub number: u64,
        pub begun: u64,
        pub has: u64,
        pub now_ms: u64,
    }

    #[derive(Clone)]
    pub struct Member;
}
