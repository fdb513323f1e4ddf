//! The time of a node: the machine's, or one that a test advances.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// The clock that is read in 4 ns, and lags by one tick of the kernel (1 to 10 ms).
#[cfg(target_os = "linux")]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(target_os = "linux"))]
const COARSE: ClockId = ClockId::Monotonic;

/// All times are nanoseconds.
pub struct Clock(Source);

enum Source {
    Machine,
    Manual { passed: AtomicU64, unix: u64 },
}

impl Clock {
    pub fn machine() -> Self {
        Self(Source::Machine)
    }

    /// Makes a clock that stands still at `unix` since 1970 until it is advanced.
    pub fn manual(unix: u64) -> Self {
        Self(Source::Manual { passed: AtomicU64::new(0), unix })
    }

    /// Returns a time that only grows, from an arbitrary start.
    pub fn now(&self) -> u64 {
        self.read(ClockId::Monotonic)
    }

    /// Returns `now`, cheaply and at most a tick late: for expiry.
    pub fn coarse(&self) -> u64 {
        self.read(COARSE)
    }

    /// Returns the time since 1970.
    pub fn unix(&self) -> u64 {
        match &self.0 {
            Source::Machine => read(ClockId::Realtime),
            Source::Manual { passed, unix } => unix.saturating_add(passed.load(Relaxed)),
        }
    }

    /// Advances a manual clock. Returns false for the machine's.
    pub fn advance(&self, by: u64) -> bool {
        match &self.0 {
            Source::Machine => false,
            Source::Manual { passed, .. } => {
                passed.fetch_add(by, Relaxed);
                true
            }
        }
    }

    fn read(&self, id: ClockId) -> u64 {
        match &self.0 {
            Source::Machine => read(id),
            Source::Manual { passed, .. } => passed.load(Relaxed),
        }
    }
}

/// The time that also counts while the machine is suspended.
#[cfg(target_os = "linux")]
const ELAPSED: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const ELAPSED: ClockId = ClockId::Monotonic;

/// A pulse that was not taken for so long shows that the process stood still: stopped, paused, or suspended with its machine.
const STOOD: u64 = SECOND;

/// Shows whether this process stood still. A thread must take it at least every 100 ms.
#[derive(Default)]
pub struct Pulse {
    last: AtomicU64,
    /// How often the process stood still.
    stood: AtomicU64,
}

impl Pulse {
    /// Returns how often the process stood still; `found` is called by those who find that out first.
    pub fn beat(&self, found: impl FnOnce()) -> u64 {
        let now = read(ELAPSED);
        let last = self.last.load(Relaxed);
        if last != 0 && now.saturating_sub(last) > STOOD {
            self.stood.fetch_add(1, Relaxed);
            found();
        }
        self.last.store(now, Relaxed);
        self.stood.load(Relaxed)
    }
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    // The kernel returns neither negative seconds for these clocks nor nanoseconds beyond a second.
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
