//! A peer's answers as Python tuples (value, version, remaining seconds, flags), made from the bytes received.
use kamacache_engine::{
    peer::{Failure, FailureKind},
    resp::{Answer, Look, Reply, Unpack},
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyList, PyTuple},
};

use crate::failure::peer_error;

/// Returns a duration of a message in seconds; None for one that never ends (-1).
pub fn seconds(ms: i64) -> Option<f64> {
    (ms >= 0).then(|| ms as f64 / 1000.0)
}

/// Returns a duration for a message: rounded down, but a positive one never to 0.
pub fn milliseconds(seconds: Option<f64>) -> i64 {
    match seconds {
        None => -1,
        Some(seconds) if seconds > 0.0 => ((seconds * 1000.0) as i64).max(1),
        Some(_) => 0,
    }
}

fn tuple<'py>(py: Python<'py>, answer: &Answer, input: &[u8]) -> PyResult<Bound<'py, PyTuple>> {
    let value = answer.value.clone().map(|range| PyBytes::new(py, &input[range]));
    (value, answer.version, seconds(answer.remaining_ms), u64::from(answer.flags) | answer.age_ms << 8)
        .into_pyobject(py)
}

/// Returns the look of that number at so many keys.
pub fn look(number: u8, keys: usize) -> PyResult<Look> {
    let look = Look::ALL.get(usize::from(number)).copied();
    look.filter(|look| keys == 1 || matches!(look, Look::Copy | Look::Former))
        .ok_or_else(|| PyValueError::new_err("this is no look at so many keys"))
}

/// Raises an error reply, unless the peer does not have the group: then it has none of its keys.
fn refused(py: Python<'_>, address: &str, text: &[u8]) -> PyResult<()> {
    match Failure::error(address, text) {
        Failure { kind: FailureKind::UnknownGroup, .. } => Ok(()),
        failure => Err(peer_error(py, &failure)),
    }
}

/// Returns the answer to a request for one key.
pub fn one<'py>(py: Python<'py>, address: &str, reply: &Reply, input: &[u8]) -> PyResult<Option<Bound<'py, PyTuple>>> {
    match reply {
        Reply::Found(answer) => tuple(py, answer, input).map(Some),
        Reply::Nothing => Ok(None),
        Reply::Error(text) => refused(py, address, &input[text.clone()]).map(|()| None),
        Reply::Simple(_) | Reply::Packed(_) => Err(peer_error(py, &Failure::nonsense(address, "of another kind"))),
    }
}

/// Returns the answers to a request for `keys` keys.
pub fn many<'py>(
    py: Python<'py>,
    address: &str,
    keys: usize,
    reply: &Reply,
    input: &[u8],
) -> PyResult<Bound<'py, PyList>> {
    let answers = PyList::empty(py);
    match reply {
        Reply::Packed(packed) => {
            let packed = &input[packed.clone()];
            let mut unpack = Unpack::new(packed);
            let nonsense = |what| peer_error(py, &Failure::nonsense(address, what));
            for _ in 0..keys {
                match unpack.answer().map_err(|error| nonsense(error.0))? {
                    Some(answer) => answers.append(tuple(py, &answer, packed)?)?,
                    None => answers.append(py.None())?,
                }
            }
            if !unpack.is_done() {
                return Err(nonsense("more answers than questions"));
            }
        }
        Reply::Error(text) => {
            refused(py, address, &input[text.clone()])?;
            for _ in 0..keys {
                answers.append(py.None())?;
            }
        }
        _ => answers.append(one(py, address, reply, input)?)?,
    }
    if answers.len() != keys {
        return Err(peer_error(py, &Failure::nonsense(address, "another number of answers")));
    }
    Ok(answers)
}
