//! The store: what is kept is no older than what is known, and what is counted is what is there.
use std::sync::Arc;

use bytes::Bytes;
use loom::thread;

use crate::{
    arrivals::arrived,
    clock::{Clock, SECOND},
    memory::{self, Terms, Value, Verdict},
    store::{Candidacy, Fill, Gone, Kind, Lookup, Mark, Options, Store},
    version::Hlc,
};

#[derive(Clone, PartialEq, Debug)]
struct Text(Bytes);

impl Value for Text {
    fn received(bytes: Bytes) -> Self {
        Self(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns a store with one shard.
fn store(max_bytes: u64) -> Arc<Store<Text>> {
    let clock = Arc::new(Clock::manual(SECOND));
    let options = Options {
        name: "g".into(),
        max_bytes,
        policy: "lru".into(),
        clock: clock.clone(),
        near_ttl: SECOND,
        remember: 10 * SECOND,
        freshness: None,
        overhead: 0,
        keep_evicted: false,
        packs: false,
    };
    let store = Store::new(options).unwrap();
    store.order_by(Arc::new(Hlc::new(clock, 1)));
    Arc::new(store)
}

fn text(text: &'static str) -> Option<Text> {
    Some(Text(text.into()))
}

fn load(store: &Store<Text>, mark: Mark, value: &'static str) -> bool {
    let fill = Fill { version: mark.version, ttl: None, kind: Kind::Main, took: 0, foreign: false, since: Some(mark) };
    store.put("k", text(value), fill, &mut Gone::default())
}

fn write(value: Option<Bytes>) -> memory::Write<'static> {
    memory::Write { key: "k", value, ttl: None, above: 0, ordered: 0 }
}

fn order(store: &Store<Text>, value: &'static str) -> Option<u128> {
    store.ordered(&write(Some(value.into())), text(value), &mut Gone::default())
}

/// 1. A load begins. 2. A write is applied. 3. The load brings what it saw before the write.
pub fn a_load_never_undoes_a_write() {
    let store = store(1 << 20);
    let loader = thread::spawn({
        let store = store.clone();
        move || {
            let mark = store.mark("k");
            // The source has what was written before the write is ordered.
            load(&store, mark, if mark.version == 0 { "old" } else { "new" })
        }
    });
    let version = order(&store, "new").unwrap();
    assert!(store.known("k") >= version);
    assert_eq!(store.lookup("k", |value, _| value.clone()), Lookup::Hit(text("new").unwrap()));
    loader.join().unwrap();
    let (kept, of, ..) = store.find("k").unwrap();
    assert!(kept == text("new") && of >= version);
}

/// 1. A load begins. 2. The store is shut, as writes may have been missed, and opened again. 3. The load ends.
pub fn a_load_from_before_a_shut_is_not_kept() {
    let store = store(1 << 20);
    let mark = store.mark("k");
    let loader = thread::spawn({
        let store = store.clone();
        move || load(&store, mark, "missed")
    });
    store.set_shut(true);
    assert_eq!(store.lookup("k", |_, _| ()), Lookup::Miss);
    assert!(!store.fresh("k", mark));
    loader.join().unwrap();
    store.forget_entries(&mut Gone::default());
    store.set_shut(false);
    assert_eq!(store.lookup("k", |_, _| ()), Lookup::Miss);
    assert!(!load(&store, mark, "missed"));
}

/// 1. The node has read the number of the last arrival. 2. Writes arrive. 3. It reads the writes that a member missed.
/// Each up to that number must be among them, as the member takes it for all there is.
pub fn what_arrived_up_to_a_number_is_there() {
    let (one, other) = (store(1 << 20), store(1 << 20));
    let writers = [one.clone(), other.clone()].map(|store| {
        thread::spawn(move || {
            order(&store, "v");
            arrived()
        })
    });
    let number = arrived();
    let before = [&one, &other].map(|store| store.missed(0, 0).writes.len() as u64).iter().sum::<u64>();
    assert!(before >= number - 1, "{number} numbers and {before} writes"); // they begin at 1
    writers.into_iter().for_each(|writer| assert!(writer.join().unwrap() > 1));
    assert_eq!(arrived(), 3);
}

/// 1. A adds to a sum for its shard. 2. B adds to it for another shard. Neither may be lost.
pub fn the_sums_are_those_of_what_is_there() {
    let store = store(2 << 20);
    let key = |shard| (0..).map(|n: u32| n.to_string()).find(|key| store.hash(key) >> 40 & 1 == shard).unwrap();
    let [one, other] = [key(0), key(1)];
    let put = |store: &Store<Text>, key: &str| {
        let fill = Fill { version: 0, ttl: None, kind: Kind::Near, took: 0, foreign: false, since: None };
        store.put(key, text("0123456789"), fill, &mut Gone::default());
    };
    let writer = thread::spawn({
        let store = store.clone();
        move || {
            put(&store, &other);
            store.note(&other, 7, &mut Gone::default());
        }
    });
    put(&store, &one);
    writer.join().unwrap();
    let stats = store.stats();
    assert_eq!((stats.entries, stats.near_bytes), (1, 10 + one.len() as u64));
    assert_eq!(stats.bytes, stats.near_bytes + stats.remembered_bytes);
    store.empty(true, &mut Gone::default());
    let stats = store.stats();
    assert_eq!((stats.bytes, stats.near_bytes, stats.remembered_bytes, stats.entries), (0, 0, 0, 0));
}

/// 1. A write has found the store open. 2. The group is closed and emptied. 3. The write is applied.
pub fn a_closed_store_stays_empty() {
    let store = store(1 << 20);
    let writer = thread::spawn({
        let store = store.clone();
        move || order(&store, "late")
    });
    store.empty(true, &mut Gone::default());
    assert_eq!(store.stats().entries, 0);
    writer.join().unwrap();
    assert_eq!((store.stats().entries, order(&store, "later")), (0, None));
}

/// 1. A table makes this node the owner, and until a moment owners before it may have what is not here. 2. A write on
/// terms comes. By the new table it must find that the key may be elsewhere.
pub fn an_owner_by_a_new_table_knows_that_it_inherits() {
    let store = store(1 << 20);
    store.place(Candidacy::None, 0);
    store.join();
    let decider = thread::spawn({
        let store = store.clone();
        move || {
            let terms = Terms { only: memory::Only::Absent, ..Terms::default() };
            store.decided(&write(Some("v".into())), &terms, text("v"), &mut Gone::default()).verdict
        }
    });
    store.place(Candidacy::All, 100 * SECOND);
    let verdict = decider.join().unwrap();
    assert!(matches!(verdict, Verdict::Refused | Verdict::Inherit), "{verdict:?} without a question");
}

/// Versions of two threads differ, and each is above all that its thread has seen.
pub fn versions_only_grow() {
    let clock = Arc::new(Hlc::new(Arc::new(Clock::manual(SECOND)), 1));
    let other = thread::spawn({
        let clock = clock.clone();
        move || [clock.next(0), clock.next(0)].map(Option::unwrap)
    });
    let seen = clock.latest();
    assert!(clock.merge(seen + 5));
    let own = clock.next(0).unwrap();
    let [first, second] = other.join().unwrap();
    assert!(own > seen && second > first && own != first && own != second);
}
