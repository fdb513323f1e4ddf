//! Calls from Rust into Python that survive the end of the interpreter.
use pyo3::{ffi, prelude::*, types::PyTuple};

/// Calls a function of Python's that may take its time.
///
/// Before Python 3.14, a thread that wants the interpreter back when it is being shut down is ended by pthread_exit. Its
/// unwinding must not pass through our frames, which would abort the process: the guard holds the thread where it is.
pub fn call(function: &Bound<'_, PyAny>, arguments: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
    struct Hold;
    impl Drop for Hold {
        fn drop(&mut self) {
            loop {
                std::thread::park();
            }
        }
    }
    unsafe extern "C-unwind" {
        fn PyObject_CallObject(function: *mut ffi::PyObject, arguments: *mut ffi::PyObject) -> *mut ffi::PyObject;
    }
    let py = function.py();
    let hold = Hold;
    // SAFETY: attached; both objects live for the call.
    let result = unsafe { PyObject_CallObject(function.as_ptr(), arguments.as_ptr()) };
    std::mem::forget(hold);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, result) }.map(Bound::unbind)
}
