//! Vectors in pieces, by slot. To grow, they move one small piece at most. `Slots` gives back a piece without a slot in
//! use.
use std::ops::{Index, IndexMut};

const BITS: u32 = 7;
/// The number of slots in a piece.
pub const PIECE: usize = 1 << BITS;

/// The name of a place, which is used again once it is free.
pub type Slot = u32;

/// One value for each slot, in pieces of `N`.
pub struct Chunks<T, const N: usize = PIECE> {
    first: Vec<T>,
    /// The pieces of all slots, but none for those in the first.
    pieces: Vec<Option<Box<[T; N]>>>,
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Self {
        Self { first: Vec::new(), pieces: Vec::new() }
    }
}

impl<T, const N: usize> Chunks<T, N> {
    /// As many lie in one piece, which is found a little faster and not given back.
    const FIRST: usize = 8 * N;

    /// Makes room for a place. Others get values, too: those before it in the first piece, or all of its own piece.
    pub fn reserve(&mut self, at: usize, value: impl Fn(usize) -> T) {
        if at < Self::FIRST {
            while self.first.len() <= at {
                self.first.push(value(self.first.len()));
            }
            return;
        }
        let piece = at / N;
        if piece >= self.pieces.len() {
            self.pieces.resize_with(piece + 1, || None);
        }
        self.pieces[piece].get_or_insert_with(|| {
            let values: Vec<T> = (piece * N..(piece + 1) * N).map(value).collect();
            values.try_into().ok().expect("as many as a piece has") // never on the stack
        });
    }

    pub fn get(&self, at: usize) -> Option<&T> {
        self.first.get(at).or_else(|| self.rest(at))
    }

    #[inline(never)]
    fn rest(&self, at: usize) -> Option<&T> {
        Some(&self.pieces.get(at / N)?.as_ref()?[at % N])
    }

    #[inline(never)]
    fn beyond(&self, at: usize) -> &T {
        self.rest(at).expect("reserved")
    }

    pub fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match self.first.get_mut(at) {
            None => Some(&mut self.pieces.get_mut(at / N)?.as_mut()?[at % N]),
            found => found,
        }
    }

    /// Gives the memory of a piece back.
    pub fn release(&mut self, piece: usize) {
        if let Some(piece) = self.pieces.get_mut(piece) {
            *piece = None;
        }
    }

    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.pieces.into_iter().flatten().flat_map(|piece| (piece as Box<[T]>).into_vec()))
    }
}

impl<T, const N: usize> Index<usize> for Chunks<T, N> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        match self.first.get(at) {
            Some(value) => value,
            None => self.beyond(at),
        }
    }
}

impl<T, const N: usize> IndexMut<usize> for Chunks<T, N> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        self.get_mut(at).expect("reserved")
    }
}

const WORDS: usize = PIECE / 64;

/// Chooses slots. The lowest that is free comes first, so that others fall free piece by piece.
#[derive(Default)]
pub struct Slots {
    /// For each piece, a bit for each slot in use.
    used: Vec<[u64; WORDS]>,
    /// A bit for each piece that has a free slot.
    open: Vec<u64>,
    len: usize,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns a number that is greater than each slot in use.
    pub fn end(&self) -> usize {
        self.used.len() << BITS
    }

    pub fn take(&mut self) -> Slot {
        let piece = match self.open.iter().position(|&pieces| pieces != 0) {
            Some(word) => word * 64 + self.open[word].trailing_zeros() as usize,
            None => {
                let piece = self.used.len();
                self.used.push([0; WORDS]);
                self.open.resize(piece / 64 + 1, 0);
                self.open[piece / 64] |= 1 << (piece % 64);
                piece
            }
        };
        let words = &mut self.used[piece];
        let word = words.iter().position(|&word| word != u64::MAX).expect("open");
        let bit = words[word].trailing_ones();
        words[word] |= 1 << bit;
        if words.iter().all(|&word| word == u64::MAX) {
            self.open[piece / 64] &= !(1 << (piece % 64));
        }
        self.len += 1;
        Slot::try_from(piece << BITS | word << 6 | bit as usize).expect("fewer than 2^32 slots")
    }

    /// Frees a slot. Returns its piece if that may be given back: no slot of it is in use, and another one has free
    /// slots.
    pub fn give(&mut self, slot: Slot) -> Option<usize> {
        let (piece, at) = (slot as usize >> BITS, slot as usize & (PIECE - 1));
        self.used[piece][at / 64] &= !(1 << (at % 64));
        self.len -= 1;
        let own = 1 << (piece % 64);
        let mut others = self.open.iter().enumerate();
        let spare = others.any(|(word, &pieces)| pieces & if word == piece / 64 { !own } else { u64::MAX } != 0);
        self.open[piece / 64] |= own;
        (spare && self.used[piece] == [0; WORDS]).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn as_a_map_of_the_lowest_free_numbers() {
        let (mut slots, mut chunks, mut model) = (Slots::default(), <Chunks<_>>::default(), BTreeMap::new());
        for round in 0..3 {
            while model.len() < 20 * PIECE {
                let slot = slots.take();
                assert_eq!(Some(slot), (0..).find(|slot| !model.contains_key(slot)));
                chunks.reserve(slot as usize, |_| 0);
                chunks[slot as usize] = slot + round;
                model.insert(slot, slot + round);
            }
            for n in 0..20 * PIECE - 10 {
                let slot = *model.keys().nth(n * 7 % model.len()).expect("fewer are taken than there are");
                model.remove(&slot);
                if let Some(piece) = slots.give(slot) {
                    chunks.release(piece);
                }
            }
            assert_eq!(slots.len(), 10);
            assert!(model.iter().all(|(&slot, value)| chunks.get(slot as usize) == Some(value)));
            assert!(chunks.pieces.iter().flatten().count() <= 10 + 1);
            assert!(model.keys().all(|&slot| (slot as usize) < slots.end()));
        }
    }
}
