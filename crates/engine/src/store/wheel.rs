//! Finds the entries whose time is over without looking at others: a hierarchical timing wheel (Varghese and Lauck,
//! "Hashed and hierarchical timing wheels", SOSP 1987).
//!
//! An entry is on a list of the finest wheel that reaches its time. When the time of a list of a coarser wheel comes, its
//! entries move to finer ones. So each moves a few times at most, whatever its time to live.
use super::entry::NEVER;
use crate::policy::{Slot, list::Lists};

/// The lists of the finest wheel are 2^27 ns apart, about an eighth of a second; those of each next one 64 times more.
const FINEST: u32 = 27;
const BITS: u32 = 6;
const SLOTS: u64 = 1 << BITS;
/// The last one reaches 26 days. What lives longer comes by again.
const WHEELS: u32 = 4;
/// The list of entries whose time has come, or may have.
const DUE: usize = WHEELS as usize * SLOTS as usize;

#[derive(Default)]
pub struct Wheel {
    /// Made for the first entry that expires: the ends of the lists take 2 KiB.
    lists: Option<Lists<{ DUE + 1 }>>,
    /// The time up to which it was turned.
    turned: u64,
}

impl Wheel {
    /// Notes when an entry is to be dropped, in the place of what was noted before.
    pub fn schedule(&mut self, slot: Slot, at: u64) {
        if at == NEVER {
            return self.cancel(slot);
        }
        let list = self.list(at.max(self.turned));
        let lists = self.lists.get_or_insert_default();
        lists.reserve(slot);
        lists.unlink(slot);
        lists.push_newest(list, slot);
    }

    /// Forgets an entry.
    pub fn cancel(&mut self, slot: Slot) {
        if let Some(lists) = &mut self.lists {
            lists.forget(slot);
        }
    }

    /// Gives the memory of a piece of slots back, none of which has an entry.
    pub fn release(&mut self, piece: usize) {
        if let Some(lists) = &mut self.lists {
            lists.release(piece);
        }
    }

    /// Makes those due whose time may have come.
    pub fn turn(&mut self, now: u64) {
        let (before, now) = (self.turned, now.max(self.turned));
        self.turned = now;
        let Some(lists) = &mut self.lists else { return };
        for wheel in 0..WHEELS {
            let shift = FINEST + BITS * wheel;
            // The finest list that is current may have entries before and after this moment.
            let first = (before >> shift) + u64::from(wheel > 0);
            let last = now >> shift;
            for tick in first.max((last + 1).saturating_sub(SLOTS))..=last {
                lists.splice(place(wheel, tick), DUE);
            }
        }
    }

    /// Returns an entry that is due. The caller drops it, or schedules it anew.
    pub fn due(&mut self) -> Option<Slot> {
        let lists = self.lists.as_mut()?;
        lists.oldest(DUE).inspect(|&slot| lists.unlink(slot))
    }

    fn list(&self, at: u64) -> usize {
        for wheel in 0..WHEELS {
            let shift = FINEST + BITS * wheel;
            if (at >> shift) - (self.turned >> shift) < SLOTS {
                return place(wheel, at >> shift);
            }
        }
        place(WHEELS - 1, (self.turned >> (FINEST + BITS * (WHEELS - 1))) + SLOTS - 1)
    }
}

fn place(wheel: u32, tick: u64) -> usize {
    (u64::from(wheel) * SLOTS + tick % SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each slot is due at the first turn after its time, and none is lost.
        #[test]
        fn as_a_map(steps in prop::collection::vec((0..40_u32, 0..63_u32, any::<u64>(), 0..55_u32), 1..200)) {
            let (mut wheel, mut model, mut now) = (Wheel::default(), std::collections::BTreeMap::new(), 0);
            for (slot, bits, random, step) in steps {
                let at = if bits == 0 { NEVER } else { now + (random >> (64 - bits)) };
                wheel.schedule(slot, at);
                model.insert(slot, at);
                now += random >> (64 - step.max(1));
                wheel.turn(now);
                let mut later = Vec::new();
                while let Some(slot) = wheel.due() {
                    let at = model[&slot];
                    if at <= now { model.remove(&slot); } else { later.push((slot, at)); }
                }
                later.into_iter().for_each(|(slot, at)| wheel.schedule(slot, at));
                prop_assert!(model.values().all(|&at| at > now), "{now} {model:?}");
            }
        }
    }
}
