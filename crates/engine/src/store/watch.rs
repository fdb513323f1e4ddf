//! Which of the keys that were evicted from a shard come back, as in Cliffhanger (Cidon et al., NSDI 2016).
use crate::policy::Ghost;

/// Of a shard with few entries, so many evicted keys are known all the same.
const LEAST: usize = 256;

#[derive(Default)]
pub struct Watch {
    ghost: Ghost,
    /// How many were noted, and of how many of the last it knows.
    noted: u64,
    limit: u64,
    /// The bytes of those that came back.
    returned: u64,
}

impl Watch {
    /// Takes note of an evicted key. It knows as many of them as the shard has entries.
    pub fn evicted(&mut self, hash: u64, entries: usize) {
        (self.noted, self.limit) = (self.noted + 1, entries.max(LEAST) as u64);
        self.ghost.push(hash, self.noted, self.limit);
    }

    pub fn kept(&mut self, hash: u64, weight: u64) {
        if self.ghost.remove(hash, self.noted, self.limit) {
            self.returned += weight;
        }
    }

    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.returned)
    }
}
