//! Keys of dicts that come back from JSON or MessagePack as others, or not at all.
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};

/// Raises TypeError for a dict anywhere in a value that was encoded, and so has no circles: if it has a key that is no
/// str, for JSON, or one that is a tuple, for MessagePack.
#[pyfunction]
#[pyo3(signature = (value, json, /))]
pub fn check_keys(value: Bound<'_, PyAny>, json: bool) -> PyResult<()> {
    let mut open = vec![value];
    while let Some(one) = open.pop() {
        if let Ok(dict) = one.cast::<PyDict>() {
            for (key, inner) in dict.iter() {
                if !json && key.is_instance_of::<PyTuple>() {
                    return Err(PyTypeError::new_err(format!(
                        "the key {} of a dict is a tuple, and MessagePack would return it as a list, which is no key; \
                         make the keys text or numbers, or give the group codec=\"pickle\"",
                        key.repr()?
                    )));
                }
                if json && !key.is_instance_of::<PyString>() {
                    return Err(PyTypeError::new_err(format!(
                        "the key {} of a dict is no str, and JSON would return it as one; make the keys str, or give \
                         the group codec=\"msgpack\" or \"pickle\", which keep them as they are",
                        key.repr()?
                    )));
                }
                open.extend(Some(inner).filter(nests));
            }
        } else if let Ok(list) = one.cast::<PyList>() {
            open.extend(list.iter().filter(nests));
        } else if let Ok(tuple) = one.cast::<PyTuple>() {
            open.extend(tuple.iter().filter(nests));
        }
    }
    Ok(())
}

fn nests(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyDict>() || value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>()
}
