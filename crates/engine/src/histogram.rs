//! Times counted in buckets, by any thread and without a lock.
use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets; the last one, which is not listed, has none. They reach from a peer's memory on the
/// same machine to the slowest loader that is usual.
pub const BOUNDS: [Duration; 18] = [
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

#[derive(Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    pub fn observe(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|&bound| bound < time);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Returns how many times fell into each bucket, and their sum.
    pub fn read(&self) -> (Vec<u64>, Duration) {
        let counts = self.buckets.iter().map(|count| count.load(Relaxed)).collect();
        (counts, Duration::from_nanos(self.nanos.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        let times = [Duration::ZERO, BOUNDS[0], BOUNDS[0] + Duration::from_nanos(1), BOUNDS[17], BOUNDS[17] * 2];
        for time in times {
            histogram.observe(time);
        }
        let (counts, sum) = histogram.read();
        assert_eq!((counts[0], counts[1], counts[17], counts[18]), (2, 1, 1, 1));
        assert_eq!(counts.iter().sum::<u64>(), 5);
        assert_eq!(sum, times.iter().sum());
    }
}
