//! Failures of the wire as exceptions: of peers those of kamacache.errors, of the system OSError with its number.
use std::io;

use kamacache_engine::peer::{Failure, FailureKind};
use pyo3::{exceptions::PyOSError, prelude::*};

use crate::errors;

/// PeerError, Overloaded or UnknownGroup.
pub fn peer_error(py: Python<'_>, failure: &Failure) -> PyErr {
    let text = failure.text.as_str();
    let flag = match failure.kind {
        FailureKind::Overloaded => return errors::overloaded(py, text),
        FailureKind::UnknownGroup => return errors::unknown_group(py, text),
        FailureKind::Unreachable => return errors::peer_error(py, text),
        FailureKind::Refused => "refused",
        FailureKind::Denied => "denied",
    };
    let error = errors::peer_error(py, text);
    error.value(py).setattr(flag, true).err().unwrap_or(error)
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
