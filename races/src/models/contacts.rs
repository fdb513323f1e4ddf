//! A member is told of every write after the number that it is shown.
use std::sync::Arc;

use loom::thread;

use crate::{
    arrivals::{arrived, next_number},
    contacts::Contacts,
};

/// 1. A write begins. 2. It arrives in a store. 3. A member is shown what it is to know. 4. The write is told to members,
/// and ends. A number shown in between must be below that of the write, which the member may not have been told of.
pub fn a_number_that_is_shown_is_below_those_of_writes_under_way() {
    let contacts = Arc::new(Contacts::default());
    contacts.begin("m");
    let writer = thread::spawn({
        let contacts = contacts.clone();
        move || {
            let before = contacts.writes();
            let number = next_number();
            let shown = contacts.shown("m").number;
            contacts.wrote(before);
            (number, shown)
        }
    });
    let here = contacts.shown("m");
    let seen = arrived();
    assert!(here.begun <= here.number && here.number <= seen);
    let (number, shown) = writer.join().unwrap();
    assert!(shown < number, "it was shown the write under way");
    assert!(contacts.shown("m").number >= number);
}
