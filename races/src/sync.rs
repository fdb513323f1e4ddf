//! What crates/engine/src/sync.rs has, made by loom.
use std::sync::{LockResult, PoisonError};

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

    pub fn clear_poison(&self) {}
}

macro_rules! global {
    ($(#[$said:meta])* $name:ident: $kind:ty = $value:expr) => {
        loom::lazy_static! {
            $(#[$said])*
            static ref $name: $kind = $value;
        }
    };
}
pub(crate) use global;
