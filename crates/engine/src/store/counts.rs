//! The numbers of one shard that are part of its store's.

/// Counters that are changed under the shard's lock, which a hit holds anyway.
#[derive(Default)]
pub struct Counts {
    pub gets: u64,
    /// The number of gets at which the next sample for the hot keys is taken.
    pub sample_at: u64,
    pub hits: u64,
    pub near_hits: u64,
    pub absent: u64,
    pub served: u64,
    pub evictions: u64,
    pub expirations: u64,
    /// Writes for which there was no room.
    pub unremembered: u64,
}

/// Bytes that count in the budgets.
#[derive(Clone, Copy, Default)]
pub struct Used {
    /// All: of entries and of remembered writes.
    pub bytes: u64,
    pub near: u64,
    pub writes: u64,
}
