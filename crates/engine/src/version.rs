//! Versions: a hybrid logical clock orders all writes of a group (Kulkarni, Demirbas et al., "Logical Physical Clocks",
//! OPODIS 2014).
//!
//! A version is 48 bits of milliseconds since 1970, 16 bits of counter, 64 bits of the node that made it. 0 is older
//! than every write.
use std::{sync::Arc, time::Duration};

use crate::{
    clock::{Clock, SECOND},
    sync::Mutex,
};

const MILLISECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Makes versions that follow both time and causality, and knows the time of the service.
///
/// The time of the service is that of the member whose clock is ahead of all others. A node knows it by its own clock,
/// or by the greatest time that it has seen in a message, and what has passed since: so members that exchange messages
/// agree on it to within the time that a message takes, whatever their clocks say, and even if one of these is set back.
pub struct Hlc {
    clock: Arc<Clock>,
    node: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The greatest version made or merged: it never decreases.
    last: u128,
    /// The time of the service was later than `Clock::now` by so much at least, in nanoseconds.
    ahead: u64,
}

impl Seen {
    fn version(&mut self, version: u128, now: u64) {
        self.last = version.max(self.last);
        self.time(milliseconds(version), now);
    }

    fn time(&mut self, ms: u64, now: u64) {
        self.ahead = self.ahead.max(ms.saturating_mul(MILLISECOND).saturating_sub(now));
    }
}

impl Hlc {
    pub fn new(clock: Arc<Clock>, node: u64) -> Self {
        Self { clock, node, seen: Mutex::default() }
    }

    /// Returns a version greater than all made or merged here, and than `above`. None: no greater one exists.
    pub fn next(&self, above: u128) -> Option<u128> {
        // Time in the upper bits: a counter that overflows runs into the milliseconds, which keeps the order.
        let physical = (self.clock.unix() / MILLISECOND) << 16;
        let mut seen = self.seen.lock();
        let logical = time(above.max(seen.last)).checked_add(1)?;
        seen.version(u128::from(physical.max(logical)) << 64 | u128::from(self.node), self.clock.now());
        Some(seen.last)
    }

    /// Returns whether this node has made a version.
    pub fn made(&self, version: u128) -> bool {
        version as u64 == self.node
    }

    /// Takes note of a version seen in a message. Returns false and does nothing if it is too far ahead.
    pub fn merge(&self, version: u128) -> bool {
        let good = !self.is_far(version);
        if good {
            self.seen.lock().version(version, self.clock.now());
        }
        good
    }

    /// Returns whether a version is more than a day ahead. The clock of its maker is wrong then, and a node that took it
    /// in would give its next writes versions that are as wrong.
    pub fn is_far(&self, version: u128) -> bool {
        version > self.latest() && milliseconds(version) > self.horizon()
    }

    /// Returns the milliseconds since 1970 of the greatest time that may be right.
    fn horizon(&self) -> u64 {
        (self.clock.unix() + DAY) / MILLISECOND
    }

    /// Returns the greatest version made or merged.
    pub fn latest(&self) -> u128 {
        self.seen.lock().last
    }

    /// Returns the time of the service as this node knows it, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        let seen = self.seen.lock();
        self.clock.unix().max(self.clock.now().saturating_add(seen.ahead)) / MILLISECOND
    }

    /// Takes in the time of the service as a member knows it, unless it is more than a day ahead.
    pub fn heard(&self, now_ms: u64) {
        if now_ms <= self.horizon() {
            self.seen.lock().time(now_ms, self.clock.now());
        }
    }

    /// Returns until when an owner may apply an order whose writer waits for so long from now. A tenth is left for what
    /// the owner's clock may be behind.
    pub fn until_ms(&self, wait: Duration) -> u64 {
        self.now_ms() + u64::try_from((wait - wait / 10).as_millis()).unwrap_or(u64::MAX / 2)
    }
}

fn milliseconds(version: u128) -> u64 {
    (version >> 80) as u64
}

/// Milliseconds and counter of a version.
fn time(version: u128) -> u64 {
    (version >> 64) as u64
}
