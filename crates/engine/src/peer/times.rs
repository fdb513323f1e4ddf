//! The times that peers took to answer, by peer and by kind of question.
use std::{collections::HashMap, sync::Arc, time::Duration};

use crate::{call::Request, histogram::Histogram, sync::Mutex};

/// The kinds of questions to peers.
pub const KINDS: [&str; 6] = ["peek", "hello", "load", "write", "tell", "fill"];

/// The times of one peer, in the order of KINDS. An unanswered request counts with the time until it was given up.
#[derive(Default)]
pub struct PeerTimes([Histogram; KINDS.len()]);

impl PeerTimes {
    pub fn peek(&self) -> &Histogram {
        &self.0[0]
    }

    pub fn of_kind(&self, kind: usize) -> &Histogram {
        &self.0[kind]
    }
}

/// Returns the place of a request in KINDS.
pub fn kind(request: &Request) -> usize {
    match request {
        Request::Client(_) => unreachable!("nodes are not asked as clients ask"),
        Request::Hello(_) => 1,
        Request::Load(_) => 2,
        Request::Write(_) => 3,
        Request::Tell(_) => 4,
        Request::Fill(_) => 5,
    }
}

/// The values of one histogram: address, kind, counts, sum.
pub type Read = (String, &'static str, Vec<u64>, Duration);

/// The times of all peers by address.
#[derive(Default)]
pub struct Times(Mutex<HashMap<String, Arc<PeerTimes>>>);

impl Times {
    pub fn of(&self, address: &str) -> Arc<PeerTimes> {
        let mut peers = self.0.lock();
        if let Some(times) = peers.get(address) {
            return times.clone();
        }
        peers.entry(address.to_owned()).or_default().clone()
    }

    /// Returns the times of a peer that is known.
    pub fn known(&self, address: &str) -> Option<Arc<PeerTimes>> {
        self.0.lock().get(address).cloned()
    }

    /// Forgets a peer that is gone for good.
    pub fn forget(&self, address: &str) {
        let times = self.0.lock().remove(address);
        drop(times);
    }

    /// Returns what has been counted so far.
    pub fn read(&self) -> Vec<Read> {
        let mut peers: Vec<_> = self.0.lock().iter().map(|(a, times)| (a.clone(), times.clone())).collect();
        peers.sort_by(|one, other| one.0.cmp(&other.0));
        let each = peers.iter().flat_map(|(address, times)| {
            times.0.iter().zip(KINDS).map(|(histogram, kind)| {
                let (counts, sum) = histogram.read();
                (address.clone(), kind, counts, sum)
            })
        });
        each.filter(|(_, _, counts, _)| counts.iter().any(|&count| count > 0)).collect()
    }
}
