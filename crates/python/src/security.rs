//! `Security`: the password and the certificates of a node.
use std::{sync::Arc, time::Instant};

use kamacache_engine::security::{
    self, Password,
    tls::{Files, Tls},
};
use pyo3::{exceptions::PyValueError, prelude::*};

/// The password and the certificates of a node. It shows none of them.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Security {
    pub inner: Arc<security::Security>,
}

#[pymethods]
impl Security {
    #[new]
    #[pyo3(signature = (*, password = None, tls = None, mutual = true, service = ""))]
    fn new(
        py: Python<'_>,
        password: Option<&str>,
        tls: Option<[String; 3]>,
        mutual: bool,
        service: &str,
    ) -> PyResult<Self> {
        let password = password
            .map(|text| Password::new(text).ok_or_else(|| PyValueError::new_err("not a password")))
            .transpose()?;
        let files = tls.map(|files| {
            let [cert, key, ca] = files.map(Into::into);
            Files { cert, key, ca, mutual }
        });
        let tls = py.detach(|| files.map(Tls::new).transpose()).map_err(PyValueError::new_err)?;
        Ok(Self {
            inner: Arc::new(security::Security { password, tls, service: service.to_owned(), ..Default::default() }),
        })
    }

    fn renewed(&self) -> Self {
        Self { inner: Arc::new(self.inner.renewed()) }
    }

    fn guesses(&self) -> Vec<(String, u64)> {
        self.inner.guesses.due(Instant::now())
    }

    fn unproven(&self) -> Vec<(String, u64)> {
        self.inner.unproven.due(Instant::now())
    }

    fn reload(&self, py: Python<'_>) -> PyResult<bool> {
        let Some(tls) = &self.inner.tls else { return Ok(false) };
        py.detach(|| tls.reload()).map_err(PyValueError::new_err)
    }
}
