//! The keys that callers ask for most: a space-saving sketch of a sample of the gets (Metwally, Agrawal and El Abbadi,
//! "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005).
//!
//! One get of about [`EVERY`] is counted, hit or miss, of callers and clients here; what peers ask is counted at the
//! peers. The gaps are random, because a program that asks for its keys in turn would have the same ones counted for
//! ever. Counts are halved each minute. Of the counters of a shard, the least goes to a new key, which takes over its
//! count as its `error`: so a key has at least `count - error` of the samples, and none that has more than one in
//! [`COUNTERS`] of those of its shard is missing.
use crate::clock::SECOND;

/// The number of gets for which one sample stands.
const EVERY: u64 = 128;
/// Counters of one shard.
const COUNTERS: usize = 32;
/// Counts are halved after this time.
const HALF: u64 = 60 * SECOND;
/// The most bytes of a key that are kept.
const TEXT: usize = 200;
/// Keys that are certain to have fewer samples are not worth showing.
const LEAST: u32 = 2;

/// A key that was often asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// Its beginning, if it is long.
    pub key: Box<str>,
    /// Samples at most.
    pub count: u32,
    /// So many of them may have been of other keys.
    pub error: u32,
}

impl Counted {
    pub fn certain(&self) -> u32 {
        self.count - self.error
    }
}

/// The sketch of one shard, changed under its lock.
pub struct Hot {
    random: u64,
    sampled: u64,
    halved: u64,
    counters: Vec<(u64, Counted)>,
}

impl Hot {
    pub fn new(seed: u64) -> Self {
        Self { random: seed | 1, sampled: 0, halved: 0, counters: Vec::new() }
    }

    /// Counts a get. Returns how many gets later the next sample is to be taken.
    #[cold]
    #[inline(never)]
    pub fn sample(&mut self, hash: u64, key: &str) -> u64 {
        self.note(hash, key);
        self.gap()
    }

    /// Returns how many gets later the next sample is to be taken, as the first.
    pub fn gap(&mut self) -> u64 {
        self.random ^= self.random << 13; // Marsaglia's xorshift
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        1 + (self.random >> 32) % (2 * EVERY - 1)
    }

    fn note(&mut self, hash: u64, key: &str) {
        self.sampled += 1;
        if let Some((_, counted)) = self.counters.iter_mut().find(|(other, _)| *other == hash) {
            counted.count = counted.count.saturating_add(1);
            return;
        }
        let end = (0..=key.len().min(TEXT)).rev().find(|&end| key.is_char_boundary(end)).unwrap_or(0);
        let new = |error: u32| (hash, Counted { key: key[..end].into(), count: error.saturating_add(1), error });
        if self.counters.len() < COUNTERS {
            self.counters.push(new(0));
        } else if let Some(least) = self.counters.iter_mut().min_by_key(|(_, counted)| counted.count) {
            *least = new(least.1.count);
        }
    }

    /// Returns the number of samples.
    pub fn sampled(&self) -> u64 {
        self.sampled
    }

    /// Returns the keys that have some samples for certain.
    pub fn counted(&self) -> impl Iterator<Item = &Counted> {
        self.counters.iter().map(|(_, counted)| counted).filter(|counted| counted.certain() >= LEAST)
    }

    /// Halves the counts if it is time.
    pub fn age(&mut self, now: u64) {
        if self.halved == 0 {
            self.halved = now;
        }
        if now.saturating_sub(self.halved) < HALF {
            return;
        }
        self.halved = now;
        self.sampled /= 2;
        self.counters.retain_mut(|(_, counted)| {
            counted.count /= 2;
            counted.error /= 2;
            counted.count > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certain(hot: &Hot, key: &str) -> u32 {
        hot.counters.iter().find(|(_, counted)| &*counted.key == key).map_or(0, |(_, it)| it.certain())
    }

    #[test]
    fn a_frequent_key_is_found_among_many_others() {
        let mut hot = Hot::new(7);
        for number in 0..10_000 {
            hot.note(number + 1, &number.to_string());
            if number % 10 == 0 {
                hot.note(0, "hot");
            }
        }
        assert_eq!((hot.sampled, hot.counters.len()), (11_000, COUNTERS));
        let it = &hot.counters.iter().find(|(hash, _)| *hash == 0).unwrap().1;
        assert!(it.count >= 1_000 && it.count - it.error <= 1_000, "{it:?}");
        assert!(it.count <= 1_000 + 11_000 / COUNTERS as u32, "{it:?}");
        let others = hot.counters.iter().filter(|(hash, _)| *hash > 0);
        assert!(others.map(|(_, it)| it.count - it.error).max().unwrap() < certain(&hot, "hot"));
    }

    #[test]
    fn one_get_of_128_is_counted_and_not_always_the_same() {
        let mut hot = Hot::new(7);
        let mut number = 0_u64;
        while number < 128_000 {
            number += hot.sample(number % 16, ["a", "b", "c", "d"][number as usize % 4]);
        }
        assert!((800..1_250).contains(&hot.sampled), "{}", hot.sampled);
        assert_eq!(hot.counters.len(), 16);
        assert!(hot.counters.iter().all(|(_, it)| it.count > 20));
    }

    #[test]
    fn counts_are_halved_each_minute() {
        let mut hot = Hot::new(7);
        hot.age(SECOND);
        (0..9).for_each(|_| hot.note(1, "often"));
        hot.note(2, "once");
        hot.age(60 * SECOND);
        assert_eq!((certain(&hot, "often"), certain(&hot, "once")), (9, 1));
        hot.age(61 * SECOND);
        assert_eq!((certain(&hot, "often"), hot.sampled, hot.counters.len()), (4, 5, 1));
    }

    #[test]
    fn a_long_key_is_cut() {
        let mut hot = Hot::new(7);
        hot.note(1, &"ü".repeat(30_000));
        hot.note(1, &"ü".repeat(30_000));
        assert_eq!(certain(&hot, &"ü".repeat(TEXT / 2)), 2);
    }
}
