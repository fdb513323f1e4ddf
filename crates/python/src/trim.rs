//! Gives free memory back to the system.
//!
//! glibc gives back the free end of its heap alone. If many small values made room for few large ones, most of the heap
//! is free, in holes that are too small for them. So if values have left, and the process takes more than it did before,
//! the holes are given back; and also if as many have left as take half of what it takes, as after a clear.
use std::{
    fs,
    sync::{
        Mutex, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// The process may grow by this part of what it takes: then it is looked whether there are holes.
const PART: u64 = 32;
const LEAST: u64 = 1 << 20;
/// Freeing so much takes about 10 ms, for which other threads may have to wait for memory.
const MOST: u64 = 32 << 20;
/// It waits for so many times as long as it took before it is done again.
const PAUSE: u32 = 4;

/// The bytes of values that died since it was last looked.
static DIED: AtomicU64 = AtomicU64::new(0);
/// When so many have died, it is looked again.
static ENOUGH: AtomicU64 = AtomicU64::new(LEAST);

struct State {
    /// The bytes that the process took at least since memory was last given back.
    least: u64,
    /// The bytes of values that died since.
    died: u64,
    /// Not again before.
    next: Option<Instant>,
}

static STATE: Mutex<State> = Mutex::new(State { least: 0, died: 0, next: None });

/// Takes note of the death of a value.
#[inline]
pub fn died(bytes: usize) {
    DIED.fetch_add(bytes as u64, Relaxed);
}

/// Returns whether so many have died that `trim` may help.
#[inline]
pub fn is_due() -> bool {
    DIED.load(Relaxed) >= ENOUGH.load(Relaxed)
}

/// Gives memory back if the process has grown, from a thread without the interpreter.
pub fn trim() {
    let died = DIED.swap(0, Relaxed); // first, as each release calls this again otherwise
    let mut state = match STATE.try_lock() {
        Ok(state) => state,
        Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
        Err(TryLockError::WouldBlock) => return, // another thread does it
    };
    state.died = state.died.saturating_add(died);
    let now = Instant::now();
    if state.next.is_some_and(|next| now < next) {
        return;
    }
    let Some(resident) = resident() else { return };
    let step = (resident / PART).clamp(LEAST, MOST);
    ENOUGH.store((step / 2).max(LEAST), Relaxed);
    if state.least == 0 || resident < state.least {
        state.least = resident;
    }
    let grown = resident - state.least >= step;
    if grown || state.died >= resident / 2 {
        give_back();
        state.died = 0;
        let took = now.elapsed();
        state.next = now.checked_add(took.saturating_mul(PAUSE).min(Duration::from_secs(60)));
        if grown {
            state.least = self::resident().unwrap_or(resident);
        }
    }
}

/// Returns how many bytes of the process are in memory.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    unsafe extern "C" {
        fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
    // SAFETY: glibc's; any thread may call it at any time.
    unsafe { malloc_trim(0) };
}

/// Other allocators give memory back by rules of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}
