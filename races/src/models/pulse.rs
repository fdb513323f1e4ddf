//! A process that stood still answers nothing from memory before it has caught up.
use std::sync::{
    Arc,
    atomic::{AtomicU64 as Real, Ordering::SeqCst},
};

use bytes::Bytes;
use loom::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use crate::{
    clock::{Pulse, SECOND},
    memory::{Decided, Found, Groups, Looked, Memory, Missed, Moved, Terms, Took, Write},
    sync::Mutex,
};

/// The time of the machine, which no model of memory delays. A model runs on one real thread, so each has its own.
mod machine {
    use super::*;

    thread_local! {
        static TIME: Real = const { Real::new(0) };
    }

    pub fn set(time: u64) {
        TIME.with(|now| now.store(time, SeqCst));
    }

    pub fn time() -> u64 {
        TIME.with(|now| now.load(SeqCst))
    }
}

/// 1. The process stands still. 2. A finds it out: it shuts, counts, and takes the pulse. 3. B takes the pulse, which is
/// new by now. B must know of the standstill all the same, and find everything shut.
pub fn a_standstill_that_another_thread_found_is_known() {
    machine::set(SECOND);
    let pulse = Arc::new(Pulse::by(machine::time));
    pulse.start();
    machine::set(10 * SECOND);
    let shut = Arc::new(AtomicBool::new(false));
    let beat = |pulse: Arc<Pulse>, shut: Arc<AtomicBool>| {
        let stood = pulse.beat(|| shut.store(true, Relaxed));
        assert!(stood > 0, "a standstill that was not counted");
        assert!(shut.load(Relaxed), "a standstill, and still open");
    };
    let other = thread::spawn({
        let (pulse, shut) = (pulse.clone(), shut.clone());
        move || beat(pulse, shut)
    });
    beat(pulse, shut);
    other.join().unwrap();
}

/// A memory that is open or shut, no more. It has a lock, as a standstill of a second lets every store reach the memory.
struct Door(Mutex<bool>);

impl Memory for Door {
    fn name(&self) -> &str {
        "g"
    }

    fn shut(&self, shut: bool) {
        *self.0.lock() = shut;
    }

    fn read(&self, _: &str, _: bool, _: &mut dyn FnMut(Option<Found<'_>>)) {}

    fn entry(&self, _: &str) -> Option<Moved> {
        None
    }

    fn get(&self, _: &str, _: &mut dyn FnMut(Looked<'_>)) {}

    fn is_candidate(&self, _: &str) -> bool {
        true
    }

    fn order(&self, _: Write<'_>) -> Option<u128> {
        None
    }

    fn is_owner(&self, _: &str) -> bool {
        true
    }

    fn decide(&self, _: Write<'_>, _: &Terms) -> Decided<Bytes> {
        unreachable!("nothing is written")
    }

    fn tell(&self, _: &str, version: u128) -> u128 {
        version
    }

    fn floor(&self) -> u128 {
        0
    }

    fn raise(&self, floor: u128) -> u128 {
        floor
    }

    fn missed(&self, _: u64, _: usize) -> Option<Missed> {
        None
    }

    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    fn slots(&self) -> Vec<Vec<u32>> {
        Vec::new()
    }

    fn stray(&self, _: usize, _: u32) -> Option<(String, Moved)> {
        None
    }

    fn takes_over(&self) -> bool {
        false
    }

    fn take_over(&self, _: &str, _: Moved, _: u64, _: u64) -> Took {
        Took::NotMine
    }

    fn used(&self, _: &str) {}

    fn hand_off(&self, _: &str, _: u128) {}

    fn merge(&self, clock: u128) -> Option<u128> {
        Some(clock)
    }

    fn now_ms(&self) -> u64 {
        0
    }
}

/// 1. The members' thread has caught up with standstill 1, and sees that there was no other. 2. The process stands still
/// again. 3. The wire thread finds that out, and shuts. 4. The members' thread opens for standstill 1. The memory must be
/// shut when both are done, as nobody has caught up with standstill 2.
pub fn a_process_that_stood_still_while_it_caught_up_stays_shut() {
    machine::set(SECOND);
    let mut groups = Groups::default();
    groups.pulse = Pulse::by(machine::time);
    let door = Arc::new(Door(Mutex::new(false)));
    groups.named.lock().insert("g".into(), door.clone());
    groups.watch();
    machine::set(10 * SECOND);
    let first = groups.stood();
    assert!(first > 0 && *door.0.lock());
    let groups = Arc::new(groups);
    let wire = thread::spawn({
        let groups = groups.clone();
        move || {
            machine::set(20 * SECOND);
            groups.standstills()
        }
    });
    groups.catch_up(first);
    let second = wire.join().unwrap();
    assert!(second > first);
    assert!(*door.0.lock(), "open, and behind the second standstill");
}
