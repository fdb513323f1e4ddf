//! What a store remembers of recent writes.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use kamacache_engine::{
    arrivals::arrived,
    clock::{Clock, SECOND},
    store::{Fill, Gone, Kind, Lookup, Mark, Options, Store},
};
use proptest::prelude::*;

mod common;
use common::{Bytes, recent};

const REMEMBER: u64 = 30 * SECOND;

fn store(max_bytes: u64, clock: &Arc<Clock>) -> Store<Bytes> {
    Store::new(Options {
        name: "test".into(),
        max_bytes,
        policy: "s3fifo".into(),
        clock: clock.clone(),
        near_ttl: 5 * SECOND,
        remember: REMEMBER,
        freshness: None,
        overhead: 100,
        keep_evicted: false,
        packs: false,
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
    assert!(recent(&store).into_iter().all(|(key, version)| seen[&key] == version));
}

fn loaded(mark: Mark, foreign: bool) -> Fill {
    let kind = if foreign { Kind::Near } else { Kind::Main };
    Fill { version: mark.version, ttl: None, kind, took: 0, foreign, since: Some(mark) }
}

fn value() -> Option<Bytes> {
    Some(Bytes(Arc::new(vec![1; 100])))
}

#[test]
fn a_full_memory_of_writes_refuses_too_much_rather_than_too_little() {
    let clock = Arc::new(Clock::manual(0));
    let store = store(64 << 10, &clock);
    let gone = &mut Gone::default();
    let early = store.mark("early");
    assert!(store.put("loaded", value(), loaded(early, false), gone));
    let mut n = 0;
    while store.stats().unremembered == 0 {
        assert!(!store.is_full());
        store.note(&format!("w{n}"), 5 + n, gone);
        store.sweep(u64::MAX, gone);
        n += 1;
    }
    assert!(store.is_full());
    let stats = store.stats();
    assert_eq!((stats.remembered, stats.unremembered), (n as u64 - 1, 1));
    assert!((30 << 10..=32 << 10).contains(&stats.remembered_bytes), "{stats:?}");
    assert!(n > 500, "{n} writes fill it");
    // The write that found no room stands for one of any key: for loads that began before it, and later writes.
    let last = 4 + n;
    assert_eq!(store.known("other"), last);
    assert_eq!(store.note("other", 1, gone), last);
    assert!(!store.put("early", value(), loaded(early, false), gone));
    assert!(!store.fresh("early", early));
    assert!(!store.put("fetched", value(), loaded(store.mark("fetched"), true), gone));
    assert!(store.put("late", value(), loaded(store.mark("late"), false), gone));
    assert!(store.peek("loaded") != Lookup::Miss, "what is here stays");
    clock.advance(REMEMBER);
    store.sweep(u64::MAX, gone);
    assert!(!store.is_full());
    assert_eq!((recent(&store), store.known("other"), store.stats().remembered_bytes), (vec![], 0, 0));
    assert!(store.put("fetched", value(), loaded(store.mark("fetched"), true), gone));
    assert!(!store.fresh("early", early), "its writes are forgotten");
}

#[test]
fn entries_make_room_for_remembered_writes() {
    for max in [4 << 10, 64 << 10, 4 << 20] {
        let store = store(max, &Arc::new(Clock::manual(0)));
        let gone = &mut Gone::default();
        for n in 0..max / 200 {
            store.put(&format!("entry {n}"), value(), loaded(Mark::default(), false), gone);
        }
        assert!(store.stats().bytes > max * 8 / 10);
        for n in 0..max / 50 {
            match n % 3 {
                0 => drop(store.write(&format!("set {n}"), value(), u128::from(n) + 1, None, gone)),
                1 => drop(store.write(&format!("deleted {n}"), None, u128::from(n) + 1, None, gone)),
                _ => assert_eq!(store.note(&format!("noted {n}"), u128::from(n) + 1, gone), u128::from(n) + 1),
            }
            if n % 64 == 0 {
                let stats = store.stats();
                assert!(stats.bytes <= max && stats.remembered_bytes <= max / 2, "{stats:?}");
            }
        }
        let stats = store.stats();
        assert!(stats.entries > 0 && stats.unremembered > 0 && stats.remembered_bytes > max * 3 / 8, "{stats:?}");
    }
}

#[test]
fn a_key_that_is_written_again_and_again_takes_the_room_of_one() {
    for max in [4 << 10, 64 << 10, 4 << 20] {
        let clock = Arc::new(Clock::manual(0));
        let store = store(max, &clock);
        for n in 0..50_000 {
            store.note(["a", "b", "c"][n % 3], 1 + n as u128, &mut Gone::default());
        }
        let stats = store.stats();
        assert_eq!((stats.remembered, stats.unremembered), (3, 0));
        assert!(stats.remembered_bytes <= 3 * 4_300, "{stats:?}");
        assert_eq!(store.known("c"), 49_998);
    }
}

#[test]
fn twenty_thousand_writes_a_second_are_remembered_with_default_options() {
    let clock = Arc::new(Clock::manual(0));
    let store = store(64 << 20, &clock);
    let gone = &mut Gone::default();
    for second in 0..40u128 {
        let mark = store.mark("loaded");
        for n in 0..20_000u128 {
            let (key, version) = (second * 20_000 + n, ((second * 20_000 + n + 1) << 64) + n % 5);
            store.note(&format!("user:{key:016}"), version, gone);
        }
        assert!(store.put("loaded", value(), loaded(mark, false), gone));
        clock.advance(SECOND);
        store.sweep(u64::MAX, gone);
    }
    let stats = store.stats();
    assert_eq!((stats.remembered, stats.unremembered), (580_000, 0));
    assert!(stats.remembered_bytes <= 32 << 20, "{stats:?}");
}

#[derive(Clone, Debug)]
enum Op {
    Note { key: u8, node: u8 },
    Clear { below: u8 },
    Advance { by: u64 },
    Sweep { open: u64 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        30 => (any::<u8>(), any::<u8>()).prop_map(|(key, node)| Op::Note { key: key % 40, node }),
        1 => (0..20u8).prop_map(|below| Op::Clear { below }),
        1 => (0..8_000u64).prop_map(|by| Op::Advance { by: by * 1_000_000 }),
        1 => (0..60 * SECOND).prop_map(|open| Op::Sweep { open }),
    ];
    prop::collection::vec(op, 1..1_500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Chunks of 1 KiB: they are filled, compacted and dropped all the time.
    #[test]
    fn remembers_what_a_map_does(ops in ops()) {
        let clock = Arc::new(Clock::manual(0));
        let store = store(16 << 10, &clock);
        let gone = &mut Gone::default();
        let (mut model, mut order, mut time) = (BTreeMap::new(), 0u64, 0);
        let mut numbers = vec![arrived()];
        for op in ops {
            match op {
                Op::Note { key, node } => {
                    order += 1;
                    // Few keys are long, most are written often.
                    let key = format!("{:1$}", key, if key % 7 == 0 { 60 } else { 1 });
                    let version = u128::from(order) << 64 | u128::from(node);
                    store.note(&key, version, gone);
                    model.insert(key, (version, time, order));
                }
                Op::Clear { below } => {
                    let floor = u128::from(order.saturating_sub(below.into())) << 64;
                    store.clear(floor, gone);
                    model.retain(|_, (version, ..)| *version > floor);
                }
                Op::Advance { by } => {
                    time += by;
                    clock.advance(by);
                }
                Op::Sweep { open } => {
                    let since = time.saturating_sub(open);
                    store.sweep(since, gone);
                    model.retain(|_, (_, at, _)| *at + REMEMBER > time || *at >= since);
                }
            }
            numbers.resize(order as usize + 1, arrived());
            prop_assert_eq!(store.stats().remembered, model.len() as u64);
        }
        prop_assert_eq!(store.stats().unremembered, 0);
        for n in 0..40 {
            let key = format!("{:1$}", n, if n % 7 == 0 { 60 } else { 1 });
            if let Some((version, ..)) = model.get(&key) {
                prop_assert_eq!(store.known(&key), *version);
            }
        }
        let mut expected: Vec<_> = model.into_iter().map(|(key, (version, _, order))| (order, key, version)).collect();
        expected.sort();
        let after = |since: u64| -> Vec<_> {
            expected.iter().filter(|w| w.0 > since).map(|(_, key, version)| (key.clone(), *version)).collect()
        };
        prop_assert_eq!(recent(&store), after(0));
        for since in (0..=order).step_by(7) {
            prop_assert_eq!(store.missed(numbers[since as usize], 0).writes, after(since));
        }
        clock.advance(100 * SECOND);
        store.sweep(u64::MAX, gone);
        prop_assert_eq!(store.stats().bytes, 0);
    }
}
