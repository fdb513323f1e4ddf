//! The items of crates/engine/src/sync.rs, with locks that never wait in the standard library: that was not compiled for
//! ThreadSanitizer, which would not see there that one thread goes on after another one.
use std::sync::{LockResult, Mutex as StdMutex, PoisonError, TryLockError, TryLockResult};

pub use std::sync::{MutexGuard as Guard, atomic};

fn spin<T>(mutex: &StdMutex<T>) -> LockResult<Guard<'_, T>> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => std::thread::yield_now(),
        }
    }
}

#[derive(Default)]
pub struct Mutex<T>(StdMutex<T>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Self {
        Self(StdMutex::new(value))
    }

    pub fn lock(&self) -> Guard<'_, T> {
        spin(&self.0).unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Poisoned<T>(StdMutex<T>);

impl<T> Poisoned<T> {
    pub fn new(value: T) -> Self {
        Self(StdMutex::new(value))
    }

    pub fn lock(&self) -> LockResult<Guard<'_, T>> {
        spin(&self.0)
    }

    pub fn try_lock(&self) -> TryLockResult<Guard<'_, T>> {
        self.0.try_lock()
    }

    pub fn clear_poison(&self) {
        self.0.clear_poison();
    }
}

pub fn pause() {
    std::thread::yield_now();
}

macro_rules! global {
    ($(#[$said:meta])* $name:ident: $kind:ty = $value:expr) => {
        $(#[$said])*
        static $name: $kind = $value;
    };
}
pub(crate) use global;
