//! Keeps the engine's list of sockets whole across fork(), and closes them in the child.
use std::{
    ffi::c_int,
    os::fd::{FromRawFd, OwnedFd},
};

use kamacache_engine::tracked;
use pyo3::{exceptions::PyOSError, prelude::*};

type Handler = Option<extern "C" fn()>;

// SAFETY: the signature is POSIX's; every libc that Rust's std links has it.
unsafe extern "C" {
    fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
}

extern "C" fn before() {
    tracked::before_fork();
}

extern "C" fn after() {
    tracked::after_fork();
}

/// Registers the handlers, once, at import. Unlike Python's hooks they run inside fork() itself, so no Python code runs
/// in between.
pub fn watch_forks() -> PyResult<()> {
    // SAFETY: the handlers are functions of this module, which Python never unloads; they take and release one lock on
    // the thread that forks, and every other holder of that lock waits for nothing.
    match unsafe { pthread_atfork(Some(before), Some(after), Some(after)) } {
        0 => Ok(()),
        error => Err(PyOSError::new_err((error, "pthread_atfork"))),
    }
}

/// Closes the sockets of the parent's transports, in a child.
pub fn close_sockets() {
    for fd in tracked::inherited() {
        // SAFETY: open in the parent when it forked, hence here. The object that has it belongs to an older generation
        // now and is never dropped, so this is the only close.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}
