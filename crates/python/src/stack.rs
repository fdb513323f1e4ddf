//! A stack that any thread pushes to and one takes as a whole, without a lock that a fork could tear.
use std::ptr;

use crate::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Relaxed, Release},
};

pub struct Stack<T>(pub AtomicPtr<Node<T>>);

pub struct Node<T> {
    item: T,
    next: *mut Node<T>,
}

impl<T: Send> Stack<T> {
    pub fn push(&self, item: T) {
        let node = Box::into_raw(Box::new(Node { item, next: self.0.load(Relaxed) }));
        loop {
            // SAFETY: the node is ours until the exchange publishes it.
            let next = unsafe { (*node).next };
            match self.0.compare_exchange_weak(next, node, Release, Relaxed) {
                Ok(_) => return,
                // SAFETY: as above.
                Err(now) => unsafe { (*node).next = now },
            }
        }
    }

    /// Calls `each` with all that was pushed, the last of it first.
    pub fn take(&self, mut each: impl FnMut(T)) {
        if self.0.load(Relaxed).is_null() {
            return;
        }
        let mut next = self.0.swap(ptr::null_mut(), Acquire);
        while !next.is_null() {
            // SAFETY: the swap made the whole list ours; each node was boxed by `push`.
            let node = unsafe { Box::from_raw(next) };
            next = node.next;
            each(node.item);
        }
    }
}
