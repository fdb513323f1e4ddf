//! What JSON cannot tell apart.
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyDict, PyList, PyString, PyTuple},
};

/// Raises TypeError if a dict anywhere in a value that was encoded, and so has no circles, has a key that is no str.
#[pyfunction]
#[pyo3(signature = (value, /))]
pub fn check_json_keys(value: Bound<'_, PyAny>) -> PyResult<()> {
    let mut open = vec![value];
    while let Some(one) = open.pop() {
        if let Ok(dict) = one.cast::<PyDict>() {
            for (key, inner) in dict.iter() {
                if !key.is_instance_of::<PyString>() {
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
