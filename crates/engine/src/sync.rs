//! The locks of the standard library, without poison: nothing here leaves its data torn by a panic.
//!
//! They are plain futexes. parking_lot keeps a table of parked threads for the whole process, and a forked child inherits
//! it full of threads that it does not have.
//!
//! The models in races/ compile files of the engine with another module in the place of this one: so those files take
//! their locks and atomics from here.
pub use std::sync::{Mutex as Poisoned, MutexGuard as Guard, atomic};
use std::{
    sync::{Condvar as StdCondvar, Mutex as StdMutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Declares an atomic of the whole process.
macro_rules! global {
    ($(#[$said:meta])* $name:ident: $kind:ty = $value:expr) => {
        $(#[$said])*
        static $name: $kind = $value;
    };
}
pub(crate) use global;

/// Waits for about as long as another thread needs to wake up. A yield does not, if that has a processor of its own.
pub fn pause() {
    thread::sleep(Duration::from_micros(50));
}

#[derive(Default)]
pub struct Mutex<T>(StdMutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(StdMutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub struct Condvar(StdCondvar);

impl Condvar {
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits to be notified; the second is false when `deadline` came first.
    pub fn wait_until<'a, T>(&self, guard: MutexGuard<'a, T>, deadline: Instant) -> (MutexGuard<'a, T>, bool) {
        let left = deadline.saturating_duration_since(Instant::now());
        let (guard, timeout) = self.0.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner);
        (guard, !timeout.timed_out())
    }
}
