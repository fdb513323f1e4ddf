//! What a store remembers of recent writes.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use kamacache_engine::{
    clock::{Clock, SECOND},
    memory::Value,
    store::{Gone, Options, Store, arrived},
};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Bytes(Arc<Vec<u8>>);

impl Value for Bytes {
    fn received(bytes: bytes::Bytes) -> Self {
        Self(Arc::new(bytes.into()))
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

const REMEMBER: u64 = 30 * SECOND;

fn store(max_bytes: u64, clock: &Arc<Clock>) -> Store<Bytes> {
    Store::new(Options {
        name: "test".into(),
        max_bytes,
        policy: "s3fifo".into(),
        clock: clock.clone(),
        near_ttl: 5 * SECOND,
        remember: REMEMBER,
        overhead: 100,
        keep_evicted: false,
    })
    .unwrap()
}

/// Returns all parts of what was missed since a number, and whether something was forgotten.
fn missed(store: &Store<Bytes>, since: u64) -> (HashMap<String, u128>, bool) {
    let (mut all, mut forgotten, mut part) = (HashMap::new(), false, Some(0));
    while let Some(at) = part {
        let missed = store.missed(since, at);
        assert!(missed.writes.len() <= 4_000);
        assert!(missed.writes.iter().map(|(key, _)| key.len()).sum::<usize>() < 400 << 10);
        for (key, version) in missed.writes {
            assert_eq!(all.insert(key, version), None, "in two parts");
        }
        forgotten |= missed.forgotten;
        part = missed.next;
    }
    (all, forgotten)
}

#[test]
fn missed_writes_are_those_of_greater_numbers() {
    let clock = Arc::new(Clock::manual(0));
    let store = store(16 << 20, &clock);
    let gone = &mut Gone::default();
    let before = arrived();
    for n in 0..30_000 {
        store.note(&format!("k{n}"), 5, gone);
    }
    let between = arrived();
    assert!(between >= before + 30_000);
    for n in 20_000..40_000 {
        store.note(&format!("k{n}"), 7, gone);
    }
    let version = |n: u32| if n < 20_000 { 5 } else { 7 };
    let expected = |from| (from..40_000).map(|n| (format!("k{n}"), version(n))).collect::<HashMap<_, _>>();
    assert_eq!(missed(&store, before), (expected(0), false));
    assert_eq!(missed(&store, between), (expected(20_000), false));
    assert_eq!(missed(&store, arrived()), (HashMap::new(), false));
    assert_eq!(missed(&store, u64::MAX), (HashMap::new(), false));
    // A write that is not newer than what is known is no arrival of its key.
    let after = arrived();
    store.note("k30000", 6, gone);
    assert_eq!(missed(&store, after), (HashMap::new(), false));
}

#[test]
fn parts_are_bounded_in_bytes() {
    let store = store(64 << 20, &Arc::new(Clock::manual(0)));
    let before = arrived();
    for n in 0..100 {
        store.note(&format!("{n:060000}"), 5, &mut Gone::default());
    }
    let first = store.missed(before, 0);
    assert!((1..10).contains(&first.writes.len()) && first.next.is_some());
    assert_eq!(missed(&store, before).0.len(), 100);
}

#[test]
fn what_is_forgotten_was_missed_for_good_unless_a_floor_covers_it() {
    let clock = Arc::new(Clock::manual(0));
    let store = store(16 << 20, &clock);
    let gone = &mut Gone::default();
    let before = arrived();
    store.note("old", 5, gone);
    let between = arrived();
    clock.advance(20 * SECOND);
    store.note("new", 6, gone);
    clock.advance(20 * SECOND);
    store.sweep(u64::MAX, gone);
    let new = HashMap::from([("new".to_owned(), 6)]);
    assert_eq!(missed(&store, before), (new.clone(), true));
    assert_eq!(missed(&store, between), (new, false));
    // A clear is an arrival, and covers what it removes.
    let uncleared = arrived();
    store.clear(9, gone);
    assert!(arrived() > uncleared);
    assert_eq!(missed(&store, between), (HashMap::new(), false));
    // An emptied store has lost its writes.
    store.note("lost", 10, gone);
    let known = arrived();
    store.empty(false, gone);
    assert_eq!(missed(&store, known), (HashMap::new(), true));
    assert_eq!(missed(&store, arrived()), (HashMap::new(), false));
}

#[test]
fn nothing_is_missed_while_others_write() {
    // Whoever reads a number first, and then what was missed, never goes without a write up to that number.
    let store = store(16 << 20, &Arc::new(Clock::manual(0)));
    let seen = Mutex::new(HashMap::new());
    let read = |since: u64| {
        let until = arrived();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut part, mut forgotten) = (Some(0), false);
        while let Some(at) = part {
            let missed = store.missed(since, at);
            seen.extend(missed.writes);
            (part, forgotten) = (missed.next, forgotten || missed.forgotten);
        }
        assert!(!forgotten);
        until
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u128)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..20_000u128 {
                        store.note(&format!("k{}", n * (thread + 1) % 5_000), n * 4 + thread + 1, &mut Gone::default());
                    }
                })
            })
            .collect();
        let mut since = 0;
        while writers.iter().any(|writer| !writer.is_finished()) {
            since = read(since);
        }
        read(since);
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), 5_000);
    assert!(store.recent().into_iter().all(|(key, version)| seen[&key] == version));
}
