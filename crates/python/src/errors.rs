//! Exceptions of kamacache.errors, each looked up once, and arguments that may be wrong.
use std::time::Duration;

use kamacache_engine::{call::KEY, store::Kind};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    sync::PyOnceLock,
    types::{PyString, PyType},
};

macro_rules! exceptions {
    ($($function:ident => $name:literal),* $(,)?) => {$(
        #[doc = concat!("kamacache.errors.", $name)]
        pub fn $function(py: Python<'_>, text: impl Into<String>) -> PyErr {
            static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
            match TYPE.import(py, "kamacache.errors", $name) {
                Ok(class) => PyErr::from_type(class.clone(), (text.into(),)),
                Err(error) => error,
            }
        }
    )*};
}

exceptions! {
    invalid_key => "InvalidKey",
    node_closed => "NodeClosed",
    overloaded => "Overloaded",
    peer_error => "PeerError",
    registry_error => "RegistryError",
    unknown_group => "UnknownGroup",
}

/// Returns the key's UTF-8, or InvalidKey that says what is wrong with it.
pub fn key<'a>(key: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let py = key.py();
    let Ok(text) = key.cast::<PyString>() else {
        let kind = key.get_type().name()?;
        return Err(invalid_key(py, format!("a key must be a str, not {kind}: {}", shown(key))));
    };
    match text.to_str() {
        Ok("") => Err(invalid_key(py, "a key must not be empty")),
        Ok(text) if text.len() <= KEY => Ok(text),
        Ok(text) => {
            let size = text.len();
            Err(invalid_key(py, format!("a key has at most {KEY} bytes in UTF-8, not {size}: {}", shown(key))))
        }
        Err(_) => Err(invalid_key(py, format!("a key must not hold lone surrogates: {}", shown(key)))),
    }
}

/// Returns the start of its repr: keys may be long, and may be secret.
fn shown(key: &Bound<'_, PyAny>) -> String {
    let Ok(repr) = key.repr() else {
        return "(no repr)".to_owned();
    };
    let repr = repr.to_string_lossy();
    let mut start: String = repr.chars().take(40).collect();
    if start.len() < repr.len() {
        start.truncate(start.char_indices().nth(37).map_or(start.len(), |(at, _)| at));
        start.push_str("...");
    }
    start
}

/// Returns a duration in nanoseconds; a negative one is over at once, one beyond 584 years never.
pub fn nanoseconds(seconds: f64) -> PyResult<u64> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err("a duration must not be NaN"));
    }
    Ok((seconds * 1e9) as u64)
}

pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Returns the kind of an entry from its number: Store.MAIN, NEAR or FORMER.
pub fn kind(number: u8) -> PyResult<Kind> {
    [Kind::Main, Kind::Near, Kind::Former]
        .into_iter()
        .find(|&kind| kind as u8 == number)
        .ok_or_else(|| PyValueError::new_err("kind must be MAIN, NEAR or FORMER"))
}

/// Returns a time to wait: at least 0, at most 30 years.
pub fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).map_err(|error| PyValueError::new_err(error.to_string()))
}
