//! Doubly linked lists threaded through one vector: moving an entry touches a few words and allocates nothing.

use super::Slot;
use crate::chunks::{Chunks, PIECE};

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

/// `N` circular lists over the same slots; a slot is on at most one of them.
///
/// Each list closes its circle through a sentinel (links `0..N`; slot `s` is link `FIRST + s`), so that taking a slot out
/// needs neither a branch nor the name of its list. A slot on no list is a circle of its own.
pub struct Lists<const N: usize> {
    links: Chunks<Link>,
}

impl<const N: usize> Default for Lists<N> {
    fn default() -> Self {
        let mut links = Chunks::default();
        links.reserve(N - 1, alone);
        Lists { links }
    }
}

fn alone(own: usize) -> Link {
    Link { newer: own as u32, older: own as u32 }
}

impl<const N: usize> Lists<N> {
    /// Slots begin with a piece of their own.
    const FIRST: u32 = (N.div_ceil(PIECE) * PIECE) as u32;

    /// Makes room for `slot`.
    pub fn reserve(&mut self, slot: Slot) {
        self.links.reserve((slot + Self::FIRST) as usize, alone);
    }

    /// Gives the memory of a piece back, of which no slot is on a list.
    pub fn release(&mut self, piece: usize) {
        self.links.release(piece + Self::FIRST as usize / PIECE);
    }

    pub fn push_newest(&mut self, list: usize, slot: Slot) {
        self.link(list as u32, slot + Self::FIRST, self.links[list].older);
    }

    pub fn push_oldest(&mut self, list: usize, slot: Slot) {
        self.link(self.links[list].newer, slot + Self::FIRST, list as u32);
    }

    fn link(&mut self, newer: u32, own: u32, older: u32) {
        self.links[own as usize] = Link { newer, older };
        self.links[newer as usize].older = own;
        self.links[older as usize].newer = own;
    }

    pub fn unlink(&mut self, slot: Slot) {
        let own = (slot + Self::FIRST) as usize;
        let Link { newer, older } = self.links[own];
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
        self.links[own] = alone(own);
    }

    /// Takes a slot out that may never have been reserved.
    pub fn forget(&mut self, slot: Slot) {
        if self.links.get((slot + Self::FIRST) as usize).is_some() {
            self.unlink(slot);
        }
    }

    /// Moves all of a list behind the newest of another.
    pub fn splice(&mut self, list: usize, to: usize) {
        let Link { newer: oldest, older: newest } = self.links[list];
        if oldest as usize == list {
            return;
        }
        let before = self.links[to].older;
        self.links[before as usize].newer = oldest;
        self.links[oldest as usize].older = before;
        self.links[newest as usize].newer = to as u32;
        self.links[to].older = newest;
        self.links[list] = alone(list);
    }

    pub fn oldest(&self, list: usize) -> Option<Slot> {
        self.links[list].newer.checked_sub(Self::FIRST)
    }

    pub fn newest(&self, list: usize) -> Option<Slot> {
        self.links[list].older.checked_sub(Self::FIRST)
    }

    /// Returns the oldest and the newest.
    pub fn ends(&self, list: usize) -> Option<(Slot, Slot)> {
        self.oldest(list).zip(self.newest(list))
    }

    /// Returns the slot that is older than another on its list, or else the newest of the next of these lists that has
    /// any. Without the other slot, the newest of all.
    pub fn older(&self, slot: Option<Slot>, lists: &[usize]) -> Option<Slot> {
        let mut rest = lists;
        if let Some(slot) = slot {
            let own = slot + Self::FIRST;
            let older = self.links.get(own as usize)?.older;
            if older >= Self::FIRST {
                return Some(older - Self::FIRST).filter(|_| older != own);
            }
            let at = lists.iter().position(|&list| list == older as usize)?;
            rest = &lists[at + 1..];
        }
        rest.iter().find_map(|&list| self.newest(list))
    }

    /// Returns the slots of a list, oldest first.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = Slot> {
        let newer = |slot: &Slot| self.links[(*slot + Self::FIRST) as usize].newer.checked_sub(Self::FIRST);
        std::iter::successors(self.oldest(list), newer)
    }
}
