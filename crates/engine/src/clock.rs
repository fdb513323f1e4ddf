//! The time of a node: the machine's, or one that a test advances. Time in which the machine was suspended counts.
use rustix::time::{ClockId, clock_getres, clock_gettime};

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// The clock that is read in 4 ns, and lags by a tick of the kernel (1 to 10 ms): on a virtual machine by 2 to 6 ms with
/// a tick of 4. Ends are made by it too, so that only what its lag varies by counts.
#[cfg(target_os = "linux")]
const COARSE: ClockId = ClockId::MonotonicCoarse;
#[cfg(not(target_os = "linux"))]
const COARSE: ClockId = ClockId::Monotonic;

/// The clock that also counts while the machine is suspended, as Monotonic does on macOS.
#[cfg(target_os = "linux")]
const ELAPSED: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const ELAPSED: ClockId = ClockId::Monotonic;

/// All times are nanoseconds.
pub struct Clock {
    source: Source,
    /// The time asleep that `coarse` counts, because there is no coarse form of ELAPSED. It never exceeds the true one.
    asleep: AtomicU64,
    /// By how much the lag of `coarse` varies; 0 for a manual clock.
    tick: u64,
}

enum Source {
    Machine,
    Manual { awake: AtomicU64, asleep: AtomicU64, unix: u64 },
}

impl Clock {
    pub fn machine() -> Self {
        let tick = clock_getres(COARSE).tv_nsec as u64;
        let clock = Self { source: Source::Machine, asleep: AtomicU64::new(0), tick };
        clock.refresh();
        clock
    }

    /// Makes a clock that stands still at `unix` since 1970 until it is advanced.
    pub fn manual(unix: u64) -> Self {
        let (awake, asleep) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { source: Source::Manual { awake, asleep, unix }, asleep: AtomicU64::new(0), tick: 0 }
    }

    /// Returns a time that only grows, from an arbitrary start.
    pub fn now(&self) -> u64 {
        match &self.source {
            Source::Machine => read(ELAPSED),
            Source::Manual { awake, asleep, .. } => awake.load(Relaxed) + asleep.load(Relaxed),
        }
    }

    /// Returns `now`, cheaply and late by a tick: for expiry. Time asleep counts from the next `refresh` on.
    pub fn coarse(&self) -> u64 {
        let awake = match &self.source {
            Source::Machine => read(COARSE),
            Source::Manual { awake, .. } => awake.load(Relaxed),
        };
        awake + self.asleep.load(Relaxed)
    }

    /// Returns a time by `coarse` that is over when this one is: earlier by the time that its lag varies by.
    pub fn by_coarse(&self, end: u64) -> u64 {
        if end == u64::MAX { end } else { end.saturating_sub(self.tick) }
    }

    /// Has `coarse` count the time asleep up to now. The sweep of a store calls this.
    pub fn refresh(&self) {
        let asleep = match &self.source {
            Source::Machine => {
                let elapsed = read(ELAPSED); // first: a pause between the two makes the difference smaller
                elapsed.saturating_sub(read(ClockId::Monotonic))
            }
            Source::Manual { asleep, .. } => asleep.load(Relaxed),
        };
        self.asleep.fetch_max(asleep, Relaxed);
    }

    /// Returns the time since 1970.
    pub fn unix(&self) -> u64 {
        match &self.source {
            Source::Machine => read(ClockId::Realtime),
            Source::Manual { unix, .. } => unix.saturating_add(self.now()),
        }
    }

    /// Advances a manual clock. Returns false for the machine's.
    pub fn advance(&self, by: u64) -> bool {
        match &self.source {
            Source::Machine => false,
            Source::Manual { awake, .. } => {
                awake.fetch_add(by, Relaxed);
                true
            }
        }
    }

    /// Does the same, as if the machine was suspended for that time.
    pub fn sleep(&self, by: u64) -> bool {
        match &self.source {
            Source::Machine => false,
            Source::Manual { asleep, .. } => {
                asleep.fetch_add(by, Relaxed);
                true
            }
        }
    }
}

/// Returns the time of Python's time.monotonic().
pub fn monotonic() -> u64 {
    read(ClockId::Monotonic)
}

/// A pulse that was not taken for so long shows that the process stood still: stopped, paused, or suspended with its machine.
const STOOD: u64 = SECOND;

/// Shows whether this process stood still since the start. From then on a thread must take it at least every 100 ms.
pub struct Pulse {
    now: fn() -> u64,
    last: AtomicU64,
    /// The number of standstills.
    stood: AtomicU64,
    /// When the last one was found; 0: there was none.
    found: AtomicU64,
    /// The time of all of them.
    asleep: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self::by(|| read(ELAPSED))
    }
}

impl Pulse {
    /// Makes a pulse by another clock than that of the machine.
    pub fn by(now: fn() -> u64) -> Self {
        Self {
            now,
            last: AtomicU64::new(0),
            stood: AtomicU64::new(0),
            found: AtomicU64::new(0),
            asleep: AtomicU64::new(0),
        }
    }

    pub fn start(&self) {
        self.last.store((self.now)(), Relaxed);
    }

    /// Returns how often the process stood still; a caller that is the first to find that out calls `found`.
    pub fn beat(&self, found: impl FnOnce()) -> u64 {
        // A thread that finds the pulse taken sees what was counted and done before that.
        let last = self.last.load(Acquire);
        if last != 0 {
            let now = (self.now)();
            let pause = now.saturating_sub(last);
            if pause > STOOD {
                self.asleep.fetch_add(pause, Relaxed);
                self.stood.fetch_add(1, Relaxed);
                self.found.store(now, Relaxed);
                found();
            }
            self.last.store(now, Release);
        }
        self.stood.load(Relaxed)
    }

    /// Returns the nanoseconds of all standstills that `beat` has counted; some twice, if two threads found them.
    pub fn asleep(&self) -> u64 {
        self.asleep.load(Relaxed)
    }

    /// Returns whether a standstill was found within so many nanoseconds.
    pub fn stood_within(&self, nanoseconds: u64) -> bool {
        let found = self.found.load(Relaxed);
        found != 0 && (self.now)().saturating_sub(found) < nanoseconds
    }
}

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    // The kernel returns neither negative seconds for these clocks nor nanoseconds beyond a second.
    time.tv_sec as u64 * SECOND + time.tv_nsec as u64
}
