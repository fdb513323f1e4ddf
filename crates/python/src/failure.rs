//! Failures of the wire as exceptions: of peers those of kamacache.errors, of the system OSError with its number.
use std::io;

use kamacache_engine::peer::{Failure, FailureKind};
use pyo3::{exceptions::PyOSError, prelude::*, sync::PyOnceLock, types::PyType};

/// PeerError, Overloaded or UnknownGroup.
pub fn peer_error(py: Python<'_>, failure: &Failure) -> PyErr {
    static PEER_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static OVERLOADED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static UNKNOWN_GROUP: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (cell, name) = match failure.kind {
        FailureKind::Refused | FailureKind::Denied | FailureKind::Unreachable => (&PEER_ERROR, "PeerError"),
        FailureKind::Overloaded => (&OVERLOADED, "Overloaded"),
        FailureKind::UnknownGroup => (&UNKNOWN_GROUP, "UnknownGroup"),
    };
    let class = match cell.import(py, "kamacache.errors", name) {
        Ok(class) => class.clone(),
        Err(error) => return error,
    };
    let error = PyErr::from_type(class, (failure.text.clone(),));
    let flag = match failure.kind {
        FailureKind::Refused => "refused",
        FailureKind::Denied => "denied",
        _ => return error,
    };
    match error.value(py).setattr(flag, true) {
        Ok(()) => error,
        Err(error) => error,
    }
}

/// The OSError subclass that the error's number stands for; `about` is what it happened to.
pub fn os_error(error: &io::Error, about: &str) -> PyErr {
    match error.raw_os_error() {
        Some(number) => {
            let text = error.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((number, text, about.to_owned()))
        }
        None => PyOSError::new_err(error.to_string()),
    }
}
