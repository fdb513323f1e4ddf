//! The engine of a Store, which a forked child replaces.
use std::sync::{
    Arc,
    atomic::{AtomicPtr, Ordering},
};

use kamacache_engine::store::{Gone, Store};
use pyo3::prelude::*;

use crate::value::{Value, release};

/// The engine's store of Python values.
pub type Engine = Store<Value>;

pub struct Cell(AtomicPtr<Engine>);

impl Cell {
    pub fn new(engine: Engine) -> Self {
        Self(AtomicPtr::new(Arc::into_raw(Arc::new(engine)).cast_mut()))
    }

    #[inline]
    pub fn get(&self) -> &Engine {
        // SAFETY: the pointer comes from Arc::into_raw. What it replaced was leaked, what it holds lives as long as self.
        unsafe { &*self.0.load(Ordering::Acquire) }
    }

    /// Returns the engine for threads that may outlive this cell.
    pub fn share(&self) -> Arc<Engine> {
        let engine = self.0.load(Ordering::Acquire);
        // SAFETY: the pointer comes from Arc::into_raw, and self owns one count of it.
        unsafe {
            Arc::increment_strong_count(engine);
            Arc::from_raw(engine)
        }
    }

    /// Puts an empty engine with the same options in place of this one, which is leaked without taking its locks.
    pub fn renew(&self) {
        let old = self.get();
        let new = Engine::new(old.options().clone()).expect("its options were good before");
        new.limit(old.budget(), &mut Gone::default());
        if old.closed() {
            new.empty(true, &mut Gone::default());
        }
        self.0.store(Arc::into_raw(Arc::new(new)).cast_mut(), Ordering::Release);
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // SAFETY: the pointer comes from Arc::into_raw, and self owns one count of it.
        let engine = unsafe { Arc::from_raw(*self.0.get_mut()) };
        if let Some(engine) = Arc::into_inner(engine) {
            let mut gone = Gone::default();
            engine.empty(true, &mut gone);
            let mut gone = Some(gone);
            Python::try_attach(|py| gone.take().map(|gone| release(py, gone)));
            std::mem::forget(gone); // None, unless the interpreter has ended and its objects with it
        }
    }
}
