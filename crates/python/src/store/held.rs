//! A Python object that may be replaced, and that the collector sees.
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{PyTraverseError, PyVisit, prelude::*};

/// Only attached threads take the lock, for a moment.
pub struct Held<T>(Mutex<Option<Py<T>>>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self::new(None)
    }
}

impl<T> Held<T> {
    pub fn new(object: Option<Py<T>>) -> Self {
        Self(Mutex::new(object))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, py: Python<'_>) -> Option<Py<T>> {
        self.lock().as_ref().map(|object| object.clone_ref(py))
    }

    pub fn set(&self, object: Option<Py<T>>) {
        // Dropped after the lock: the old object may run code.
        let old = std::mem::replace(&mut *self.lock(), object);
        drop(old);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock() {
            Ok(object) => visit.call(&*object),
            Err(_) => Ok(()),
        }
    }
}
