//! Entries that are deleted together, by tag and by prefix.
use std::sync::Arc;

use kamacache_engine::{
    clock::{Clock, SECOND},
    marked::{self, MARK, TAGGED, UNCLAIMED},
    memory::{Change, Memory, Terms, Write},
    store::{Fill, Gone, Kind, Mark, Options, PREFIX, Store, TAG},
    version::Hlc,
};

#[allow(dead_code)] // its other part is for other tests
mod common;

type Engine = Store<common::Bytes>;

fn store() -> (Engine, Arc<Clock>) {
    let clock = Arc::new(Clock::manual(1000 * SECOND));
    let several_shards = 16 << 20;
    let options = Options { max_bytes: several_shards, policy: "s3fifo".into(), ..common::options(&clock) };
    (common::joined(options, 7), clock)
}

fn tagged(tags: &[&str], value: &[u8]) -> Vec<u8> {
    let tag = |tag: &&str| [&UNCLAIMED.to_be_bytes()[..], &(tag.len() as u16).to_be_bytes(), tag.as_bytes()].concat();
    let head: Vec<u8> = tags.iter().flat_map(tag).collect();
    [&[MARK, TAGGED], &(head.len() as u32).to_be_bytes()[..], &head, value].concat()
}

fn value(bytes: Vec<u8>) -> common::Bytes {
    <common::Bytes as kamacache_engine::memory::Value>::received(bytes.into())
}

/// Loads a key with tags under a mark, as a flight does.
fn load(store: &Engine, key: &str, tags: &[&str], mark: Mark) -> (bool, Vec<u8>) {
    let bytes = tagged(tags, b"v");
    let claimed = store.claimed(&bytes, Some(mark)).unwrap().to_vec();
    let fill = Fill { version: mark.version, ttl: None, kind: Kind::Main, took: 0, foreign: false, since: Some(mark) };
    (store.put(key, Some(value(claimed.clone())), fill, &mut Gone::default()), claimed)
}

fn take_copy(store: &Engine, key: &str, bytes: &[u8], version: u128) -> bool {
    let fill = Fill { version, ttl: None, kind: Kind::Near, took: 0, foreign: true, since: None };
    store.put(key, Some(value(bytes.to_vec())), fill, &mut Gone::default())
}

fn set(store: &Engine, key: &str, tags: &[&str]) -> u128 {
    let bytes = if tags.is_empty() { b"v".to_vec() } else { tagged(tags, b"v") };
    store.order(Write { key, value: Some(bytes.into()), ttl: None, above: 0, ordered: 0 }).unwrap()
}

fn delete_tag(store: &Engine, tag: &str) -> u128 {
    store.order(Write { key: &[TAG, tag].concat(), value: None, ttl: None, above: 0, ordered: 0 }).unwrap()
}

fn here(store: &Engine, key: &str) -> bool {
    let mut found = false;
    store.get(key, &mut |looked| found = looked.is_some());
    found
}

#[test]
fn a_delete_drops_what_has_the_tag_and_nothing_else() {
    let (store, _) = store();
    for n in 0..1_000 {
        let tags = [format!("user:{}", n % 10), format!("page:{}", n % 7)];
        set(&store, &format!("k{n}"), &[&tags[0], &tags[1]]);
    }
    set(&store, "untagged", &[]);
    delete_tag(&store, "user:3");
    for n in 0..1_000 {
        assert_eq!(here(&store, &format!("k{n}")), n % 10 != 3, "{n}");
    }
    assert_eq!(store.keys("").len(), 901);
    delete_tag(&store, "page:0");
    assert!((0..1_000).all(|n| here(&store, &format!("k{n}")) == (n % 10 != 3 && n % 7 != 0)));
    set(&store, "k3", &["user:3"]);
    assert!(here(&store, "k3") && here(&store, "untagged"));
}

#[test]
fn no_read_sees_a_dead_entry() {
    let (store, _) = store();
    set(&store, "k", &["t"]);
    let version = delete_tag(&store, "t");
    assert!(version > 0 && store.find("k").is_none() && store.held("k").is_none());
    store.read("k", true, &mut |found| assert!(found.is_none()));
    assert!(matches!(store.peek("k"), kamacache_engine::store::Lookup::Miss));
    assert!(store.keys("").is_empty());
    let terms = Terms { change: Change::Touch, ..Terms::default() };
    let touch = Write { key: "k", value: None, ttl: None, above: 0, ordered: 0 };
    assert!(!store.decide(touch, &terms).existed);
    assert_eq!(store.stats().entries, 1);
    store.expire("k", &mut Gone::default());
    assert_eq!(store.stats().entries, 0);
}

#[test]
fn a_load_that_began_before_a_delete_is_not_kept() {
    let (store, _) = store();
    let mark = store.mark("k");
    assert!(store.fresh("k", mark));
    delete_tag(&store, "t");
    assert!(!store.fresh("k", mark), "its tags are not known yet: nobody may join it");
    let (kept, bytes) = load(&store, "k", &["t"], mark);
    assert!(!kept && !here(&store, "k"));
    assert!(load(&store, "k", &["other"], mark).0, "it does not have the tag");
    let version = store.known("k");
    assert!(store.is_older("k", version, Some(&bytes)));
    assert!(load(&store, "k", &["t"], store.mark("k")).0 && here(&store, "k"));
}

#[test]
fn a_copy_that_is_older_than_the_delete_is_refused_wherever_it_comes() {
    let (owner, _) = store();
    let (reader, _) = store();
    let mark = owner.mark("k");
    let (kept, old) = load(&owner, "k", &["t"], mark);
    assert!(kept && take_copy(&reader, "k", &old, mark.version));
    let version = delete_tag(&owner, "t");
    reader.tell(&[TAG, "t"].concat(), version);
    assert!(!here(&reader, "k") && !take_copy(&reader, "k", &old, mark.version));
    assert_eq!(reader.newer("k", mark.version, Some(&old)), [([TAG, "t"].concat(), version)]);
    let (kept, new) = load(&owner, "k", &["t"], owner.mark("k"));
    assert!(kept && take_copy(&reader, "k", &new, mark.version) && here(&reader, "k"));
    assert!(reader.newer("k", mark.version, Some(&new)).is_empty());
    // A copy that comes before the news of the delete dies with it.
    let (late, _) = store();
    assert!(take_copy(&late, "k", &old, mark.version));
    late.tell(&[TAG, "t"].concat(), version);
    assert!(!here(&late, "k"));
}

#[test]
fn tags_stay_through_touch_and_incr_and_go_with_a_set() {
    let (store, _) = store();
    let number = tagged(&["t"], &marked::of_integer(7));
    store.order(Write { key: "n", value: Some(number.into()), ttl: None, above: 0, ordered: 0 });
    let add = Terms { change: Change::Add { delta: 2, initial: None }, keep_ttl: true, ..Terms::default() };
    let incr = Write { key: "n", value: None, ttl: None, above: 0, ordered: 0 };
    assert_eq!(store.decide(incr, &add).number, 9);
    let touch = Write { key: "n", value: None, ttl: Some(SECOND), above: 0, ordered: 0 };
    store.decide(touch, &Terms { change: Change::Touch, ..Terms::default() });
    assert!(here(&store, "n"));
    delete_tag(&store, "t");
    assert!(!here(&store, "n"));
    set(&store, "n", &["t"]);
    set(&store, "n", &[]);
    delete_tag(&store, "t");
    assert!(here(&store, "n"));
}

#[test]
fn a_prefix_is_a_floor_for_its_keys() {
    let (store, clock) = store();
    for key in ["a:1", "a:2", "b:1"] {
        set(&store, key, &[]);
    }
    let (mark, other) = (store.mark("a:3"), store.mark("b:3"));
    let key = [PREFIX, "a:"].concat();
    let version = store.known("b:1") + (1 << 64);
    assert_eq!(store.tell(&key, version), version);
    assert!(!here(&store, "a:1") && !here(&store, "a:2") && here(&store, "b:1"));
    assert!(!store.fresh("a:3", mark) && store.fresh("b:3", other));
    let fill = |mark: Mark| Fill {
        version: mark.version,
        ttl: None,
        kind: Kind::Main,
        took: 0,
        foreign: false,
        since: Some(mark),
    };
    assert!(!store.put("a:3", Some(value(b"v".to_vec())), fill(mark), &mut Gone::default()));
    assert!(store.put("b:3", Some(value(b"v".to_vec())), fill(other), &mut Gone::default()));
    assert!(store.put("a:3", Some(value(b"v".to_vec())), fill(store.mark("a:3")), &mut Gone::default()));
    assert_eq!(store.known("a:9"), version);
    clock.advance(20 * SECOND);
    store.sweep(u64::MAX, &mut Gone::default());
    assert_eq!(store.known("a:9"), 0, "it is forgotten as any write");
}

#[test]
fn a_delete_while_the_memory_of_writes_is_full_drops_all_the_same() {
    let clock = Arc::new(Clock::manual(1000 * SECOND));
    let options = store().0.options().clone();
    let store = Engine::new(Options { max_bytes: 64 << 10, clock: clock.clone(), ..options }).unwrap();
    store.order_by(Arc::new(Hlc::new(clock, 7)));
    set(&store, "k", &["t"]);
    for n in 0..2_000 {
        store.tell(&format!("other{n}"), 1 << 60);
    }
    set(&store, "k", &["t"]);
    let key = [TAG, "t"].concat();
    let before = store.stats().unremembered;
    store.tell(&key, store.known(&key));
    delete_tag(&store, "t");
    assert!(store.stats().unremembered > before && !here(&store, "k"));
}
