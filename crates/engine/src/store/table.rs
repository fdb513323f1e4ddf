//! Finds the slots of a shard's entries by hash: open addressing, linear probing, removal by shifting back.
//!
//! A cell holds the slot beside half of the hash, so that a hit finds both in one cache line; hashbrown keeps them in
//! two, and a hit in a large store mostly waits for such lines. Beside them is a hint, the address of the value, so
//! that the processor can fetch it together with the entry instead of after it.
use crate::policy::Slot;

#[derive(Clone, Copy, Default)]
struct Cell {
    /// The low half of a hash above, slot + 1 below; 0: empty.
    place: u64,
    hint: usize,
}

#[derive(Default)]
pub struct Table {
    /// None or a power of two, at least a quarter of them empty, which ends every search.
    cells: Vec<Cell>,
    len: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the slot of this hash for which `same` returns true; `same` gets the slot and its hint.
    #[inline]
    pub fn find(&self, hash: u64, same: impl Fn(Slot, usize) -> bool) -> Option<Slot> {
        self.position(hash, same).map(|at| slot(self.cells[at]))
    }

    /// Gives a slot another hint.
    pub fn rehint(&mut self, hash: u64, slot: Slot, hint: usize) {
        if let Some(at) = self.position(hash, |found, _| found == slot) {
            self.cells[at].hint = hint;
        }
    }

    /// Adds a slot that is not here.
    pub fn insert(&mut self, hash: u64, slot: Slot, hint: usize) {
        let below = slot.checked_add(1).expect("fewer than 2^32 entries in a shard");
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            let cells = vec![Cell::default(); (self.cells.len() * 2).max(8)];
            let old = std::mem::replace(&mut self.cells, cells);
            old.into_iter().filter(|&cell| !empty(cell)).for_each(|cell| self.settle(cell));
        }
        self.settle(Cell { place: hash << 32 | u64::from(below), hint });
        self.len += 1;
    }

    pub fn remove(&mut self, hash: u64, slot: Slot) {
        let Some(mut hole) = self.position(hash, |found, _| found == slot) else {
            return;
        };
        self.len -= 1;
        let mask = self.cells.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let cell = self.cells[at];
            if empty(cell) {
                break;
            }
            // The cell fills the hole unless its search begins behind it.
            if at.wrapping_sub(home(cell)) & mask >= at.wrapping_sub(hole) & mask {
                self.cells[hole] = cell;
                hole = at;
            }
        }
        self.cells[hole] = Cell::default();
    }

    #[inline]
    fn position(&self, hash: u64, same: impl Fn(Slot, usize) -> bool) -> Option<usize> {
        let mask = self.cells.len().checked_sub(1)?;
        let start = hash as u32 as usize;
        let mut at = start & mask;
        loop {
            let cell = self.cells[at];
            if empty(cell) {
                return None;
            }
            if home(cell) == start && same(slot(cell), cell.hint) {
                return Some(at);
            }
            at = (at + 1) & mask;
        }
    }

    fn settle(&mut self, cell: Cell) {
        let mask = self.cells.len() - 1;
        let mut at = home(cell) & mask;
        while !empty(self.cells[at]) {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

#[inline]
fn empty(cell: Cell) -> bool {
    cell.place == 0
}

/// Returns where the search for a cell begins, before masking.
#[inline]
fn home(cell: Cell) -> usize {
    (cell.place >> 32) as usize
}

#[inline]
fn slot(cell: Cell) -> Slot {
    (cell.place as Slot).wrapping_sub(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, most at the end of the table: searches run into each other and around the end.
        #[test]
        fn as_a_hash_map(steps in prop::collection::vec((any::<bool>(), 0..40_u32, 0..6_u64), 0..400)) {
            let (mut table, mut model) = (Table::default(), HashMap::new());
            for (insert, slot, hash) in steps {
                if let Some(old) = model.remove(&slot) {
                    table.remove(old, slot);
                }
                if insert {
                    table.insert(hash.wrapping_sub(4), slot, hash as usize);
                    model.insert(slot, hash.wrapping_sub(4));
                }
                prop_assert_eq!(table.len(), model.len());
                for slot in 0..40 {
                    let of = model.get(&slot);
                    for hash in (0..6_u64).map(|hash| hash.wrapping_sub(4)) {
                        let found = table.find(hash, |found, hint| {
                            found == slot && hint as u64 == hash.wrapping_add(4)
                        });
                        prop_assert_eq!(found, (of == Some(&hash)).then_some(slot));
                    }
                }
            }
        }
    }
}
