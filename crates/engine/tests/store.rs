//! The store against a simple model, under random operations on every policy.
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use kamacache_engine::{
    clock::{Clock, SECOND},
    memory::{Memory, Write},
    outcome,
    placement::Placement,
    policy::Rule,
    store::{Candidacy, Fill, Gone, Kind, Lookup, Mark, Options, Store},
    version::Hlc,
};
use proptest::prelude::*;

mod common;
use common::{Bytes, recent};

fn fill(version: u128, ttl: Option<u64>, kind: Kind, foreign: bool) -> Fill {
    let since = None;
    Fill { version, ttl, kind, took: 0, foreign, since }
}

fn bytes(size: usize, tag: u8) -> Bytes {
    Bytes(Arc::new(vec![tag; size]))
}

/// Returns the candidacy of one of so many members.
fn one_of(members: usize) -> Candidacy {
    static TABLES: OnceLock<Vec<Arc<Placement>>> = OnceLock::new();
    let tables = TABLES.get_or_init(|| {
        let named = |count: usize| (0..count).map(|number| (number.to_string(), 1.0)).collect::<Vec<_>>();
        (1..4).map(|count| Arc::new(Placement::new(&named(count)).unwrap())).collect()
    });
    Candidacy::new(Some(tables[members - 1].clone()), 0)
}

const NEAR_TTL: u64 = 5 * SECOND;
const REMEMBER: u64 = 30 * SECOND;
const OVERHEAD: u64 = 100;

fn store(policy: &str, max_bytes: u64, clock: &Arc<Clock>) -> Store<Bytes> {
    Store::new(Options {
        name: "test".into(),
        max_bytes,
        policy: policy.into(),
        clock: clock.clone(),
        near_ttl: NEAR_TTL,
        remember: REMEMBER,
        freshness: None,
        overhead: OVERHEAD,
        keep_evicted: false,
        packs: false,
    })
    .unwrap()
}

#[derive(Clone, Debug)]
enum Op {
    Put { key: u8, size: Option<usize>, version: u128, ttl: Option<u64>, kind: Kind },
    Write { key: u8, size: Option<usize>, version: u128, ttl: Option<u64> },
    Note { key: u8, version: u128 },
    Get { key: u8 },
    Read { key: u8, former: bool },
    Clear { version: u128 },
    Place { members: usize },
    Advance { by: u64 },
    Sweep,
    Empty,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0..24u8;
    let size = prop::option::weighted(0.9, 0..600usize);
    let version = 0..60u128;
    let ttl = prop::option::of(0..20 * SECOND);
    let kind = prop::sample::select(vec![Kind::Main, Kind::Near, Kind::Former]);
    let op = prop_oneof![
        12 => (key.clone(), size.clone(), version.clone(), ttl.clone(), kind)
            .prop_map(|(key, size, version, ttl, kind)| Op::Put { key, size, version, ttl, kind }),
        6 => (key.clone(), size, version.clone(), ttl)
            .prop_map(|(key, size, version, ttl)| Op::Write { key, size, version, ttl }),
        3 => (key.clone(), version.clone()).prop_map(|(key, version)| Op::Note { key, version }),
        12 => key.clone().prop_map(|key| Op::Get { key }),
        4 => (key.clone(), any::<bool>()).prop_map(|(key, former)| Op::Read { key, former }),
        1 => version.prop_map(|version| Op::Clear { version }),
        1 => (1..4usize).prop_map(|members| Op::Place { members }),
        3 => (0..12 * SECOND).prop_map(|by| Op::Advance { by }),
        2 => Just(Op::Sweep),
        1 => Just(Op::Empty),
    ];
    prop::collection::vec(op, 1..150)
}

fn name(key: u8) -> String {
    // Some on either side of what is kept inline.
    if key % 3 == 0 { format!("a key of more than twenty-two bytes: {key}") } else { format!("k{key}") }
}

#[derive(Clone, Debug)]
struct Entry {
    value: Option<Bytes>,
    version: u128,
    expires: u64,
    kind: Kind,
    served: u64,
}

/// The contents of a store of unlimited memory.
#[derive(Default)]
struct Model {
    entries: HashMap<String, Entry>,
    writes: HashMap<String, (u128, u64)>,
    floor: u128,
    now: u64,
}

impl Model {
    fn live(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.expires > self.now)
    }

    fn serves(&self, key: &str) -> Option<&Entry> {
        self.live(key).filter(|entry| entry.kind != Kind::Former || entry.served > self.now)
    }

    fn known(&self, key: &str) -> u128 {
        let written = self.writes.get(key).map_or(0, |&(version, _)| version);
        self.live(key).map_or(0, |entry| entry.version).max(written).max(self.floor)
    }

    fn keep(&mut self, key: &str, value: Option<Bytes>, version: u128, ttl: Option<u64>, kind: Kind) {
        let expires = ttl.map_or(u64::MAX, |ttl| self.now + ttl);
        self.entries.insert(key.into(), Entry { value, version, expires, kind, served: self.now + NEAR_TTL });
    }
}

fn fits(key: &str, size: usize, max: u64) -> bool {
    key.len() as u64 + size as u64 + OVERHEAD <= max / 8
}

/// Applies an operation to both and checks its answer. Without `exact` anything may have been evicted.
fn step(op: &Op, store: &Store<Bytes>, model: &mut Model, clock: &Clock, max: u64, tag: u8, exact: bool) {
    let mut gone = Gone::default();
    match op.clone() {
        Op::Put { key, size, version, ttl, kind } => {
            let key = name(key);
            let value = size.map(|size| bytes(size, tag));
            let ttl = if kind == Kind::Near { Some(ttl.map_or(NEAR_TTL, |ttl| ttl.min(NEAR_TTL))) } else { ttl };
            let possible = ttl != Some(0) && fits(&key, size.unwrap_or(0), max);
            let expected = possible && version >= model.known(&key);
            let kept = store.put(&key, value.clone(), fill(version, ttl, kind, false), &mut gone);
            // An entry that was evicted took its version with it. A full memory of writes refuses too much.
            let full = store.stats().unremembered > 0;
            assert!(kept == expected || (!exact && (!kept && full || kept && possible)), "{op:?}");
            if kept {
                model.keep(&key, value, version, ttl, kind);
            }
        }
        Op::Write { key, size, version, ttl } => {
            let key = name(key);
            let value = size.map(|size| bytes(size, tag));
            let written = store.write(&key, value.clone(), version, ttl, &mut gone);
            let expected = version > model.known(&key);
            let full = store.stats().unremembered > 0;
            assert!(written == expected || (!exact && (written || full)), "{op:?}");
            if written {
                model.writes.insert(key.clone(), (version, model.now));
                if value.is_some() && ttl != Some(0) && fits(&key, size.unwrap_or(0), max) {
                    model.keep(&key, value, version, ttl, Kind::Main);
                } else {
                    model.entries.remove(&key);
                }
            }
        }
        Op::Note { key, version } => {
            let key = name(key);
            let before = store.known(&key);
            let known = store.note(&key, version, &mut gone);
            assert_eq!(known, before.max(version));
            if version > before {
                model.writes.insert(key.clone(), (version, model.now));
                model.entries.remove(&key);
            }
        }
        Op::Get { key } => {
            let key = name(key);
            let expected = match model.serves(&key) {
                Some(Entry { value: Some(value), .. }) => Lookup::Hit(value.clone()),
                Some(_) => Lookup::Absent,
                None => Lookup::Miss,
            };
            let peeked = store.peek(&key);
            let found = match store.lookup(&key, |value, _| value.clone()) {
                Lookup::Past => Lookup::Miss,
                found => found,
            };
            assert_eq!(peeked, found);
            assert!(found == expected || (!exact && found == Lookup::Miss), "{key}: {found:?}, expected {expected:?}");
        }
        Op::Read { key, former } => {
            let key = name(key);
            let expected = model.live(&key).filter(|entry| former || entry.kind != Kind::Former);
            store.read(&key, former, &mut |found| {
                assert!(found.is_some() == expected.is_some() || (!exact && found.is_none()), "{key}");
                if let (Some(found), Some(expected)) = (found, expected) {
                    assert_eq!(found.version, expected.version);
                    assert_eq!(found.value.map(|v| v.bytes().to_vec()), expected.value.as_ref().map(|v| v.0.to_vec()));
                    let left = (expected.expires != u64::MAX).then(|| (expected.expires - model.now) / 1_000_000);
                    assert_eq!(found.remaining_ms, left);
                }
            });
        }
        Op::Clear { version } => {
            model.floor = model.floor.max(version);
            assert_eq!(store.clear(version, &mut gone), model.floor);
            let floor = model.floor;
            model.entries.retain(|_, entry| entry.version >= floor);
            model.writes.retain(|_, (version, _)| *version > floor);
        }
        Op::Place { members } => {
            let candidacy = one_of(members);
            store.place(candidacy.clone(), 0);
            let until = model.now + NEAR_TTL;
            for (key, entry) in &mut model.entries {
                match (entry.kind, candidacy.owns(key)) {
                    (Kind::Main, false) => (entry.kind, entry.served) = (Kind::Former, until),
                    (Kind::Former, true) => entry.kind = Kind::Main,
                    _ => {}
                }
            }
        }
        Op::Advance { by } => {
            clock.advance(by);
            model.now += by;
        }
        Op::Sweep => {
            assert!(store.sweep(u64::MAX, &mut gone).is_empty(), "the store keeps no evicted entries");
            let now = model.now;
            model.entries.retain(|_, entry| entry.expires > now);
            // Times of writes are rounded up to microseconds.
            model.writes.retain(|_, (_, at)| at.next_multiple_of(1_000) + REMEMBER > now);
            if exact {
                let mut recent = recent(store);
                let mut expected: Vec<_> =
                    model.writes.iter().map(|(key, (version, _))| (key.clone(), *version)).collect();
                recent.sort();
                expected.sort();
                assert_eq!(recent, expected);
            }
        }
        Op::Empty => {
            store.empty(false, &mut gone);
            model.entries.clear();
            model.writes.clear();
        }
    }
}

fn policy() -> impl Strategy<Value = &'static str> {
    prop::sample::select(Rule::NAMES.to_vec())
}

proptest! {
    #[test]
    fn does_what_the_model_does(ops in ops(), policy in policy()) {
        let clock = Arc::new(Clock::manual(0));
        let max = 4 << 20;
        let store = store(policy, max, &clock);
        let mut model = Model::default();
        for (index, op) in ops.iter().enumerate() {
            step(op, &store, &mut model, &clock, max, index as u8, true);
            for key in 0..24 {
                prop_assert_eq!(store.known(&name(key)), model.known(&name(key)));
            }
        }
        store.sweep(u64::MAX, &mut Gone::default());
        let live = model.entries.iter().filter(|(_, entry)| entry.expires > model.now);
        let weight = |(key, entry): (&String, &Entry)| {
            key.len() as u64 + entry.value.as_ref().map_or(0, |v| v.0.len() as u64) + OVERHEAD
        };
        let stats = store.stats();
        prop_assert_eq!(stats.entries, live.clone().count() as u64);
        prop_assert_eq!(stats.bytes, live.clone().map(weight).sum::<u64>() + stats.remembered_bytes);
        prop_assert_eq!(stats.near_bytes, live.filter(|(_, e)| e.kind == Kind::Near).map(weight).sum::<u64>());
    }

    #[test]
    fn the_budget_holds_and_nothing_wrong_is_served(ops in ops(), policy in policy(), max in 4096..12_000u64) {
        let clock = Arc::new(Clock::manual(0));
        let store = store(policy, max, &clock);
        let mut model = Model::default();
        for (index, op) in ops.iter().enumerate() {
            let before = store.find("k1").map(|found| found.1);
            step(op, &store, &mut model, &clock, max, index as u8, false);
            let stats = store.stats();
            prop_assert!(stats.bytes <= max && stats.near_bytes <= max / 8, "{:?} after {:?}", stats, op);
            if let Op::Put { key: 1, version, .. } = op {
                // An entry that was just kept is never evicted to make room for itself. A refused one changes nothing.
                let now = store.find("k1").map(|found| found.1);
                prop_assert!(now == Some(*version) || now == before, "{:?} after {:?}", now, op);
            }
        }
        let mut gone = Gone::default();
        store.empty(true, &mut gone);
        let stats = store.stats();
        prop_assert_eq!((stats.entries, stats.bytes, stats.near_bytes), (0, 0, 0));
        prop_assert!(!store.put("k1", Some(bytes(1, 0)), fill(1000, None, Kind::Main, false), &mut gone));
    }
}

#[test]
fn a_key_asked_for_by_peers_four_times_in_a_second_is_hot() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("s3fifo", 1 << 20, &clock);
    store.put("main", Some(bytes(1, 1)), fill(1, None, Kind::Main, false), &mut Gone::default());
    store.put("near", Some(bytes(1, 1)), fill(1, None, Kind::Near, false), &mut Gone::default());
    let ask = |key: &str| {
        let mut hot = None;
        store.read(key, false, &mut |found| hot = found.map(|found| found.hot));
        hot.unwrap()
    };
    assert_eq!([(); 5].map(|()| ask("main")), [false, false, false, true, true]);
    assert_eq!([(); 5].map(|()| ask("near")), [false; 5]);
    clock.advance(SECOND);
    assert!(!ask("main"));
    assert_eq!(store.stats().outcomes[outcome::SERVED], 11);
}

#[test]
fn many_threads_share_a_store() {
    let store = store("s3fifo", 8 << 20, &Arc::new(Clock::machine()));
    let rounds = 20_000u64;
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                let mut gone = Gone::default();
                for n in 0..rounds {
                    let key = format!("k{}", (n * 7 + thread * 13) % 5_000);
                    match n % 4 {
                        0 => drop(store.put(&key, Some(bytes(4_000, 1)), fill(1, None, Kind::Main, false), &mut gone)),
                        1 => drop(store.put(&key, Some(bytes(900, 1)), fill(1, None, Kind::Near, false), &mut gone)),
                        _ => drop(store.lookup(&key, |_, _| ())),
                    }
                    gone.0.clear();
                }
            });
        }
    });
    let stats = store.stats();
    assert_eq!(stats.outcomes[outcome::GETS], 4 * rounds / 2);
    assert!(stats.bytes <= 8 << 20 && stats.near_bytes <= 1 << 20);
    assert!(stats.evictions > 0);
    store.empty(false, &mut Gone::default());
    assert_eq!(store.stats().bytes, 0);
}

#[test]
fn a_load_is_as_old_as_its_beginning() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("s3fifo", 1 << 20, &clock);
    let gone = &mut Gone::default();
    let since = |mark| Fill { since: Some(mark), ..fill(mark.version, None, Kind::Main, false) };
    store.note("k", 7, gone);
    let before = store.mark("k");
    assert!(store.fresh("k", before));
    store.note("k", 9, gone);
    assert!(!store.fresh("k", before));
    assert!(!store.put("k", Some(bytes(1, 1)), since(before), gone));
    // The write is no longer remembered by its key; its arrival still is.
    clock.advance(60 * SECOND);
    store.sweep(u64::MAX, gone);
    assert_eq!(store.known("k"), 0);
    assert!(!store.fresh("k", before));
    assert!(!store.put("k", Some(bytes(1, 1)), since(before), gone));
    let after = store.mark("k");
    assert!(store.fresh("k", after));
    assert!(store.put("k", Some(bytes(1, 1)), since(after), gone));
    // An emptied store has lost its writes, so a load that began before may be older than any of them.
    store.empty(false, gone);
    assert!(!store.fresh("k", after));
    // A floor refuses older loads by itself, and a load that began after it is kept.
    let emptied = store.mark("k");
    store.clear(20, gone);
    assert!(!store.fresh("k", emptied));
    assert!(store.put("k", Some(bytes(1, 1)), since(store.mark("k")), gone));
}

#[test]
fn no_load_is_kept_while_a_write_is_pending() {
    let store = store("s3fifo", 1 << 20, &Arc::new(Clock::manual(0)));
    let gone = &mut Gone::default();
    let loaded = |mark: Mark| Fill { since: Some(mark), ..fill(mark.version, None, Kind::Main, false) };
    store.expect("k");
    store.expect("k");
    store.note("k", 7, gone);
    let mark = store.mark("k");
    store.settle("k");
    store.clear(6, gone);
    store.empty(false, gone);
    assert!(!store.fresh("k", store.mark("k")));
    assert!(!store.put("k", Some(bytes(1, 1)), loaded(store.mark("k")), gone));
    assert!(store.write("k", Some(bytes(1, 1)), 9, None, gone));
    store.settle("k");
    assert!(!store.fresh("k", mark));
    assert!(!store.put("k", Some(bytes(1, 1)), loaded(mark), gone));
    assert!(store.put("k", Some(bytes(1, 1)), loaded(store.mark("k")), gone));
}

#[test]
fn a_write_that_a_later_one_superseded_is_not_ordered_anew() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("s3fifo", 1 << 20, &clock);
    let gone = &mut Gone::default();
    let write = |above, ordered| Write { key: "k", value: None, ttl: None, above, ordered };
    assert_eq!(store.ordered(&write(0, 0), Some(bytes(1, 1)), gone), None);
    store.order_by(Arc::new(Hlc::new(clock, 7)));
    let first = store.ordered(&write(0, 0), Some(bytes(1, 1)), gone).unwrap();
    let far = first + (9 << 64);
    let second = store.ordered(&write(far, first), Some(bytes(2, 1)), gone).unwrap();
    assert!(second > far);
    assert_eq!(store.ordered(&write(far, first), Some(bytes(3, 1)), gone), Some(second), "it is above what is known");
    assert_eq!(store.ordered(&write(second, first), Some(bytes(3, 1)), gone), Some(second), "it is what is known");
    assert_eq!(store.peek("k"), Lookup::Hit(bytes(2, 1)));
    let other = first + 1; // a version of node 8
    assert_eq!(store.ordered(&write(far, other), Some(bytes(3, 1)), gone), Some(0), "it may have come before");
    store.note("k", second + 2, gone);
    assert!(store.ordered(&write(far, first), Some(bytes(3, 1)), gone).unwrap() > second + 2);
    assert_eq!(store.peek("k"), Lookup::Miss);
    store.empty(true, gone);
    assert_eq!(store.ordered(&write(0, 0), Some(bytes(5, 1)), gone), None);
}

/// A value that a clear has dropped does not come back. Others are still notified of the write, as of a delete.
#[test]
fn a_write_that_was_cleared_is_ordered_anew_as_a_delete() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("s3fifo", 1 << 20, &clock);
    let gone = &mut Gone::default();
    let write = |above, ordered| Write { key: "k", value: None, ttl: None, above, ordered };
    store.order_by(Arc::new(Hlc::new(clock, 7)));
    let mut order = |above, ordered| store.ordered(&write(above, ordered), Some(bytes(1, 1)), gone).unwrap();
    let first = order(0, 0);
    store.clear(first + 1, &mut Gone::default());
    let second = order(first + 1, first);
    assert!(second > first + 1);
    assert_eq!(store.peek("k"), Lookup::Miss);
    let third = order(0, 0);
    store.note("\0prefix\0k", third + 1, &mut Gone::default());
    let fourth = order(third + 1, third);
    assert!(fourth > third + 1);
    assert_eq!(store.peek("k"), Lookup::Miss);
    let later = order(0, 0);
    let far = later + (9 << 64); // a clear that is not known here yet: it drops the later write, too
    assert!(order(far, fourth) > far);
    assert_eq!(store.peek("k"), Lookup::Miss);
}

#[test]
fn writes_are_remembered_while_an_older_load_is_under_way() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("s3fifo", 1 << 20, &clock);
    let gone = &mut Gone::default();
    let (mark, began) = (store.mark("slow"), clock.coarse());
    store.note("other", 9, gone);
    clock.advance(60 * SECOND);
    store.sweep(began, gone);
    assert_eq!(store.known("other"), 9);
    assert!(store.fresh("slow", mark));
}

/// More keys than are looked up under one lock of a shard, in shards of several sizes.
#[test]
fn many_keys_are_answered_as_one_by_one() {
    let clock = Arc::new(Clock::manual(0));
    for mebibytes in [1, 4, 64] {
        let (one, many) = (store("lru", mebibytes << 20, &clock), store("lru", mebibytes << 20, &clock));
        let keys: Vec<_> = (0..300).map(|number| number.to_string()).collect();
        for store in [&one, &many] {
            for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 3 > 0) {
                let value = (number % 3 == 1).then(|| bytes(number, 0));
                store.put(key, value, fill(1, None, Kind::Main, false), &mut Gone::default());
            }
        }
        let hashed: Vec<_> = keys.iter().map(|key| (many.hash(key), key.as_str())).collect();
        let mut hits = vec![None; keys.len()];
        let answers = many.lookup_many(&hashed, |place, value, _| hits[place] = Some(value.clone()));
        for ((key, answer), hit) in keys.iter().zip(answers).zip(hits) {
            let expected = one.lookup(key, |value, _| value.clone());
            assert_eq!(matches!(expected, Lookup::Hit(_)), hit.is_some(), "{key}");
            match answer {
                Lookup::Hit(()) => assert_eq!(Some(expected), hit.map(Lookup::Hit)),
                Lookup::Absent => assert_eq!(expected, Lookup::Absent),
                Lookup::Miss => assert_eq!(expected, Lookup::Miss),
                Lookup::Past => assert_eq!(expected, Lookup::Past),
            }
        }
        assert_eq!(one.stats(), many.stats());
    }
}

/// Clients ask by [`Memory`], where a miss counts when Python continues it.
#[test]
fn gets_of_clients_that_miss_are_sampled_as_those_that_hit() {
    let clock = Arc::new(Clock::manual(0));
    let store = store("lru", 1 << 20, &clock);
    store.put("hot", Some(bytes(1, 0)), fill(1, None, Kind::Main, false), &mut Gone::default());
    for number in 0..30_000 {
        store.get("hot", &mut |found| assert!(found.is_some()));
        let other = number.to_string();
        store.get(&other, &mut |found| assert!(found.is_none()));
        store.count_miss(&other);
    }
    let (sampled, hot) = store.hot(1);
    assert!((350..600).contains(&sampled), "{sampled}");
    let share = f64::from(hot[0].certain()) / sampled as f64;
    assert!((0.4..0.6).contains(&share), "{share}");
    assert_eq!(store.stats().outcomes[outcome::GETS], 60_000);
}
