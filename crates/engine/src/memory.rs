//! A group's memory as the transport reads it, whatever type holds the bytes.
use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use crate::{
    clock::{Pulse, SECOND},
    contacts::Contacts,
    proto::peer as pb,
    sync::Mutex,
};

/// A value as a store keeps it: a shared handle to bytes that never change. Cloning it counts a reference.
pub trait Value: Clone + Send + Sync + 'static {
    /// Makes a value of bytes that a thread without an interpreter received.
    fn received(bytes: Bytes) -> Self;
    fn bytes(&self) -> &[u8];
    /// Returns how much memory it takes. Of a value in a store that changes under the lock of its shard alone.
    fn size(&self) -> usize {
        self.bytes().len()
    }
    /// Returns the address that a hit will touch, or any number if there is none.
    fn hint(&self) -> usize {
        0
    }
    /// Begins to fetch that address, whose contents may be gone by now.
    fn prefetch(_hint: usize) {}
}

/// The first bytes of a value that was packed: compressed, or escaped because it begins like one. No UTF-8, JSON, pickle
/// or whole MessagePack begins with them.
pub const PACKED: &[u8] = b"\xffKZ";

/// A value whose type is not known here.
pub trait Held {
    fn bytes(&self) -> &[u8];
    /// Returns the same bytes, kept alive past the visit without a copy: for large values in an output queue.
    fn keep(&self) -> Bytes;
}

struct Owner<V>(V);

impl<V: Value> AsRef<[u8]> for Owner<V> {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl<V: Value> Held for V {
    fn bytes(&self) -> &[u8] {
        Value::bytes(self)
    }

    fn keep(&self) -> Bytes {
        Bytes::from_owner(Owner(self.clone()))
    }
}

/// The copy of a key, as a peer is answered.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// None: known to be absent.
    pub value: Option<&'a dyn Held>,
    pub version: u128,
    /// Milliseconds until it expires, at least 0; None: never.
    pub remaining_ms: Option<u64>,
    /// Peers ask for it so often that a near copy is worthwhile. Main copies only.
    pub hot: bool,
}

/// The result of a local get. None: the key is not here; Some(None): known to be absent.
pub type Looked<'a> = Option<Option<&'a dyn Held>>;

/// A write that its owner is to order.
pub struct Write<'a> {
    pub key: &'a str,
    /// None: a delete.
    pub value: Option<Bytes>,
    /// Nanoseconds; None: without end.
    pub ttl: Option<u64>,
    /// Its version is to be greater than this.
    pub above: u128,
    /// The version that it has already; 0: none.
    pub ordered: u128,
}

/// The condition on which an owner applies a write, by what it has of the key.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Only {
    #[default]
    Always,
    Absent,
    Present,
    Version(u128),
}

/// The change that a write makes to the value that is there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Change {
    /// A set or a delete.
    #[default]
    Replace,
    /// Adds to an integer; an absent one counts as `initial`, if there is one.
    Add { delta: i64, initial: Option<i64> },
    /// Gives the entry another ttl.
    Touch,
}

/// The terms of a write that its owner decides on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Terms {
    pub only: Only,
    pub change: Change,
    /// An entry that is there keeps its remaining time.
    pub keep_ttl: bool,
    /// The value that was there is wanted.
    pub wants: bool,
    /// Entries of the owners before this one were taken in.
    pub inherited: bool,
}

/// The decision of an owner. Messages carry it as a number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Verdict {
    #[default]
    Applied = 0,
    /// The key is there, or is absent, against the terms.
    Unmet = 1,
    /// The entry has another version.
    Conflict = 2,
    NotInteger = 3,
    Overflow = 4,
    /// The key is not here, but an owner before this one may have it: Python asks.
    Inherit = 5,
    /// A later write came in between.
    Superseded = 6,
    /// This node cannot decide: it does not own the key any more, finds nothing for now, or is closed.
    Refused = 7,
}

/// The answer to a write with terms.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided<V> {
    /// 0: nothing changed.
    pub version: u128,
    pub verdict: Verdict,
    pub existed: bool,
    /// The value that was there, if it was wanted.
    pub value: Option<V>,
    /// The integer as it is now.
    pub number: i64,
    /// The version of `value`; 0: there is none.
    pub held: u128,
}

/// A part of the writes that arrived after a number.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Missed {
    pub writes: Vec<(String, u128)>,
    /// The number at which the next part begins. None: this is the last.
    pub next: Option<usize>,
    /// Some write that arrived after the number is no longer known by its key, nor covered by the floor. A part speaks
    /// of the shards that it reads.
    pub forgotten: bool,
}

/// An entry as one node shows or hands it over to another, with all that belongs to it. Times are nanoseconds.
pub struct Moved {
    /// None: known to be absent.
    pub value: Option<Bytes>,
    pub version: u128,
    /// The rest of its ttl; below 0: how long ago it ended. None: it never ends.
    pub left: Option<i64>,
    pub age: u64,
    /// The time that its load took.
    pub took: u64,
}

/// The answer of a node to which an entry is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Took {
    /// It is here, or something at least as new is known.
    Done,
    /// This node does not own the key, or cannot tell whether the entry is older than a write.
    NotMine,
    /// There is no room for it.
    Full,
}

/// The memory of one group. Every method answers at once and may be called from any thread, attached to Python or not.
pub trait Memory: Send + Sync {
    /// Returns the name of the group.
    fn name(&self) -> &str;

    /// Calls `visit` exactly once, after all locks are released, with the copy of this key: the main copy or a near
    /// copy; with `former`, also a former copy. A copy found counts in `served`.
    fn read(&self, key: &str, former: bool, visit: &mut dyn FnMut(Option<Found<'_>>));

    /// Returns the main or near copy of a key as it is, stale or not, without counting that.
    fn entry(&self, key: &str) -> Option<Moved>;

    /// Does the same as `read` for a client that stands for a caller in this process, and counts as a get here. A miss is not
    /// counted here; the code that continues the request counts it.
    fn get(&self, key: &str, visit: &mut dyn FnMut(Looked<'_>));

    /// Returns whether this node is one of the key's candidates.
    fn is_candidate(&self, key: &str) -> bool;

    /// Applies a write as its owner, and returns its version: greater than all that is known of the key. Superseded, it
    /// returns the version of the later write, or 0: it may not be later. None: the group is closed.
    fn order(&self, write: Write<'_>) -> Option<u128>;

    /// Returns whether this node owns the key.
    fn is_owner(&self, key: &str) -> bool;

    /// Applies a write as its owner if its terms are met.
    fn decide(&self, write: Write<'_>, terms: &Terms) -> Decided<Bytes>;

    /// Notes a write that another node has ordered, and returns the greatest version known of its key.
    fn tell(&self, key: &str, version: u128) -> u128;

    /// Returns the floor of the last clear.
    fn floor(&self) -> u128;

    /// Raises the floor of the last clear, and returns it.
    fn raise(&self, floor: u128) -> u128;

    /// Returns a part of the remembered writes after a number; `part` is 0 or the `next` of the part before. None: the
    /// group is closed.
    fn missed(&self, since: u64, part: usize) -> Option<Missed>;

    /// Returns the keys that have a value here.
    fn keys(&self) -> Vec<String>;

    /// Returns the slots of the main and former copies of each shard, the next to go first.
    fn slots(&self) -> Vec<Vec<u32>>;

    /// Returns what a slot has for another node, with its key: a main or former copy of a key that this one does not own, and has not
    /// handed over yet.
    fn stray(&self, shard: usize, slot: u32) -> Option<(String, Moved)>;

    /// Returns whether entries can be handed over to this node.
    fn takes_over(&self) -> bool;

    /// Keeps an entry that another node read after all writes up to the number `since` had arrived here. That node handed
    /// over `before` bytes before it: of the budget, a quarter may be taken from other entries.
    fn take_over(&self, key: &str, moved: Moved, since: u64, before: u64) -> Took;

    /// Notes that a main copy was in use at the node that handed it over.
    fn used(&self, key: &str);

    /// Notes that another node has taken over an entry, which stays as a former copy, unless it has another version by now.
    fn hand_off(&self, key: &str, version: u128);

    /// Answers nothing from memory while shut, because it may be older than what this process missed.
    fn shut(&self, shut: bool);

    /// Merges a clock that came with a message, and returns the own clock. None: that one is more than a day ahead.
    fn merge(&self, clock: u128) -> Option<u128>;

    /// Returns the time of the service as this node knows it, in milliseconds.
    fn now_ms(&self) -> u64;
}

/// So long after a standstill requests from before it may still be read.
const LATE: u64 = SECOND / 2;

/// The groups that a transport serves, by name, and this node's contacts with other members.
#[derive(Default)]
pub struct Groups {
    pub named: Mutex<HashMap<String, Arc<dyn Memory>>>,
    pub contacts: Contacts,
    /// The members that this node knows, for a writer that takes it for an owner that it is not.
    pub members: Mutex<Vec<pb::Member>>,
    pub(crate) pulse: Pulse,
    /// The standstills that this process has caught up with.
    caught_up: Mutex<u64>,
}

impl Groups {
    /// Looks for standstills from now on. The wire thread must run, and someone must catch up.
    pub fn watch(&self) {
        self.pulse.start();
    }

    /// Returns how often this process stood still. Finds it out first: what stood still does not answer from memory.
    pub fn standstills(&self) -> u64 {
        self.pulse.beat(|| self.shut(true))
    }

    /// Returns the same if the process has not caught up since, else 0.
    pub fn stood(&self) -> u64 {
        let stood = self.standstills();
        if stood == *self.caught_up.lock() { 0 } else { stood }
    }

    /// Returns the nanoseconds of all standstills.
    pub fn asleep(&self) -> u64 {
        self.pulse.asleep()
    }

    /// Returns whether what is read from sockets now may have waited there while the process stood still.
    pub fn reads_late(&self) -> bool {
        self.stood() > 0 || self.pulse.stood_within(LATE)
    }

    /// Answers from memory again, unless the process has stood still again since it caught up.
    pub fn catch_up(&self, stood: u64) {
        let mut caught_up = self.caught_up.lock();
        *caught_up = stood;
        if self.standstills() == stood {
            self.shut(false);
            // It may have stood still in between, and another thread have shut what is open now.
            if self.standstills() != stood {
                self.shut(true);
            }
        }
    }

    fn shut(&self, shut: bool) {
        let groups: Vec<_> = self.named.lock().values().cloned().collect();
        groups.iter().for_each(|memory| memory.shut(shut));
    }
}

/// Returns the group of that name.
pub fn group(groups: &Groups, name: &[u8]) -> Option<Arc<dyn Memory>> {
    groups.named.lock().get(std::str::from_utf8(name).ok()?).cloned()
}
