//! Feeds inputs to one parser: `FUZZ=replies kamacache-fuzz -runs=1000000 seeds/replies`.
//!
//! With the feature `guided` libFuzzer makes the inputs; the flags are its own. Without it `plain` changes the seeds at
//! random. A panic, an input that takes over ten seconds, or one that makes a parser hold more memory than its limit
//! ends the run, and the input is kept.
#![cfg_attr(feature = "guided", no_main)]

#[cfg(not(feature = "guided"))]
mod plain;
mod targets;

use std::sync::OnceLock;

use peak_alloc::PeakAlloc;
use targets::Target;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Returns the parser that $FUZZ names.
fn target() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ").unwrap_or_default();
        let names: Vec<_> = targets::ALL.iter().map(|target| target.name).collect();
        targets::ALL.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("FUZZ is one of {names:?}"))
    })
}

/// Feeds one input, and checks how much memory was held at any time meanwhile.
fn feed(input: &[u8]) {
    let Target { name, most, run } = target();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    run(input);
    let held = MEMORY.peak_usage().saturating_sub(before);
    assert!(held <= *most, "{name}: {} bytes of input took {held} bytes of memory", input.len());
}

#[cfg(feature = "guided")]
libfuzzer_sys::fuzz_target!(|input: &[u8]| feed(input));

#[cfg(not(feature = "guided"))]
fn main() {
    plain::run(feed);
}
