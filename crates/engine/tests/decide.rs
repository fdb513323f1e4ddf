//! Writes on terms, decided in the memory of their owner.
use std::sync::Arc;

use bytes::Bytes;
use kamacache_engine::{
    clock::{Clock, SECOND},
    marked::{integer, of_integer},
    memory::{Change, Decided, Memory, Only, Terms, Verdict, Write},
    placement::Placement,
    store::{Candidacy, Store},
};

#[allow(dead_code)] // its other part is for other tests
mod common;

type Engine = Store<common::Bytes>;

fn store() -> (Engine, Arc<Clock>) {
    let clock = Arc::new(Clock::manual(1000 * SECOND));
    (common::joined(common::options(&clock), 7), clock)
}

fn decide(store: &Engine, value: Option<&'static [u8]>, ttl: Option<u64>, terms: Terms) -> Decided<Bytes> {
    let value = value.map(Bytes::from_static);
    store.decide(Write { key: "k", value, ttl, above: 0, ordered: 0 }, &terms)
}

fn add(delta: i64, initial: Option<i64>) -> Terms {
    Terms { change: Change::Add { delta, initial }, keep_ttl: true, ..Terms::default() }
}

fn here(store: &Engine) -> Option<Vec<u8>> {
    let mut found = None;
    store.get("k", &mut |looked| found = looked.flatten().map(|held| held.bytes().to_vec()));
    found
}

#[test]
fn what_is_not_met_changes_nothing() {
    let (store, _) = store();
    let only = |only| Terms { only, wants: true, ..Terms::default() };
    assert_eq!(decide(&store, Some(b"v"), None, only(Only::Present)).verdict, Verdict::Unmet);
    assert_eq!(decide(&store, Some(b"v"), None, only(Only::Version(1))).verdict, Verdict::Conflict);
    assert_eq!(store.known("k"), 0);
    let first = decide(&store, Some(b"v"), None, only(Only::Absent));
    assert_eq!((first.verdict, first.existed, first.version), (Verdict::Applied, false, store.known("k")));
    let second = decide(&store, Some(b"w"), None, only(Only::Absent));
    assert_eq!((second.verdict, second.existed, second.version), (Verdict::Unmet, true, 0));
    assert_eq!((second.value.as_deref(), second.held), (Some(&b"v"[..]), first.version));
    assert_eq!(here(&store).as_deref(), Some(&b"v"[..]));
    let third = decide(&store, None, None, only(Only::Version(first.version)));
    assert_eq!((third.verdict, third.existed, here(&store)), (Verdict::Applied, true, None));
}

#[test]
fn integers_count_and_keep_their_time() {
    let (store, clock) = store();
    assert_eq!(decide(&store, None, None, add(1, None)).verdict, Verdict::Unmet);
    assert_eq!(decide(&store, None, Some(9 * SECOND), add(2, Some(5))).number, 7);
    assert_eq!(decide(&store, None, None, add(-8, Some(5))).number, -1);
    assert_eq!(here(&store).as_deref().and_then(integer), Some(-1));
    assert_eq!(store.find("k").unwrap().2, Some(9 * SECOND));
    let over = decide(&store, None, None, add(i64::MIN, None));
    assert_eq!((over.verdict, over.version), (Verdict::Overflow, 0));
    assert_eq!(here(&store).as_deref(), Some(&of_integer(-1)[..]));
    let touched = decide(&store, None, Some(0), Terms { change: Change::Touch, ..Terms::default() });
    assert_eq!((touched.verdict, touched.existed, here(&store)), (Verdict::Applied, true, None));
    decide(&store, Some(b"5"), Some(SECOND), Terms::default());
    assert_eq!(decide(&store, None, None, add(1, Some(0))).verdict, Verdict::NotInteger);
    clock.advance(2 * SECOND);
    assert_eq!(decide(&store, None, None, add(1, Some(0))).number, 1, "it had expired");
}

/// A write that has a version already is not decided on again: what it left gets a greater version.
#[test]
fn ordered_anew_is_not_another_increment() {
    let (store, _) = store();
    let first = decide(&store, None, None, add(1, Some(0)));
    let again = |ordered, above| {
        let write = Write { key: "k", value: None, ttl: None, above, ordered };
        store.decide(write, &add(1, Some(0)))
    };
    let second = again(first.version, first.version + (1 << 90));
    assert!(second.version > first.version + (1 << 90));
    assert_eq!(here(&store).as_deref().and_then(integer), Some(1));
    assert_eq!(store.find("k").unwrap().1, second.version);
    assert_eq!((again(first.version, 0).verdict, again(first.version, 0).version), (Verdict::Superseded, 0));
    let third = decide(&store, None, None, Terms::default());
    assert_eq!(again(second.version, 0).verdict, Verdict::Superseded);
    assert!(again(third.version, 0).version > third.version, "a delete has left nothing");
    assert_eq!(here(&store), None);
}

#[test]
fn only_an_owner_that_knows_what_it_inherits_decides() {
    let (store, clock) = store();
    let table = Arc::new(Placement::new(&[("a", 1.0), ("b", 1.0)]).unwrap());
    let me = table.owner("k");
    store.place(Candidacy::new(Some(table.clone()), 1 - me), 0);
    assert_eq!(decide(&store, Some(b"v"), None, Terms::default()).verdict, Verdict::Refused, "it is the next in line");
    store.place(Candidacy::new(Some(table), me), clock.coarse() + 5 * SECOND);
    assert_eq!(decide(&store, None, None, add(1, Some(0))).verdict, Verdict::Inherit);
    let inherited = Terms { inherited: true, ..add(1, Some(0)) };
    assert_eq!(decide(&store, None, None, inherited).number, 1);
    assert_eq!(decide(&store, None, None, add(1, Some(0))).number, 2, "it is here");
    decide(&store, None, None, Terms::default());
    clock.advance(6 * SECOND);
    assert_eq!(decide(&store, None, None, add(1, Some(0))).number, 1, "no owner before this one counts any more");
    store.shut(true);
    assert_eq!(decide(&store, None, None, inherited).verdict, Verdict::Refused);
}
