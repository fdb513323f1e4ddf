//! Work on all entries is done in slices, and still finds every one of them.
use std::sync::Arc;

use kamacache_engine::{
    clock::{Clock, SECOND},
    policy::Rule,
    store::{Candidacy, Fill, Gone, Kind, Options, Store},
};

mod common;

const ENTRIES: usize = 3_000; // several slices of one shard

fn filled(clock: &Arc<Clock>, policy: &str) -> Store<common::Bytes> {
    let store = Store::new(Options { policy: policy.into(), ..common::options(clock) }).unwrap();
    for number in 0..ENTRIES {
        let ttl = Some(SECOND * if number % 3 == 0 { 10 } else { 1_000 });
        let fill = Fill { version: 0, ttl, kind: Kind::Main, took: 0, foreign: false, since: None };
        let value = Some(common::Bytes(Arc::new(vec![1; 10])));
        assert!(store.put(&format!("k{number:04}"), value, fill, &mut Gone::default()));
    }
    for number in 0..ENTRIES / 2 {
        store.lookup(&format!("k{number:04}"), |_, _| ());
    }
    store
}

#[test]
fn an_entry_changes_its_kind_and_keeps_its_place() {
    for policy in Rule::NAMES {
        let clock = Arc::new(Clock::manual(1_000 * SECOND));
        let store = filled(&clock, policy);
        let named = |slots: Vec<Vec<_>>| -> Vec<String> {
            slots[0].iter().filter_map(|&slot| Some(store.stray(0, slot)?.0)).collect()
        };
        let before = store.slots();
        assert_eq!(before[0].len(), ENTRIES);
        assert!(store.place(Candidacy::None, 0));
        let (order, now) = (named(before), named(store.slots()));
        assert_eq!((order.len(), &order), (ENTRIES, &now), "{policy}");
        assert!(store.keys("").is_empty());
        assert!(!store.place(Candidacy::All, 0));
        assert_eq!(store.keys("").len(), ENTRIES);
    }
}

#[test]
fn a_sweep_finds_all_whose_time_is_over() {
    let clock = Arc::new(Clock::manual(1_000 * SECOND));
    let store = filled(&clock, "s3fifo");
    let left = |seconds| {
        clock.advance(seconds * SECOND);
        store.sweep(u64::MAX, &mut Gone::default());
        store.stats().entries
    };
    assert_eq!(left(9), ENTRIES as u64);
    assert_eq!(left(2), ENTRIES as u64 * 2 / 3);
    assert_eq!(left(988), ENTRIES as u64 * 2 / 3);
    assert_eq!(left(2), 0);
    assert_eq!(store.stats().expirations, ENTRIES as u64);
}
