//! The counters of a group: how its calls ended.

macro_rules! outcomes {
    ($($position:ident => $name:literal),* $(,)?) => {
        /// The names of all counters, in order.
        pub const OUTCOMES: [&str; [$($name),*].len()] = [$($name),*];

        #[allow(clippy::upper_case_acronyms, non_camel_case_types)]
        enum Position { $($position),* }

        $(pub const $position: usize = Position::$position as usize;)*
    };
}

outcomes! {
    GETS => "gets",
    HITS => "hits",
    NEAR_HITS => "near_hits",
    ABSENT => "absent",
    PEER_HITS => "peer_hits",
    JOINED => "joined",
    LOADS => "loads",
    PEER_LOADS => "peer_loads",
    SERVED => "served",
    LOAD_ERRORS => "load_errors",
    WRITES => "writes",
    UNDECODABLE => "undecodable",
    STALE => "stale",
    UNANSWERED => "unanswered",
    TOO_LARGE => "too_large",
}
