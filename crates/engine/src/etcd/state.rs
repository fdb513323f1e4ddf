//! The goal of a session and its progress. No network is known here: `State::next` returns the next job.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::connection::Trouble;
use crate::proto::etcd as pb;

/// With news from the watch a mirror counts as fresh for this long.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    pub id: i64,
    /// It lives until then at least.
    pub until: Instant,
}

/// The version of the entries that was written, and the revision from which they are in etcd.
#[derive(Clone, Copy)]
struct Written {
    version: u64,
    revision: i64,
}

/// The keys under a prefix, as etcd has them.
#[derive(Default)]
pub struct Mirror {
    entries: BTreeMap<Bytes, (Bytes, i64)>, // value, revision of its last change
    /// The mirror has everything up to this revision; 0: it must be read again.
    pub revision: i64,
    asked: u64,
    answered: u64,
    /// The time when it was last compared with etcd; None: it must be compared now.
    checked: Option<Instant>,
    /// True if the watch has brought something since then.
    news: bool,
}

impl Mirror {
    /// Returns count and greatest revision: equal for equal contents, as every put has a revision of its own.
    fn fingerprint(&self) -> (i64, i64) {
        let latest = self.entries.values().map(|(_, revision)| *revision).max();
        (self.entries.len() as i64, latest.unwrap_or(0))
    }
}

/// The next thing to ask of etcd.
#[derive(PartialEq, Eq, Debug)]
pub enum Job {
    Revoke(i64),
    Grant,
    Write(u64, Lease, Vec<(Bytes, Bytes)>),
    /// A prefix, and the number of the question that the job answers.
    Read(Bytes, u64),
    Check(Bytes, u64),
}

#[derive(Default)]
pub struct State {
    wanted: Vec<(Bytes, Bytes)>,
    version: u64,
    written: Option<Written>,
    pub lease: Option<Lease>,
    mirrors: BTreeMap<Bytes, Mirror>,
    /// The reason for which etcd is out of reach.
    pub trouble: Option<Trouble>,
    /// Grows whenever a mirror may have changed.
    pub changes: u64,
    pub closed: bool,
}

impl State {
    // -- requests of callers ------------------------------------------------------------------------------------------

    /// Sets the entries to keep written, in this order, in place of those before. Their prefixes are mirrored.
    pub fn want(&mut self, entries: Vec<(Bytes, Bytes)>) {
        for (key, _) in &entries {
            let prefix = key.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            self.mirrors.entry(key.slice(..prefix)).or_default();
        }
        if entries != self.wanted {
            self.wanted = entries;
            self.version += 1;
        }
        for mirror in self.mirrors.values_mut() {
            mirror.checked = None; // so that a list shows what its caller has changed
        }
    }

    /// Returns whether etcd has what is wanted, as far as is known.
    pub fn is_done(&self) -> bool {
        match (&self.wanted[..], self.lease, self.written) {
            ([], lease, _) => lease.is_none(),
            (_, Some(_), Some(written)) => written.version == self.version,
            _ => false,
        }
    }

    /// Returns whether the entries are in etcd, under a lease that lives.
    pub fn is_registered(&self) -> bool {
        !self.wanted.is_empty() && self.is_done() && self.lease.is_some_and(|lease| lease.until > Instant::now())
    }

    /// Asks for the entries under a prefix. Returns the number of the question, or None if the mirror is fresh.
    pub fn ask(&mut self, prefix: &Bytes) -> Option<u64> {
        let mirror = self.mirrors.entry(prefix.clone()).or_default();
        let fresh = mirror.checked.is_some_and(|at| mirror.news && at.elapsed() < FRESH);
        if fresh && mirror.revision > 0 {
            return None;
        }
        mirror.asked += 1;
        Some(mirror.asked)
    }

    pub fn is_answered(&self, prefix: &Bytes, question: u64) -> bool {
        self.mirrors.get(prefix).is_some_and(|mirror| mirror.answered >= question)
    }

    pub fn list(&self, prefix: &Bytes) -> Vec<(Bytes, Bytes)> {
        let entries = self.mirrors.get(prefix).into_iter().flat_map(|mirror| &mirror.entries);
        entries.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    // -- steps of the session -----------------------------------------------------------------------------------------

    /// Notes a new connection: nothing is watched there, and it may lead to another etcd.
    pub fn reconnected(&mut self) {
        for mirror in self.mirrors.values_mut() {
            mirror.revision = 0;
        }
    }

    /// Notes that etcd has answered everything.
    pub fn mended(&mut self) {
        if self.trouble.take().is_some() {
            self.changes += 1;
        }
    }

    pub fn next(&self) -> Option<Job> {
        match (self.lease, self.wanted.is_empty()) {
            (Some(lease), true) => return Some(Job::Revoke(lease.id)),
            (None, false) => return Some(Job::Grant),
            (Some(lease), false) if !self.is_done() => {
                return Some(Job::Write(self.version, lease, self.wanted.clone()));
            }
            _ => {}
        }
        self.mirrors.iter().find_map(|(prefix, mirror)| {
            if mirror.revision == 0 {
                Some(Job::Read(prefix.clone(), mirror.asked))
            } else if mirror.answered < mirror.asked {
                Some(Job::Check(prefix.clone(), mirror.asked))
            } else {
                None
            }
        })
    }

    pub fn lost_lease(&mut self) {
        self.lease = None;
        self.written = None;
    }

    /// Notes that the entries were put, the first of them at this revision.
    pub fn wrote(&mut self, version: u64, revision: i64) {
        self.written = Some(Written { version, revision });
    }

    /// Takes in all that etcd has under a prefix, at this revision.
    pub fn read(&mut self, prefix: &Bytes, question: u64, revision: i64, kvs: Vec<pb::KeyValue>) {
        let mirror = self.mirrors.entry(prefix.clone()).or_default();
        mirror.revision = revision;
        let read = kvs.into_iter().map(|kv| (kv.key, (kv.value, kv.mod_revision))).collect();
        if mirror.entries != read {
            mirror.entries = read;
            self.changes += 1;
        }
        let missing = |(key, _): &(Bytes, Bytes)| key.starts_with(prefix) && !mirror.entries.contains_key(key);
        if self.written.is_some_and(|written| written.revision <= revision) && self.wanted.iter().any(missing) {
            self.written = None;
        }
        self.checked(prefix, question);
    }

    /// Returns whether etcd has under this prefix what the mirror has. None: its revision went back, so it is another
    /// etcd.
    pub fn compare(&self, prefix: &Bytes, answer: &pb::RangeResponse) -> Option<bool> {
        let mirror = self.mirrors.get(prefix)?;
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let latest = answer.kvs.first().map_or(0, |kv| kv.mod_revision);
        (revision >= mirror.revision).then(|| mirror.fingerprint() == (answer.count, latest))
    }

    /// Notes that a mirror was compared with etcd, or read.
    pub fn checked(&mut self, prefix: &Bytes, question: u64) {
        if let Some(mirror) = self.mirrors.get_mut(prefix) {
            mirror.answered = mirror.answered.max(question);
            mirror.checked = Some(Instant::now());
            mirror.news = false;
        }
    }

    /// Takes in events of a watch, except those that an earlier read has covered.
    pub fn watched(&mut self, events: Vec<pb::Event>) {
        let known: BTreeMap<Bytes, i64> = self.mirrors.iter().map(|(p, mirror)| (p.clone(), mirror.revision)).collect();
        for event in events {
            let (deleted, Some(kv)) = (event.r#type() == pb::event::EventType::Delete, event.kv) else {
                continue;
            };
            if deleted
                && self.written.is_some_and(|written| written.revision <= kv.mod_revision)
                && self.wanted.iter().any(|(key, _)| *key == kv.key)
            {
                self.written = None;
            }
            let under = self.mirrors.iter_mut().find(|(prefix, _)| kv.key.starts_with(prefix));
            let Some((prefix, mirror)) = under else { continue };
            if known.get(prefix).is_some_and(|revision| kv.mod_revision <= *revision) {
                continue;
            }
            mirror.revision = mirror.revision.max(kv.mod_revision);
            mirror.news = true;
            if deleted {
                mirror.entries.remove(&kv.key);
            } else {
                mirror.entries.insert(kv.key, (kv.value, kv.mod_revision));
            }
            self.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests;
