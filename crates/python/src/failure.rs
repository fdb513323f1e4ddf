//! Failures of the network as exceptions: of kamacache.errors for peers, OSError with its number for the system.
use std::io;

use kamacache_engine::peer::{Failure, FailureKind};
use pyo3::{exceptions::PyOSError, prelude::*};

use crate::errors;

/// Returns PeerError, Overloaded, UnknownGroup or NodeClosed.
pub fn peer_error(py: Python<'_>, failure: &Failure) -> PyErr {
    let text = failure.text.as_str();
    let flag = match failure.kind {
        FailureKind::Overloaded => return errors::overloaded(py, text),
        FailureKind::UnknownGroup => return errors::unknown_group(py, text),
        FailureKind::Ended => return errors::node_closed(py, text),
        FailureKind::Unreachable => return errors::peer_error(py, text),
        FailureKind::Refused => "refused",
        FailureKind::Broken => "broken",
        FailureKind::Denied => "denied",
    };
    let error = errors::peer_error(py, text);
    error.value(py).setattr(flag, true).err().unwrap_or(error)
}

/// Returns the subclass of OSError for the error's number; `about` is the address concerned.
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

/// Raises NodeClosed if that is why one of several answers is missing.
pub fn check_open<A>(py: Python<'_>, answers: &[Result<A, Failure>]) -> PyResult<()> {
    let ended = answers.iter().filter_map(|answer| answer.as_ref().err()).find(|each| each.kind == FailureKind::Ended);
    ended.map_or(Ok(()), |failure| Err(peer_error(py, failure)))
}

/// Returns the answers of several peers as objects. That of one that failed is the exception, not raised.
pub fn objects<'py, A>(
    py: Python<'py>,
    answers: Vec<Result<A, Failure>>,
    object: impl Fn(A) -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<Vec<Bound<'py, PyAny>>> {
    check_open(py, &answers)?;
    let one = |answer: Result<A, _>| match answer {
        Ok(answer) => object(answer),
        Err(failure) => Ok(exception(py, &failure)),
    };
    answers.into_iter().map(one).collect()
}

/// Returns the same as an object, not raised.
pub fn exception<'py>(py: Python<'py>, failure: &Failure) -> Bound<'py, PyAny> {
    peer_error(py, failure).into_value(py).into_bound(py).into_any()
}
