//! The same files with the real locks and atomics, under threads that do everything at once: for Miri, which sees what
//! unsafe code may not do, and ThreadSanitizer. Both look for two accesses of which no order is certain.
#![allow(dead_code, unused_imports, reason = "it uses a part of these files")]

mod arrivals;
mod chunks;
mod clock;
mod contacts;
mod hash;
mod marked;
mod memory;
mod outcome;
mod placement;
mod policy;
mod proto;
mod stack;
mod store;
#[cfg_attr(not(feature = "spun"), path = "../../crates/engine/src/sync.rs")]
#[cfg_attr(feature = "spun", path = "spun.rs")]
mod sync;
mod table;
mod version;

use std::{
    env, ptr,
    sync::{
        Arc,
        atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use bytes::Bytes;

use crate::{
    clock::{Clock, SECOND},
    contacts::Contacts,
    memory::{Groups, Memory, Value, Write},
    stack::Stack,
    store::{Candidacy, Fill, Gone, Kind, Options, Store},
    version::Hlc,
};

#[derive(Clone)]
struct Text(Bytes);

impl Value for Text {
    fn received(bytes: Bytes) -> Self {
        Self(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

static BURIED: Stack<Box<usize>> = Stack(AtomicPtr::new(ptr::null_mut()));
const THREADS: usize = 3;

fn main() {
    let rounds = env::args().nth(1).map_or(1_000, |text| text.parse().expect("a number of rounds"));
    let clock = Arc::new(Clock::manual(SECOND));
    let store = Store::<Text>::new(Options {
        name: "g".into(),
        max_bytes: 2 << 20,
        policy: "s3fifo".into(),
        clock: clock.clone(),
        near_ttl: SECOND,
        remember: 10 * SECOND,
        freshness: None,
        overhead: 100,
        keep_evicted: true,
        packs: false,
    });
    let store = Arc::new(store.expect("there is this policy"));
    store.order_by(Arc::new(Hlc::new(clock.clone(), 1)));
    store.join();
    let groups = Arc::new(Groups::default());
    groups.named.lock().insert("g".into(), store.clone());
    groups.watch();
    let taken = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads = (0..THREADS).map(|me| {
            let (store, groups, clock, taken) = (&store, &groups, &clock, &taken);
            scope.spawn(move || {
                for round in 0..rounds {
                    step(me + round, store, groups, clock);
                    BURIED.push(Box::new(round));
                    if round % 3 == me {
                        BURIED.take(|_| _ = taken.fetch_add(1, Relaxed));
                    }
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("a thread that ends"); // ThreadSanitizer knows of this, and not of a scope
        }
    });
    BURIED.take(|_| _ = taken.fetch_add(1, Relaxed));
    assert_eq!(taken.into_inner(), THREADS * rounds);
    store.empty(true, &mut Gone::default());
    assert_eq!((store.stats().bytes, store.stats().entries), (0, 0));
    println!("{THREADS} threads, {rounds} rounds each");
}

fn step(round: usize, store: &Store<Text>, groups: &Groups, clock: &Clock) {
    let (key, gone) = ((round % 7).to_string(), &mut Gone::default());
    match round % 16 {
        0..4 => {
            let mark = store.mark(&key);
            let fill =
                Fill { version: mark.version, ttl: None, kind: Kind::Main, took: 0, foreign: false, since: Some(mark) };
            store.put(&key, Some(Text(Bytes::from(vec![1; round % 999]))), fill, gone);
        }
        4..8 => drop(store.lookup(&key, |value, _| value.bytes().len())),
        8 | 9 => {
            let before = groups.contacts.writes();
            Memory::order(store, Write { key: &key, value: Some("v".into()), ttl: None, above: 0, ordered: 0 });
            groups.contacts.wrote(before);
        }
        10 => drop((groups.contacts.met("m"), groups.contacts.begin("m"), store.missed(0, 0))),
        11 => drop(store.sweep(u64::MAX, gone)),
        12 => _ = store.place(if round % 32 < 16 { Candidacy::None } else { Candidacy::All }, 0),
        13 => {
            groups.catch_up(groups.stood());
            store.set_shut(round % 64 < 16);
            clock.advance(SECOND / 10);
        }
        14 => drop(store.limit(if round % 32 < 16 { 1 << 12 } else { 2 << 20 }, gone)),
        _ => drop((store.clear(0, gone), store.stats(), store.keys(""))),
    }
}
