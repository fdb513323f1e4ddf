//! Has the compiler know which interpreter it builds for: `Py_GIL_DISABLED`.
fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
