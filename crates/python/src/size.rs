//! About how much memory an object takes, with all that it refers to.
use std::collections::HashSet;

use pyo3::{
    exceptions::PyException,
    ffi::PyObject,
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyModule, PyString},
};

/// Of an object of so many parts each is looked at, which takes about a millisecond. Of one of more some are, by chance.
const MOST: usize = 4_000;
/// The size of what cannot say how large it is.
const UNKNOWN: usize = 64;
/// Allocators give multiples of it.
const STEP: usize = 16;

static SIZE_OF: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static REFERENTS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Returns about how many bytes an object takes that was decoded from these. They are not among them.
pub fn deep(object: &Bound<'_, PyAny>, bytes: &Bound<'_, PyBytes>) -> PyResult<usize> {
    if is_leaf(object) {
        return own(object);
    }
    let mut seen = HashSet::from([object.as_ptr(), bytes.as_ptr()]);
    match whole(object, &mut seen)? {
        Some(size) => Ok(size),
        None => sampled(object, HashSet::from([object.as_ptr(), bytes.as_ptr()])),
    }
}

/// Adds up all parts. None: there are too many.
fn whole(object: &Bound<'_, PyAny>, seen: &mut HashSet<*mut PyObject>) -> PyResult<Option<usize>> {
    let (mut size, mut open) = (0, vec![object.clone()]);
    while let Some(one) = open.pop() {
        size += own(&one)?;
        let parts = parts(&one)?;
        if seen.len() + parts.len() > 2 * MOST {
            return Ok(None);
        }
        open.extend(parts.into_iter().filter(|part| belongs(part) && seen.insert(part.as_ptr())));
    }
    Ok(Some(size))
}

/// Adds up some of the parts, each for all that it was chosen from: so one counts for the more, the more of its like
/// there are. The parts of an object share the number that may be chosen from what they refer to.
fn sampled(object: &Bound<'_, PyAny>, mut seen: HashSet<*mut PyObject>) -> PyResult<usize> {
    let (mut size, mut chance) = (0.0, 1_u64);
    let mut open = vec![(object.clone(), 1.0, MOST)];
    while let Some((one, stands_for, most)) = open.pop() {
        size += own(&one)? as f64 * stands_for;
        if seen.len() > 4 * MOST {
            continue;
        }
        let parts = parts(&one)?;
        let chosen = parts.len().min(most);
        for n in 0..chosen {
            // One of each run, as keys and values of a dict take turns.
            let (from, to) = (n * parts.len() / chosen, (n + 1) * parts.len() / chosen);
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let part = parts.get_item(from + (chance >> 33) as usize % (to - from))?;
            if belongs(&part) && seen.insert(part.as_ptr()) {
                let like_it = parts.len() as f64 / chosen as f64;
                open.push((part, stands_for * like_it, (most / chosen).max(1)));
            }
        }
    }
    Ok(size as usize) // as large as can be, if it is more
}

/// Returns whether an object refers to nothing, as most do.
fn is_leaf(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_none()
}

/// Returns whether the interpreter has one object for all equal to it: None, a bool, a small number, a short text.
fn is_singleton(object: &Bound<'_, PyAny>) -> bool {
    if object.is_exact_instance_of::<PyInt>() {
        return object.extract::<i16>().is_ok_and(|number| (-5..=256).contains(&number));
    }
    if let Ok(text) = object.cast_exact::<PyString>() {
        return text.len().is_ok_and(|len| len <= 1) && text.to_str().is_ok_and(str::is_ascii);
    }
    object.is_none() || object.is_exact_instance_of::<PyBool>()
}

/// Returns whether a part is the value's own: classes, functions and modules are not.
fn belongs(part: &Bound<'_, PyAny>) -> bool {
    !part.is_callable() && !part.is_instance_of::<PyModule>()
}

fn own(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    if is_singleton(object) {
        return Ok(0);
    }
    let size_of = imported(object.py(), &SIZE_OF, "sys", "getsizeof")?;
    let size = match size_of.call1((object,)).and_then(|size| size.extract::<usize>()) {
        Err(error) if !error.is_instance_of::<PyException>(object.py()) => return Err(error),
        size => size.unwrap_or(UNKNOWN), // its class may say anything
    };
    Ok(size.div_ceil(STEP) * STEP)
}

fn parts<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let py = object.py();
    if is_leaf(object) {
        return Ok(PyList::empty(py));
    }
    // The collector does not visit keys that are texts.
    if let Ok(dict) = object.cast::<PyDict>() {
        let parts = dict.keys();
        dict.values().iter().try_for_each(|value| parts.append(value))?;
        return Ok(parts);
    }
    let found = imported(py, &REFERENTS, "gc", "get_referents")?.call1((object,))?.cast_into::<PyList>()?;
    if !found.is_empty() {
        return Ok(found);
    }
    // The collector does not know the parts of a Struct of msgspec with gc=False.
    let Ok(names) = object.get_type().getattr(intern!(py, "__struct_fields__")) else { return Ok(found) };
    for name in names.try_iter()? {
        found.append(object.getattr(name?.cast::<PyString>()?)?)?;
    }
    Ok(found)
}

fn imported<'py>(
    py: Python<'py>,
    cell: &'py PyOnceLock<Py<PyAny>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyAny>> {
    Ok(cell.get_or_try_init(py, || Ok::<_, PyErr>(py.import(module)?.getattr(name)?.unbind()))?.bind(py))
}
