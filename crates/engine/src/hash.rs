//! The hashes of keys: one that all nodes of all versions agree on, one that nobody outside the process can guess.

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, RapidSecrets, rapidhash_v3_inline, rapidhash_v3_seeded};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// The hash that places keys: rapidhash V3 as published, with its default seed, on every platform. Nodes of different
/// versions must agree on it, so it never changes.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    rapidhash_v3_seeded(bytes, &DEFAULT_RAPID_SECRETS)
}

static SECRETS: LazyLock<RapidSecrets> = LazyLock::new(|| RapidSecrets::seed(RandomState::new().hash_one(0)));

/// The hash for tables in memory: seeded per process, so that keys made to collide in one collide in no other.
#[inline]
pub fn table_hash(bytes: &[u8]) -> u64 {
    rapidhash_v3_inline::<true, true, true>(bytes, &SECRETS)
}

/// A bijection of 64 bits in which every input bit moves every output bit (the finalizer of SplitMix64: Steele, Lea and
/// Flood, OOPSLA 2014). As stable as `stable_hash`.
pub const fn mix64(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_hash_never_changes() {
        let long: Vec<u8> = (0..=255).collect();
        let vectors: [(&[u8], u64); 6] = [
            (b"", 0),
            (b"a", 0),
            (b"42", 0),
            ("käse".as_bytes(), 0),
            (b"user:1234567890:profile", 0),
            (&long, 0),
        ];
        for (bytes, hash) in vectors {
            assert_eq!(stable_hash(bytes), hash, "{bytes:?}");
        }
    }

    #[test]
    fn mix64_never_changes() {
        assert_eq!(
            [mix64(0), mix64(1), mix64(u64::MAX)],
            [0, 0x5692_161d_100b_05e5, 0xb4d0_55fc_f2cb_bd7b]
        );
    }

    #[test]
    fn table_hash_is_its_own() {
        assert_eq!(table_hash(b"42"), table_hash(b"42"));
        assert_ne!(table_hash(b"42"), stable_hash(b"42"));
    }
}
