//! Finds the slots of a shard's entries by hash: open addressing, linear probing, removal by shifting back.
//!
//! A cell holds the slot beside half of the hash, so that a hit finds both in one cache line; hashbrown keeps them in
//! two, and a hit in a large store mostly waits for such lines. Beside them is a hint, the address of the value, so
//! that the processor can fetch it together with the entry instead of after it.
//!
//! A table that gets too small or too large moves into another one, some cells with each change: as a whole, that would
//! take a tenth of a second at some millions of entries. A cell that has not moved yet is found after those that have. The
//! cells move from the last to the first, so that memory is given back meanwhile: 8 MiB at once take a millisecond.
use crate::chunks::Slot;

/// So many cells move with each change: enough that all have moved before the new table gets too small itself.
const STEP: usize = 32;
const LEAST: usize = 8;
/// Memory is given back once so many cells have moved.
const GIVEN: usize = 1 << 14;
/// The lower half of a cell that was removed before it was moved.
const REMOVED: u32 = u32::MAX;

/// The low half of a hash above, slot + 1 below; 0: empty. Then comes the hint, if `WORDS` is 2. Cells are numbers, as the
/// system has memory that is zero already.
type Cell<const WORDS: usize> = [u64; WORDS];

pub struct Table<const WORDS: usize> {
    /// None or a power of two, at least a quarter of them empty, which ends every search.
    cells: Vec<Cell<WORDS>>,
    /// The first of the cells before, that are still to be moved, and how many there were, less one.
    before: Vec<Cell<WORDS>>,
    mask: usize,
    len: usize,
}

impl<const WORDS: usize> Default for Table<WORDS> {
    fn default() -> Self {
        Self { cells: Vec::new(), before: Vec::new(), mask: 0, len: 0 }
    }
}

impl<const WORDS: usize> Table<WORDS> {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns what `seen` returns for a slot of this hash, if that is not None; `seen` gets the slot and its hint.
    pub fn find<R>(&self, hash: u64, seen: impl Fn(Slot, usize) -> Option<R>) -> Option<R> {
        self.find_moved(hash, &seen).or_else(|| self.find_unmoved(hash, seen))
    }

    /// Does the same without the cells that are still to be moved, if the table is moving.
    #[inline(always)]
    pub fn find_moved<R>(&self, hash: u64, seen: impl Fn(Slot, usize) -> Option<R>) -> Option<R> {
        search(&self.cells, hash, |slot, hint, _| seen(slot, hint))
    }

    pub fn is_moving(&self) -> bool {
        !self.before.is_empty()
    }

    /// Finds it among those cells.
    pub fn find_unmoved<R>(&self, hash: u64, seen: impl Fn(Slot, usize) -> Option<R>) -> Option<R> {
        self.unmoved(hash, |slot, hint, _| seen(slot, hint))
    }

    fn unmoved<R>(&self, hash: u64, seen: impl Fn(Slot, usize, usize) -> Option<R>) -> Option<R> {
        let start = hash as u32 as usize;
        let first = Some(start & self.mask).filter(|&at| at < self.before.len()).unwrap_or(0);
        // Behind the last is the first, as it was before some were moved.
        for at in (first..self.before.len()).chain(0..first) {
            let cell = self.before[at];
            if empty(cell) {
                break;
            }
            if home(cell) == start && slot(cell) != REMOVED - 1 {
                let found = seen(slot(cell), cell[WORDS - 1] as usize, at);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    fn cell(&mut self, hash: u64, slot: Slot) -> Option<&mut Cell<WORDS>> {
        if let Some(at) = search(&self.cells, hash, of(slot)) {
            return self.cells.get_mut(at);
        }
        let at = self.unmoved(hash, of(slot))?;
        self.before.get_mut(at)
    }

    /// Gives a slot another hint.
    pub fn rehint(&mut self, hash: u64, slot: Slot, hint: usize) {
        if let Some(cell) = self.cell(hash, slot) {
            cell[WORDS - 1] = hint as u64;
        }
    }

    /// Puts another slot in the place of one.
    pub fn rename(&mut self, hash: u64, slot: Slot, to: Slot) {
        if let Some(cell) = self.cell(hash, slot) {
            cell[0] = place(hash, to);
        }
    }

    /// Adds a slot that is not here.
    pub fn insert(&mut self, hash: u64, slot: Slot, hint: usize) {
        if (self.len + 1) * 4 > self.cells.len() * 3 {
            self.resize((self.cells.len() * 2).max(LEAST));
        }
        let mut cell = [hint as u64; WORDS];
        cell[0] = place(hash, slot);
        self.settle(cell);
        self.len += 1;
        self.step();
    }

    pub fn remove(&mut self, hash: u64, slot: Slot) {
        if let Some(at) = search(&self.cells, hash, of(slot)) {
            self.clear(at);
        } else if let Some(at) = self.unmoved(hash, of(slot)) {
            self.before[at][0] |= u64::from(REMOVED);
        } else {
            return;
        }
        self.len -= 1;
        self.step();
        if self.before.is_empty() && self.cells.len() > LEAST && self.len * 5 < self.cells.len() {
            self.resize(self.cells.len() / 2);
        }
    }

    fn clear(&mut self, mut hole: usize) {
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
        self.cells[hole] = [0; WORDS];
    }

    fn resize(&mut self, cells: usize) {
        while !self.before.is_empty() {
            self.step(); // it cannot be, see STEP
        }
        self.before = std::mem::replace(&mut self.cells, vec![[0; WORDS]; cells]);
        self.mask = self.before.len().saturating_sub(1);
    }

    fn step(&mut self) {
        self.go_on(STEP);
    }

    /// Moves so many cells, and returns whether none is left.
    pub fn go_on(&mut self, cells: usize) -> bool {
        let rest = self.before.len().saturating_sub(cells);
        for at in (rest..self.before.len()).rev() {
            let cell = self.before[at];
            if !empty(cell) && cell[0] as u32 != REMOVED {
                self.settle(cell);
            }
        }
        self.before.truncate(rest);
        if rest == 0 || self.before.capacity() - rest >= GIVEN {
            self.before.shrink_to_fit();
        }
        rest == 0
    }

    fn settle(&mut self, cell: Cell<WORDS>) {
        let mask = self.cells.len() - 1;
        let mut at = home(cell) & mask;
        while !empty(self.cells[at]) {
            at = (at + 1) & mask;
        }
        self.cells[at] = cell;
    }
}

/// Returns the place of a slot, for `search`.
fn of(slot: Slot) -> impl Fn(Slot, usize, usize) -> Option<usize> {
    move |found, _, at| (found == slot).then_some(at)
}

#[inline(always)]
fn search<const WORDS: usize, R>(
    cells: &[Cell<WORDS>],
    hash: u64,
    seen: impl Fn(Slot, usize, usize) -> Option<R>,
) -> Option<R> {
    let mask = cells.len().checked_sub(1)?;
    let start = hash as u32 as usize;
    let mut at = start & mask;
    loop {
        let cell = cells[at];
        if empty(cell) {
            return None;
        }
        if home(cell) == start {
            let found = seen(slot(cell), cell[WORDS - 1] as usize, at);
            if found.is_some() {
                return found;
            }
        }
        at = (at + 1) & mask;
    }
}

fn place(hash: u64, slot: Slot) -> u64 {
    assert!(slot < REMOVED - 1, "fewer than 2^32 entries in a shard");
    hash << 32 | u64::from(slot + 1)
}

#[inline]
fn empty<const WORDS: usize>(cell: Cell<WORDS>) -> bool {
    cell[0] == 0
}

/// Returns where the search for a cell begins, before masking.
#[inline]
fn home<const WORDS: usize>(cell: Cell<WORDS>) -> usize {
    (cell[0] >> 32) as usize
}

#[inline]
fn slot<const WORDS: usize>(cell: Cell<WORDS>) -> Slot {
    (cell[0] as Slot).wrapping_sub(1)
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
            let (mut table, mut model) = (Table::<2>::default(), HashMap::new());
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
                            (found == slot && hint as u64 == hash.wrapping_add(4)).then_some(found)
                        });
                        prop_assert_eq!(found, (of == Some(&hash)).then_some(slot));
                    }
                }
            }
        }
    }

    /// Half of the cells have their home near the end, and so lie around it, most at the beginning.
    #[test]
    fn a_cell_around_the_end_is_found_until_it_moves() {
        const MANY: Slot = 384; // more need a greater table
        let hash = |slot: Slot| if slot % 2 == 0 { u64::MAX - 100 } else { u64::from(slot) << 2 };
        let (mut table, mut moving) = (Table::<2>::default(), 0);
        (0..MANY).for_each(|slot| table.insert(hash(slot), slot, 0));
        for slot in MANY..MANY + 8 {
            table.insert(hash(slot), slot, 0);
            table.remove(hash(slot), slot);
            moving += usize::from(table.is_moving());
            let found = |slot| table.find(hash(slot), |found, _| (found == slot).then_some(())).is_some();
            assert!((0..MANY).all(found) && !found(slot));
        }
        assert_eq!((table.cells.len(), moving), (1_024, 7));
    }

    /// Enough for many moves into greater tables and back, and a change of every kind in the middle of each.
    #[test]
    fn a_table_moves_with_each_change() {
        const MANY: Slot = 50_000;
        let hash = |slot: Slot| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 7;
        let there = |table: &Table<2>, slot: Slot, hint| {
            table.find(hash(slot), |found, told| ((found, told) == (slot, hint)).then_some(()))
        };
        let (mut table, mut moves) = (Table::<2>::default(), 0);
        for slot in 0..MANY {
            table.insert(hash(slot), slot, 1);
            moves += usize::from(table.before.len() + STEP == table.mask + 1);
            let other = slot / 2;
            table.rehint(hash(other), other, 2);
            assert!(there(&table, other, 2).is_some() && there(&table, slot, usize::from(other == slot) + 1).is_some());
            if slot % 3 == 0 {
                table.remove(hash(other), other);
                assert_eq!(there(&table, other, 2), None);
                table.insert(hash(other), other, 2);
            }
        }
        assert!(moves > 10 && table.before.len() < table.cells.len());
        for slot in 0..MANY - 10 {
            table.remove(hash(slot), slot);
            assert_eq!(there(&table, slot, 2).or(there(&table, slot, 1)), None);
            let stays = MANY - 1 - slot % 10;
            assert!(there(&table, stays, 1).is_some());
        }
        assert_eq!((table.len(), table.before.len()), (10, 0));
        assert!(table.cells.len() <= 64);
        table.rename(hash(MANY - 1), MANY - 1, 7);
        assert_eq!(table.find(hash(MANY - 1), |found, hint| Some((found, hint))), Some((7, 1)));
    }
}
