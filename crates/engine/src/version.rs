//! Versions: a hybrid logical clock orders all writes of a group (Kulkarni, Demirbas et al., "Logical Physical Clocks",
//! OPODIS 2014).
//!
//! A version is 48 bits of milliseconds since 1970, 16 bits of counter, 64 bits of the node that made it. 0 is older
//! than every write.
use std::sync::Arc;

use crate::{
    clock::{Clock, SECOND},
    sync::Mutex,
};

const MILLISECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Makes versions that follow both time and causality.
pub struct Hlc {
    clock: Arc<Clock>,
    node: u64,
    /// The greatest version made or merged: it never decreases.
    last: Mutex<u128>,
}

impl Hlc {
    pub fn new(clock: Arc<Clock>, node: u64) -> Self {
        Self { clock, node, last: Mutex::new(0) }
    }

    /// Returns a version greater than all made or merged here, and than `above`. None: no greater one exists.
    pub fn next(&self, above: u128) -> Option<u128> {
        // Time in the upper bits: a counter that overflows runs into the milliseconds, which keeps the order.
        let physical = (self.clock.unix() / MILLISECOND) << 16;
        let mut last = self.last.lock();
        let logical = time(above.max(*last)).checked_add(1)?;
        *last = u128::from(physical.max(logical)) << 64 | u128::from(self.node);
        Some(*last)
    }

    /// Takes note of a version seen in a message. Returns false and does nothing if it is too far ahead.
    pub fn merge(&self, version: u128) -> bool {
        let good = !self.is_far(version);
        if good {
            let mut last = self.last.lock();
            *last = version.max(*last);
        }
        good
    }

    /// Returns whether a version is more than a day ahead. The clock of its maker is wrong then, and a node that took it
    /// in would give its next writes versions that are as wrong.
    pub fn is_far(&self, version: u128) -> bool {
        version > self.latest() && (version >> 80) as u64 > (self.clock.unix() + DAY) / MILLISECOND
    }

    /// Returns the greatest version made or merged.
    pub fn latest(&self) -> u128 {
        *self.last.lock()
    }
}

/// Milliseconds and counter of a version.
fn time(version: u128) -> u64 {
    (version >> 64) as u64
}
