//! Doubly linked lists threaded through one flat vector: moving an entry touches a few words and allocates nothing.

use super::Slot;

#[derive(Clone, Copy)]
struct Link {
    newer: u32,
    older: u32,
}

/// `N` circular lists over the same slots; a slot is on at most one of them.
///
/// Each list closes its circle through a sentinel (links `0..N`; slot `s` is link `N + s`), so that taking a slot out
/// needs neither a branch nor the name of its list.
pub(super) struct Lists<const N: usize> {
    links: Vec<Link>,
}

impl<const N: usize> Lists<N> {
    pub fn new() -> Self {
        Lists { links: (0..N as u32).map(|own| Link { newer: own, older: own }).collect() }
    }

    /// Makes room for `slot`; its link is meaningless until it is pushed.
    pub fn reserve(&mut self, slot: Slot) {
        let needed = slot as usize + N + 1;
        if self.links.len() < needed {
            self.links.resize(needed, Link { newer: 0, older: 0 });
        }
    }

    pub fn push_newest(&mut self, list: usize, slot: Slot) {
        self.link(list as u32, slot + N as u32, self.links[list].older);
    }

    pub fn push_oldest(&mut self, list: usize, slot: Slot) {
        self.link(self.links[list].newer, slot + N as u32, list as u32);
    }

    fn link(&mut self, newer: u32, own: u32, older: u32) {
        self.links[own as usize] = Link { newer, older };
        self.links[newer as usize].older = own;
        self.links[older as usize].newer = own;
    }

    pub fn unlink(&mut self, slot: Slot) {
        let Link { newer, older } = self.links[slot as usize + N];
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
    }

    pub fn oldest(&self, list: usize) -> Option<Slot> {
        self.links[list].newer.checked_sub(N as u32)
    }

    pub fn newest(&self, list: usize) -> Option<Slot> {
        self.links[list].older.checked_sub(N as u32)
    }

    /// Returns the slots of a list, oldest first.
    pub fn iter(&self, list: usize) -> impl Iterator<Item = Slot> {
        let newer = |slot: &Slot| self.links[*slot as usize + N].newer.checked_sub(N as u32);
        std::iter::successors(self.oldest(list), newer)
    }
}
