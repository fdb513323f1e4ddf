//! The graveyard of Python objects: nothing that is buried gets lost, and nothing is dropped twice.
use std::{ptr, sync::Arc};

use loom::{cell::Cell, sync::atomic::AtomicPtr, thread};

use crate::stack::Stack;

/// 1. A reads the top. 2. B pushes, or takes all. 3. A publishes its node above a top that is there no more.
pub fn what_is_pushed_is_taken_once() {
    let stack = Arc::new(Stack(AtomicPtr::new(ptr::null_mut())));
    let others = [1, 2].map(|number| {
        let stack = stack.clone();
        thread::spawn(move || {
            let cell = Cell::new(0);
            cell.set(number);
            stack.push(cell);
        })
    });
    let mut taken = Vec::new();
    stack.take(|number| taken.push(number.get()));
    others.into_iter().for_each(|other| other.join().unwrap());
    stack.take(|number| taken.push(number.get()));
    taken.sort_unstable();
    assert_eq!(taken, [1, 2]);
}
