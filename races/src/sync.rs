//! What crates/engine/src/sync.rs has, made by loom.
use std::sync::{LockResult, PoisonError, TryLockError};

pub use loom::sync::{MutexGuard as Guard, atomic};

pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

pub struct Poisoned<T>(loom::sync::Mutex<T>);

impl<T> Poisoned<T> {
    pub fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub fn lock(&self) -> LockResult<Guard<'_, T>> {
        self.0.lock()
    }

    /// Waits, as the threads that wait are counted for the sake of time alone.
    pub fn try_lock(&self) -> Result<Guard<'_, T>, TryLockError<Guard<'_, T>>> {
        self.0.lock().map_err(TryLockError::Poisoned)
    }

    pub fn clear_poison(&self) {}
}

pub fn pause() {}

macro_rules! global {
    ($(#[$said:meta])* $name:ident: $kind:ty = $value:expr) => {
        loom::lazy_static! {
            $(#[$said])*
            static ref $name: $kind = $value;
        }
    };
}
pub(crate) use global;
