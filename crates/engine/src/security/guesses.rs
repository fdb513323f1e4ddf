//! Addresses that gave a wrong password or none, with counts, until they are reported.
use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use crate::sync::Mutex;

/// Each address is reported once in this time.
const PAUSE: Duration = Duration::from_secs(60);
/// Addresses that are counted apart from each other.
const MOST: usize = 1000;
const OTHERS: &str = "other addresses";

#[derive(Default)]
struct Guesser {
    count: u64,
    told: Option<Instant>,
}

#[derive(Default)]
pub struct Guesses(Mutex<HashMap<String, Guesser>>);

impl Guesses {
    pub fn note(&self, address: &str) {
        let mut guessers = self.0.lock();
        let known = guessers.len() < MOST || guessers.contains_key(address);
        let address = if known { address } else { OTHERS };
        guessers.entry(address.to_owned()).or_default().count += 1;
    }

    /// Returns the addresses that are due for a report, with the number of their guesses since the last one.
    pub fn due(&self, now: Instant) -> Vec<(String, u64)> {
        let mut guessers = self.0.lock();
        let is_due = |told: Option<Instant>| told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE);
        guessers.retain(|_, guesser| guesser.count > 0 || !is_due(guesser.told));
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
