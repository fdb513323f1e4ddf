//! The hand-over of entries: what goes, in which order, with what, and when it is refused.
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use kamacache_engine::{
    arrivals::arrived,
    clock::{Clock, SECOND},
    contacts::Contacts,
    memory::{Memory, Moved, Took, Write},
    orders,
    peer::handover::{Handed, hand_over},
    placement::Placement,
    store::{Candidacy, Fill, Freshness, Gone, Kind, Options, Store, Use},
    version::Hlc,
};

#[allow(dead_code, reason = "its other part is for other tests")]
mod common;

type Engine = Store<common::Bytes>;

const OWNERS: [(&str, f64); 2] = [("a", 1.0), ("b", 1.0)];

/// Two members with one group each, on one clock.
struct Two {
    clock: Arc<Clock>,
    table: Arc<Placement>,
    from: Engine,
    to: Engine,
    contacts: Contacts,
}

impl Two {
    fn new(max_bytes: u64) -> Self {
        let clock = Arc::new(Clock::manual(1000 * SECOND));
        let made = |node| {
            let rules = Freshness { refresh_after: Some(10 * SECOND), if_error: 60 * SECOND, ..Freshness::default() };
            common::joined(Options { max_bytes, freshness: Some(rules), ..common::options(&clock) }, node)
        };
        let (from, to, contacts) = (made(1), made(2), Contacts::default());
        contacts.name("b", Arc::new(Hlc::new(clock.clone(), 2)));
        contacts.begin("a");
        // Only the second owns anything by the tables of both.
        let table = Arc::new(Placement::new(&OWNERS[1..]).unwrap());
        Self { clock, table, from, to, contacts }
    }

    fn leave(&self) -> bool {
        self.from.place(Candidacy::new(Some(self.table.clone()), u16::MAX), 0)
    }

    fn owners() -> [Option<(String, String)>; 1] {
        [Some(("b".into(), "b".into()))]
    }

    fn hand_over(&self) -> Handed {
        let mut carry = |_: &str, message: Vec<u8>| orders::took_over_encoded(&self.to, &self.contacts, &message).ok();
        let until = Instant::now() + std::time::Duration::from_secs(60);
        hand_over(&self.from, &self.table, &Self::owners(), "a", until, &mut carry)
    }

    fn set(store: &Engine, key: &str, value: &'static [u8], ttl: Option<u64>) -> u128 {
        let value = Some(Bytes::from_static(value));
        store.order(Write { key, value, ttl, above: 0, ordered: 0 }).unwrap()
    }

    fn load(&self, key: &str, value: Option<Vec<u8>>, ttl: u64) {
        let fill = Fill { version: 0, ttl: Some(ttl), kind: Kind::Main, took: SECOND / 2, foreign: false, since: None };
        let value = value.map(|value| common::Bytes(Arc::new(value)));
        assert!(self.from.put(key, value, fill, &mut Gone::default()));
    }
}

fn moved(version: u128) -> Moved {
    Moved { value: Some(Bytes::from_static(b"old")), version, left: None, age: 0, took: 0 }
}

#[test]
fn an_entry_keeps_its_version_its_times_and_its_bytes() {
    let two = Two::new(1 << 20);
    let set = Two::set(&two.from, "set", b"\xffKZ packed", None);
    two.load("loaded", Some(b"v".to_vec()), 20 * SECOND);
    two.load("absent", None, 20 * SECOND);
    two.load("stale", Some(b"s".to_vec()), 2 * SECOND);
    two.clock.advance(7 * SECOND);
    assert!(two.leave());
    assert_eq!(two.hand_over(), Handed { handed: 4, left: 0 });
    assert_eq!(two.hand_over(), Handed::default(), "each goes once");

    let (value, version, remaining, kind, age) = two.to.held("set").unwrap();
    assert_eq!((value.unwrap().0.as_slice(), version, remaining), (&b"\xffKZ packed"[..], set, None));
    assert!(kind == Kind::Main && age.abs_diff(7 * SECOND) < SECOND / 10);
    let (value, version, remaining, ..) = two.to.held("loaded").unwrap();
    assert_eq!((value.unwrap().0.as_slice(), version), (&b"v"[..], 0));
    assert!(remaining.unwrap().abs_diff(13 * SECOND) < SECOND / 10);
    assert!(two.to.held("absent").unwrap().0.is_none());
    assert!(two.to.find("stale").is_none(), "no hit without a decision");
    assert!(two.to.aged("stale", true).unwrap().usable == Use::IfError);
    // It is due 10 s after its load, of which 7 s have passed before it came here.
    two.clock.advance(2 * SECOND);
    assert!(two.to.find("loaded").is_some());
    two.clock.advance(2 * SECOND);
    assert!(two.to.find("loaded").is_none());
    assert!(two.from.held("set").is_some(), "it stays as a former copy");
}

#[test]
fn what_was_used_last_goes_first_and_takes_a_quarter_from_others() {
    const KEYS: usize = 200;
    let two = Two::new(256 << 10); // one shard
    let size = 900; // of which 256 fit
    for number in 0..KEYS {
        two.load(&format!("k{number:03}"), Some(vec![1; size]), 100 * SECOND);
    }
    for number in 0..20 {
        two.from.lookup(&format!("k{number:03}"), |_, _| ());
    }
    for number in 0..256 {
        let fill = Fill { version: 0, ttl: None, kind: Kind::Main, took: 0, foreign: false, since: None };
        let value = Some(common::Bytes(Arc::new(vec![2; size])));
        two.to.put(&format!("own{number:03}"), value, fill, &mut Gone::default());
    }
    two.leave();
    let handed = two.hand_over();
    assert_eq!(handed.left, 0, "nobody needs to wait for room");
    let there = two.to.keys("k");
    assert!((55..=80).contains(&there.len()), "a quarter of 256: {}", there.len());
    assert!((0..20).all(|number| there.contains(&format!("k{number:03}"))), "those that were used last");
    assert!(two.to.keys("own").len() > 170);
}

#[test]
fn a_newer_entry_and_a_known_write_refuse_what_is_handed_over() {
    let two = Two::new(1 << 20);
    let old = Two::set(&two.from, "k", b"old", None);
    two.load("loaded", Some(b"old".to_vec()), 100 * SECOND);
    two.leave();
    let new = Two::set(&two.to, "k", b"new", None);
    assert!(new > old);
    let fill = Fill { version: 0, ttl: None, kind: Kind::Main, took: 0, foreign: false, since: None };
    two.to.put("loaded", Some(common::Bytes(Arc::new(b"later".to_vec()))), fill, &mut Gone::default());
    assert_eq!(two.hand_over(), Handed { handed: 2, left: 0 });
    assert_eq!(two.to.find("k").unwrap().0.unwrap().0.as_slice(), b"new");
    assert_eq!(two.to.find("loaded").unwrap().0.unwrap().0.as_slice(), b"later", "a load here came after that one");

    // A message that was long under way: the write that it must not replace is forgotten by now.
    let since = arrived();
    two.to.order(Write { key: "k", value: None, ttl: None, above: 0, ordered: 0 }).unwrap();
    assert_eq!(two.to.take_over("k", moved(old), since, 0, &mut Gone::default()), Took::Done);
    two.clock.advance(60 * SECOND);
    two.to.sweep(u64::MAX, &mut Gone::default());
    assert!(two.to.known("k") < old, "it is forgotten");
    assert_eq!(two.to.take_over("k", moved(old), since, 0, &mut Gone::default()), Took::NotMine);
    assert!(two.to.find("k").is_none());
    assert_eq!(two.to.take_over("k", moved(old), arrived(), 0, &mut Gone::default()), Took::Done);
    assert!(two.to.find("k").is_some(), "read after that, it is as good as any");
    // A process that stood still.
    let since = arrived();
    two.to.set_shut(true);
    two.to.set_shut(false);
    assert_eq!(two.to.take_over("other", moved(old), since, 0, &mut Gone::default()), Took::NotMine);
}

#[test]
fn only_an_owner_that_has_joined_and_tells_the_sender_of_its_writes_takes_over() {
    let two = Two::new(1 << 20);
    Two::set(&two.from, "k", b"v", None);
    two.leave();
    two.contacts.end("a");
    assert_eq!(two.hand_over(), Handed { handed: 0, left: 1 });
    two.contacts.begin("a");
    let hlc = Arc::new(Hlc::new(two.clock.clone(), 3));
    two.contacts.name("a later life of b", hlc.clone());
    assert_eq!(two.hand_over(), Handed { handed: 0, left: 1 });
    two.contacts.name("b", hlc);
    let (both, other) = (Arc::new(Placement::new(&OWNERS).unwrap()), |owner: u16| 1 - owner);
    two.to.place(Candidacy::new(Some(both.clone()), other(both.owner("k"))), 0);
    assert_eq!(two.hand_over(), Handed { handed: 0, left: 1 }, "by its table another member owns the key");
    two.to.place(Candidacy::All, 0);
    two.to.set_shut(true);
    assert_eq!(two.hand_over(), Handed { handed: 0, left: 1 });
    two.to.set_shut(false);
    assert_eq!(two.hand_over(), Handed { handed: 1, left: 0 });
}

/// A write that another node sends is applied before the table changes, and then handed over, or refused.
#[test]
fn no_write_is_ordered_for_another_node_without_its_value() {
    let two = Two::new(1 << 20);
    Two::set(&two.from, "k", b"before", None);
    two.leave();
    let late = Write { key: "k", value: Some(Bytes::from_static(b"late")), ttl: None, above: 0, ordered: 0 };
    assert_eq!(two.from.order(late), None, "its writer asks the next owner");
    assert_eq!(two.hand_over(), Handed { handed: 1, left: 0 });
    assert_eq!(two.to.find("k").unwrap().0.unwrap().0.as_slice(), b"before");
}

#[test]
fn the_next_candidate_takes_over_for_an_owner_that_is_away() {
    let two = Two::new(1 << 20);
    let away = Arc::new(AtomicBool::new(false));
    let table = Arc::new(Placement::new(&[("away", 1.0), ("b", 1.0)]).unwrap());
    let keys: Vec<_> = (0..20).map(|key| format!("k{key}")).collect();
    let owned = keys.iter().filter(|key| table.owner(key) == 1).count() as u64;
    assert!(0 < owned && owned < 20);
    for key in &keys {
        Two::set(&two.from, key, b"v", None);
    }
    two.from.place(Candidacy::new(Some(table.clone()), u16::MAX), 0);
    let place = || two.to.place(Candidacy::new(Some(table.clone()), 1).skipping(vec![Some(away.clone()), None]), 0);
    let hand_over = || {
        let mut carry = |_: &str, message: Vec<u8>| orders::took_over_encoded(&two.to, &two.contacts, &message).ok();
        let owners = [None, Some(("b".into(), "b".into()))];
        hand_over(&two.from, &table, &owners, "a", Instant::now() + std::time::Duration::from_secs(60), &mut carry)
    };
    place();
    assert_eq!(hand_over(), Handed { handed: owned, left: 20 - owned }, "the owner lives, as the receiver sees it");
    away.store(true, Relaxed);
    assert_eq!(hand_over(), Handed { handed: 20 - owned, left: 0 });
    place();
    assert!(keys.iter().all(|key| two.to.held(key).unwrap().3 == Kind::Main), "it stands in for the owner");
    assert!(keys.iter().all(|key| two.to.is_owner(key) == (table.owner(key) == 1)), "and decides nothing for it");
    away.store(false, Relaxed);
    assert!(place());
    let main = keys.iter().filter(|key| two.to.held(key).unwrap().3 == Kind::Main).count() as u64;
    assert_eq!(main, owned, "the owner is back");
}
