//! The only crate that knows Python: thin classes over the engine, as `kamacache._engine`.
mod placement;
mod policy;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
mod _engine {
    use super::*;

    #[pymodule_export]
    use super::placement::Placement;
    #[pymodule_export]
    use super::policy::PolicyRun;

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
