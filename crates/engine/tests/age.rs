//! Entries that should be loaded anew: who is told to, and what is answered meanwhile.
use std::sync::Arc;

use kamacache_engine::{
    clock::{Clock, SECOND},
    memory::{Memory, Write},
    store::{Fill, Freshness, Gone, Kind, Lookup, Options, Store, Use},
    version::Hlc,
};

mod common;
use common::Bytes;

fn made(freshness: Freshness) -> (Arc<Clock>, Store<Bytes>) {
    let clock = Arc::new(Clock::manual(1_700_000_000 * SECOND));
    let store = Store::new(Options {
        name: "test".into(),
        max_bytes: 1 << 20,
        policy: "lru".into(),
        clock: clock.clone(),
        near_ttl: 5 * SECOND,
        remember: 30 * SECOND,
        freshness: Some(freshness),
        overhead: 100,
        keep_evicted: false,
        packs: false,
    })
    .unwrap();
    store.order_by(Arc::new(Hlc::new(clock.clone(), 1)));
    (clock, store)
}

fn put(store: &Store<Bytes>, ttl: Option<u64>, kind: Kind, took: u64) {
    let fill = Fill { version: store.known("k"), ttl, kind, took, foreign: false, since: None };
    assert!(store.put("k", Some(Bytes(Arc::new(vec![1]))), fill, &mut Gone::default()));
}

fn hits(store: &Store<Bytes>) -> bool {
    matches!(store.lookup("k", |_, _| ()), Lookup::Hit(()))
}

fn usable(store: &Store<Bytes>) -> Option<Use> {
    store.aged("k", true).map(|aged| aged.usable)
}

#[test]
fn one_caller_refreshes_and_the_others_hit() {
    let (clock, store) = made(Freshness { refresh_after: Some(8 * SECOND), ..Freshness::default() });
    put(&store, Some(10 * SECOND), Kind::Main, 0);
    clock.advance(8 * SECOND - 1);
    assert!(hits(&store));
    clock.advance(1);
    assert!(!hits(&store));
    assert_eq!(store.aged("k", false).unwrap().usable, Use::Refresh); // a look claims nothing
    assert!(!hits(&store));
    assert_eq!(usable(&store), Some(Use::Refresh));
    assert_eq!(store.aged("k", true).unwrap().remaining, Some(2 * SECOND));
    assert_eq!(usable(&store), Some(Use::Answer));
    assert!(hits(&store));
    clock.advance(SECOND);
    assert!(!hits(&store));
    assert_eq!(usable(&store), Some(Use::Refresh));
    clock.advance(SECOND);
    assert_eq!(usable(&store), None); // the end of its ttl
}

#[test]
fn a_copy_of_what_another_node_owns_is_no_old_answer() {
    for (kind, old) in [(Kind::Main, Some(Use::IfError)), (Kind::Near, None), (Kind::Former, None)] {
        let (clock, store) = made(Freshness { if_error: 60 * SECOND, ..Freshness::default() });
        put(&store, Some(SECOND), kind, 0);
        clock.advance(SECOND);
        assert_eq!(usable(&store), old);
    }
}

#[test]
fn a_value_that_is_not_to_be_kept_drops_an_older_one() {
    let (clock, store) = made(Freshness { if_error: 60 * SECOND, ..Freshness::default() });
    put(&store, Some(10 * SECOND), Kind::Main, 0);
    clock.advance(10 * SECOND);
    let fill = Fill { version: store.known("k"), ttl: Some(0), kind: Kind::Main, took: 0, foreign: true, since: None };
    assert!(!store.put("k", None, fill, &mut Gone::default()));
    assert_eq!(usable(&store), Some(Use::IfError)); // another node answered an old value, which says nothing
    assert!(!store.put("k", Some(Bytes(Arc::new(vec![2]))), Fill { foreign: false, ..fill }, &mut Gone::default()));
    assert_eq!(usable(&store), None);

    let (_, store) = made(Freshness { if_error: 60 * SECOND, ..Freshness::default() });
    put(&store, None, Kind::Main, 0);
    let mark = store.mark("k");
    store.write("k", Some(Bytes(Arc::new(vec![3]))), mark.version + 1, None, &mut Gone::default());
    let fill = Fill { version: mark.version, foreign: false, since: Some(mark), ..fill };
    store.put("k", None, fill, &mut Gone::default());
    assert!(hits(&store)); // a write since the load began stays
}

#[test]
fn a_stale_value_is_answered_within_its_windows() {
    let (clock, store) =
        made(Freshness { while_revalidate: 3 * SECOND, if_error: 60 * SECOND, ..Freshness::default() });
    put(&store, Some(10 * SECOND), Kind::Main, 0);
    clock.advance(10 * SECOND);
    assert!(!hits(&store));
    assert!(store.find("k").is_none());
    assert_eq!(usable(&store), Some(Use::Refresh));
    assert_eq!(store.find("k").unwrap().2, Some(0)); // so that nobody keeps a near copy
    clock.advance(3 * SECOND);
    assert!(!hits(&store));
    assert_eq!(usable(&store), Some(Use::IfError));
    store.sweep(u64::MAX, &mut Gone::default());
    store.expire("k", &mut Gone::default());
    assert_eq!(usable(&store), Some(Use::IfError));
    store.hold("k", SECOND);
    assert!(hits(&store));
    clock.advance(57 * SECOND);
    assert_eq!(usable(&store), None);
    store.sweep(u64::MAX, &mut Gone::default());
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn a_write_takes_the_stale_value_away() {
    let (clock, store) =
        made(Freshness { while_revalidate: 60 * SECOND, if_error: 60 * SECOND, ..Freshness::default() });
    put(&store, Some(SECOND), Kind::Main, 0);
    clock.advance(2 * SECOND);
    assert_eq!(usable(&store), Some(Use::Refresh));
    store.tell("k", 1 << 100);
    assert_eq!(usable(&store), None);
    put(&store, Some(SECOND), Kind::Main, 0);
    clock.advance(2 * SECOND);
    store.order(Write { key: "k", value: None, ttl: None, above: 0, ordered: 0 });
    assert_eq!(usable(&store), None);
}

#[test]
fn a_near_copy_is_never_stale() {
    let (clock, store) =
        made(Freshness { while_revalidate: 60 * SECOND, if_error: 60 * SECOND, ..Freshness::default() });
    put(&store, Some(60 * SECOND), Kind::Near, 0);
    clock.advance(5 * SECOND);
    assert_eq!(usable(&store), None);
    store.sweep(u64::MAX, &mut Gone::default());
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn by_chance_before_the_end() {
    let (clock, store) = made(Freshness { early: 1.0, ..Freshness::default() });
    let refreshed_at = |left: u64| {
        let tries = 400;
        (0..tries)
            .filter(|_| {
                put(&store, Some(100 * SECOND), Kind::Main, SECOND);
                clock.advance(100 * SECOND - left);
                let usable = usable(&store);
                clock.advance(left + SECOND);
                usable == Some(Use::Refresh)
            })
            .count() as f64
            / f64::from(tries)
    };
    put(&store, Some(100 * SECOND), Kind::Main, SECOND);
    clock.advance(89 * SECOND);
    assert!(hits(&store)); // more than ten load times before the end there is nothing to decide
    clock.advance(20 * SECOND);
    let (near, far) = (refreshed_at(SECOND / 10), refreshed_at(3 * SECOND));
    assert!((0.8..=1.0).contains(&near), "{near}"); // e^-0.1 = 0.905
    assert!((0.0..0.12).contains(&far), "{far}"); // e^-3 = 0.05
}
