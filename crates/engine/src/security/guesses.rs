//! Addresses that gave a wrong password or none, with counts, until they are reported; and how long the next one waits.
use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// Each address is reported once in this time, and its guesses are forgotten after it.
const PAUSE: Duration = Duration::from_secs(60);
/// Addresses that are counted apart from each other.
const MOST: usize = 1000;
const OTHERS: &str = "other addresses";
/// So much longer the next guess of an address waits for each wrong one before it.
const STEP: Duration = Duration::from_millis(10);
/// No guess waits longer, as the next one may be right and come from another program at the same address: a member whose
/// pings and peeks are to be answered within a quarter of a second.
const LONGEST: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Guesser {
    count: u64,
    told: Option<Instant>,
    /// Guesses since the address was last quiet for a while, and the time of the last one.
    recent: u32,
    last: Option<Instant>,
}

impl Guesser {
    fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE)
    }
}

#[derive(Default)]
pub struct Guesses(Mutex<HashMap<String, Guesser>>);

impl Guesses {
    pub fn note(&self, address: &str) {
        let (mut guessers, now) = (self.0.lock(), Instant::now());
        let known = guessers.len() < MOST || guessers.contains_key(address);
        let guesser = guessers.entry(if known { address } else { OTHERS }.to_owned()).or_default();
        guesser.count += 1;
        guesser.recent = if guesser.is_recent(now) { guesser.recent.saturating_add(1) } else { 1 };
        guesser.last = Some(now);
    }

    /// Returns how long the next guess of an address is to wait before it is looked at.
    pub fn pause(&self, address: &str, now: Instant) -> Duration {
        let guessers = self.0.lock();
        let guesser = guessers.get(address).filter(|guesser| guesser.is_recent(now));
        guesser.map_or(Duration::ZERO, |guesser| STEP.saturating_mul(guesser.recent).min(LONGEST))
    }

    /// Returns the addresses that are due for a report, with the number of their guesses since the last one.
    pub fn due(&self, now: Instant) -> Vec<(String, u64)> {
        let mut guessers = self.0.lock();
        let is_due = |told: Option<Instant>| told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE);
        guessers.retain(|_, guesser| guesser.count > 0 || !is_due(guesser.told) || guesser.is_recent(now));
        let due = guessers.iter_mut().filter(|(_, guesser)| guesser.count > 0 && is_due(guesser.told));
        due.map(|(address, guesser)| {
            guesser.told = Some(now);
            (address.clone(), mem::take(&mut guesser.count))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_told_of_once_a_minute() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        let after = |seconds| guesses.due(begin + Duration::from_secs(seconds));
        assert_eq!(after(0), []);
        guesses.note("a");
        guesses.note("a");
        assert_eq!(after(1), [("a".into(), 2)]);
        guesses.note("a");
        guesses.note("b");
        assert_eq!(after(2), [("b".into(), 1)]);
        guesses.note("a");
        assert_eq!(after(60), []);
        assert_eq!(after(61), [("a".into(), 2)]);
        assert_eq!(after(200), []);
        assert!(guesses.0.lock().is_empty());
    }

    #[test]
    fn the_next_guess_of_an_address_waits() {
        let guesses = Guesses::default();
        let after =
            |address, seconds| guesses.pause(address, Instant::now() + Duration::from_secs(seconds)).as_millis();
        assert_eq!(after("a", 0), 0);
        (0..3).for_each(|_| guesses.note("a"));
        assert_eq!((after("a", 0), after("a", 59), after("a", 61), after("b", 0)), (30, 30, 0, 0));
        (0..1000).for_each(|_| guesses.note("a"));
        assert_eq!((after("a", 0), after("b", 0)), (50, 0));
        guesses.due(Instant::now());
        assert_eq!(after("a", 0), 50); // a report does not forget them
    }

    #[test]
    fn many_addresses_take_no_more_room() {
        let (guesses, begin) = (Guesses::default(), Instant::now());
        for number in 0..2 * MOST {
            guesses.note(&number.to_string());
        }
        guesses.note("0");
        let due: HashMap<_, _> = guesses.due(begin).into_iter().collect();
        assert_eq!(due.len(), MOST + 1);
        assert_eq!((due["0"], due[OTHERS]), (2, MOST as u64));
    }
}
