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

/// A key to keep written, and the seconds for which it outlives the session: entries of one life share a lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    pub life: u32,
}

/// The version of the entries that was written, and the revision from which they are in etcd.
#[derive(Clone, Copy)]
struct Written {
    version: u64,
    revision: i64,
}

/// The value of a key in etcd, with its revision and its lease.
#[derive(PartialEq, Eq)]
struct Found {
    value: Bytes,
    /// That of its last change.
    revision: i64,
    lease: i64,
}

impl Found {
    fn of(kv: pb::KeyValue) -> (Bytes, Self) {
        (kv.key, Self { value: kv.value, revision: kv.mod_revision, lease: kv.lease })
    }
}

/// The keys under a prefix, as etcd has them.
#[derive(Default)]
pub struct Mirror {
    entries: BTreeMap<Bytes, Found>,
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
        let latest = self.entries.values().map(|found| found.revision).max();
        (self.entries.len() as i64, latest.unwrap_or(0))
    }
}

/// The next thing to ask of etcd.
#[derive(PartialEq, Eq, Debug)]
pub enum Job {
    Revoke(i64),
    /// A lease for entries of this life.
    Grant(u32),
    /// A version of the entries, each with its lease.
    Write(u64, Vec<(Entry, i64)>),
    /// End the lease of another session, if etcd allows that.
    Drop(i64),
    /// A prefix, and the number of the question that the job answers.
    Read(Bytes, u64),
    Check(Bytes, u64),
}

#[derive(Default)]
pub struct State {
    wanted: Vec<Entry>,
    version: u64,
    written: Option<Written>,
    /// By the life of their entries.
    pub leases: BTreeMap<u32, Lease>,
    /// Leases of others to be ended.
    dropped: Vec<i64>,
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
    pub fn want(&mut self, entries: Vec<Entry>) {
        for Entry { key, .. } in &entries {
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
        if self.wanted.is_empty() {
            return self.leases.is_empty();
        }
        self.ungranted().is_none() && self.written.is_some_and(|written| written.version == self.version)
    }

    /// Returns whether the entries are in etcd, under leases that live.
    pub fn is_registered(&self) -> bool {
        let now = Instant::now();
        !self.wanted.is_empty() && self.is_done() && self.leases.values().all(|lease| lease.until > now)
    }

    /// Returns a life of entries for which there is no lease.
    fn ungranted(&self) -> Option<u32> {
        self.wanted.iter().map(|entry| entry.life).find(|life| !self.leases.contains_key(life))
    }

    /// Drops another session's key with all that is bound to its lease, soon and if etcd can be reached.
    pub fn drop_key(&mut self, key: &Bytes) {
        let lease = self.mirrors.values().find_map(|mirror| mirror.entries.get(key)).map_or(0, |found| found.lease);
        if lease != 0 && self.leases.values().all(|own| own.id != lease) {
            self.dropped.push(lease);
        }
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
        entries.map(|(key, found)| (key.clone(), found.value.clone())).collect()
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
        if self.wanted.is_empty() {
            if let Some(lease) = self.leases.values().next_back() {
                return Some(Job::Revoke(lease.id));
            }
        } else if let Some(life) = self.ungranted() {
            return Some(Job::Grant(life));
        } else if !self.is_done() {
            let entries = self.wanted.iter().map(|entry| (entry.clone(), self.leases[&entry.life].id));
            return Some(Job::Write(self.version, entries.collect()));
        }
        if let Some(lease) = self.dropped.last() {
            return Some(Job::Drop(*lease));
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

    pub fn lost_lease(&mut self, id: i64) {
        self.leases.retain(|_, lease| lease.id != id);
        self.written = None;
    }

    /// Notes that etcd is asked to end the lease of another session.
    pub fn dropping(&mut self, id: i64) {
        self.dropped.retain(|lease| *lease != id);
    }

    /// Notes that the entries were put, the first of them at this revision.
    pub fn wrote(&mut self, version: u64, revision: i64) {
        self.written = Some(Written { version, revision });
    }

    /// Takes in all that etcd has under a prefix, at this revision.
    pub fn read(&mut self, prefix: &Bytes, question: u64, revision: i64, kvs: Vec<pb::KeyValue>) {
        let mirror = self.mirrors.entry(prefix.clone()).or_default();
        mirror.revision = revision;
        let read = kvs.into_iter().map(Found::of).collect();
        if mirror.entries != read {
            mirror.entries = read;
            self.changes += 1;
        }
        let missing = |entry: &Entry| entry.key.starts_with(prefix) && !mirror.entries.contains_key(&entry.key);
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
                && self.wanted.iter().any(|entry| entry.key == kv.key)
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
                let (key, found) = Found::of(kv);
                mirror.entries.insert(key, found);
            }
            self.changes += 1;
        }
    }
}

#[cfg(test)]
mod tests;
