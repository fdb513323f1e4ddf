//! The numbers of writes that this node can tell to each member of its contacts (src/kamacache/cluster/contact.py).
//!
//! Every write that is remembered here has a number ([`arrived`]). A contact with a member *begins* at a number: the
//! member was told of every write after it, or the contact has ended. So a member misses nothing if it has all up to
//! that number, however it came by them.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{arrivals::arrived, proto::peer::Contact, sync::Mutex, version::Hlc};

/// Invariant, under the lock: a write that is under way has a number greater than its key in `writing`.
#[derive(Default)]
struct State {
    id: String,
    hlc: Option<Arc<Hlc>>,
    /// By member: the number at which the contact began; None: it has ended.
    begun: HashMap<String, Option<u64>>,
    /// The numbers before the writes under way here, each with the number of writes that began there.
    writing: BTreeMap<u64, usize>,
    /// The members that have given a sign of life.
    heard: Vec<String>,
}

#[derive(Default)]
pub struct Contacts(Mutex<State>);

impl Contacts {
    pub fn name(&self, id: &str, hlc: Arc<Hlc>) {
        let mut state = self.0.lock();
        id.clone_into(&mut state.id);
        state.hlc = Some(hlc);
    }

    /// Begins a contact: call it once every write that begins is told to the member.
    pub fn begin(&self, member: &str) {
        self.0.lock().begun.insert(member.to_owned(), Some(arrived()));
    }

    /// Ends a contact: call it before any write is not told to the member.
    pub fn end(&self, member: &str) {
        self.0.lock().begun.insert(member.to_owned(), None);
    }

    pub fn forget(&self, member: &str) {
        self.0.lock().begun.remove(member);
    }

    /// Returns what a member is to know. Without a contact it misses all that has arrived so far.
    pub fn shown(&self, member: &str) -> Contact {
        self.0.lock().shown(member)
    }

    /// Does the same, and takes note that the member lives.
    pub fn met(&self, member: &str) -> Contact {
        let mut state = self.0.lock();
        if state.begun.contains_key(member) && !state.heard.iter().any(|id| id == member) {
            state.heard.push(member.to_owned());
        }
        state.shown(member)
    }

    /// Returns whether a message to `to` is for this node, and the member that sent it is told of every write here.
    pub fn are_between(&self, from: &str, to: &str) -> bool {
        let state = self.0.lock();
        state.id == to && state.begun.get(from).copied().flatten().is_some()
    }

    /// Returns the members that have given a sign of life since the last call.
    pub fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().heard)
    }

    /// Takes note that a write begins, and returns what `wrote` needs. By then the contact with each member that could
    /// not be told of the write must have ended.
    pub fn writes(&self) -> u64 {
        let mut state = self.0.lock();
        let before = arrived();
        *state.writing.entry(before).or_default() += 1;
        before
    }

    pub fn wrote(&self, before: u64) {
        let mut state = self.0.lock();
        if let Some(writes) = state.writing.get_mut(&before) {
            *writes -= 1;
            if *writes == 0 {
                state.writing.remove(&before);
            }
        }
    }
}

impl State {
    fn shown(&self, member: &str) -> Contact {
        let number = self.writing.first_key_value().map_or_else(arrived, |(before, _)| *before);
        let begun = self.begun.get(member).copied().flatten().unwrap_or(number);
        let now_ms = self.hlc.as_ref().map_or(0, |hlc| hlc.now_ms());
        Contact { id: self.id.clone(), number, begun, has: 0, now_ms }
    }
}
