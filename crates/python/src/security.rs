//! `Security`: the password of a node.
use std::sync::Arc;

use kamacache_engine::security;
use pyo3::{exceptions::PyValueError, prelude::*};

/// What a node protects itself with, and proves itself by to others. Shows nothing of it.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Security {
    pub inner: Arc<security::Security>,
}

#[pymethods]
impl Security {
    #[new]
    #[pyo3(signature = (*, password = None))]
    fn new(password: Option<&str>) -> PyResult<Self> {
        let password = password
            .map(|text| security::Password::new(text).ok_or_else(|| PyValueError::new_err("not a password")))
            .transpose()?;
        Ok(Self {
            inner: Arc::new(security::Security { password }),
        })
    }
}
