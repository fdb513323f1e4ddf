//! Files of the engine, as links, with the locks and atomics of loom in the place of the real ones. Loom runs each model
//! once for every order in which its threads may take their steps, and for every value that a load may find.
//!
//! `kamacache-races` runs all models, `kamacache-races NAME` those with that text in their names. $KAMACACHE_SWITCHES is
//! how often a thread that could go on is interrupted in one order, at most: a race that needs more is rare (Musuvathi
//! and Qadeer, "Iterative Context Bounding", PLDI 2007).
#![allow(dead_code, unused_imports, reason = "the models use a part of these files")]

mod arrivals;
mod chunks;
mod clock;
mod contacts;
mod hash;
mod marked;
mod memory;
mod models;
mod outcome;
mod placement;
mod policy;
mod proto;
mod stack;
mod store;
mod sync;
mod table;
mod version;

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Instant,
};

use loom::model::Builder;

static ORDERS: AtomicUsize = AtomicUsize::new(0);

fn main() {
    let wanted = env::args().nth(1).unwrap_or_default();
    let mut builder = Builder::new();
    let switches = env::var("KAMACACHE_SWITCHES").map_or(2, |text| text.parse().expect("a number"));
    (builder.preemption_bound, builder.max_branches) = (Some(switches), 100_000);
    for (name, model) in models::ALL.iter().filter(|(name, _)| name.contains(&wanted)) {
        ORDERS.store(0, Relaxed);
        let begun = Instant::now();
        builder.check(|| {
            ORDERS.fetch_add(1, Relaxed);
            model();
        });
        println!("{name}: {} orders in {:.1} s", ORDERS.load(Relaxed), begun.elapsed().as_secs_f32());
    }
}
