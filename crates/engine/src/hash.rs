//! The hash of keys that all nodes of all versions agree on.
use rapidhash::v3::{DEFAULT_RAPID_SECRETS, rapidhash_v3_seeded};

/// Returns the hash that places keys: rapidhash V3 as published, with its default seed, on every platform. Nodes of
/// different versions must agree on it, so it never changes.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    rapidhash_v3_seeded(bytes, &DEFAULT_RAPID_SECRETS)
}

/// Maps 64 bits one to one, so that every input bit moves every output bit (the finalizer of SplitMix64: Steele, Lea
/// and Flood, OOPSLA 2014). As stable as `stable_hash`.
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
        let keys: [&[u8]; 6] = [b"", b"a", b"42", "k\u{e4}se".as_bytes(), b"user:1234567890:profile", &long];
        let known = [
            0x0338dc4be2cecdae,
            0x599f47df33a2e1eb,
            0xba69b499fd2e4fc1,
            0x31aae891513f24a5,
            0x23d9f39668c50f76,
            0xa2f383f4b9260b9d,
        ];
        assert_eq!(keys.map(stable_hash), known);
    }

    #[test]
    fn mix64_never_changes() {
        assert_eq!([mix64(0), mix64(1), mix64(u64::MAX)], [0, 0x5692_161d_100b_05e5, 0xb4d0_55fc_f2cb_bd7b]);
    }
}
