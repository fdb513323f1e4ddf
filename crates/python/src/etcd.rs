//! `EtcdSession`: a registration that is kept, and prefixes that are mirrored.
use std::{mem, sync::Arc};

use bytes::Bytes;
use kamacache_engine::etcd::{Options, Session, TlsFiles, Trouble, TroubleKind, state::Entry};
use pyo3::{
    exceptions::{PyConnectionError, PyValueError},
    prelude::*,
    types::{PyBytes, PyList},
};

use crate::errors::{duration, registry_error};

/// Returns RegistryError if etcd refuses, ConnectionError if it is out of reach.
fn error(py: Python<'_>, trouble: &Trouble) -> PyErr {
    match trouble.kind {
        TroubleKind::Away => PyConnectionError::new_err(trouble.text.clone()),
        TroubleKind::Refused => registry_error(py, &*trouble.text),
    }
}

/// One session with etcd: leases kept alive, keys kept written under them, prefixes mirrored. It owns one thread, which
/// no Python can hold up.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct EtcdSession {
    inner: Arc<Session>,
}

impl Drop for EtcdSession {
    fn drop(&mut self) {
        if self.inner.is_forked() {
            mem::forget(self.inner.clone()); // its thread and locks are the parent's
        }
    }
}

#[pymethods]
impl EtcdSession {
    #[new]
    #[pyo3(signature = (endpoints, *, user = None, password = None, ca = None, cert = None, key = None))]
    fn new(
        endpoints: Vec<String>,
        user: Option<String>,
        password: Option<String>,
        ca: Option<String>,
        cert: Option<String>,
        key: Option<String>,
    ) -> Self {
        let options = Options {
            endpoints,
            user: user.zip(password),
            tls: ca.map(|ca| TlsFiles { ca: ca.into(), pair: cert.map(Into::into).zip(key.map(Into::into)) }),
        };
        let inner = Arc::new(Session::new(options));
        Self { inner }
    }

    fn check(&self) -> PyResult<()> {
        self.inner.check().map_err(PyValueError::new_err)
    }

    #[pyo3(signature = (entries, timeout, /))]
    fn register(&self, py: Python<'_>, entries: Vec<(String, Vec<u8>, u32)>, timeout: f64) -> PyResult<()> {
        let entries =
            entries.into_iter().map(|(key, value, life)| Entry { key: key.into(), value: value.into(), life });
        let entries = entries.collect();
        let timeout = duration(timeout)?;
        py.detach(|| self.inner.register(entries, timeout)).map_err(|trouble| error(py, &trouble))
    }

    #[pyo3(signature = (timeout, /))]
    fn withdraw(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout)?;
        py.detach(|| self.inner.withdraw(timeout)).map_err(|trouble| error(py, &trouble))
    }

    #[pyo3(signature = (prefix, timeout, /))]
    fn entries<'py>(&self, py: Python<'py>, prefix: &str, timeout: f64) -> PyResult<Bound<'py, PyList>> {
        let under = Bytes::copy_from_slice(prefix.as_bytes());
        let timeout = duration(timeout)?;
        let entries = py.detach(|| self.inner.list(&under, timeout)).map_err(|trouble| error(py, &trouble))?;
        let found = PyList::empty(py);
        for (key, value) in entries {
            // A key that is not UTF-8 is not of this package.
            if let Ok(rest) = std::str::from_utf8(&key[under.len()..]) {
                found.append((rest, PyBytes::new(py, &value)))?;
            }
        }
        Ok(found)
    }

    #[pyo3(signature = (key, /))]
    fn drop(&self, py: Python<'_>, key: String) -> PyResult<()> {
        self.inner.drop_key(&key.into()).map_err(|trouble| error(py, &trouble))
    }

    #[pyo3(signature = (seen, timeout, /))]
    fn wait(&self, py: Python<'_>, seen: u64, timeout: f64) -> PyResult<u64> {
        let timeout = duration(timeout)?;
        py.detach(|| self.inner.wait(seen, timeout)).map_err(|trouble| error(py, &trouble))
    }

    #[getter]
    fn registered(&self) -> bool {
        self.inner.is_registered()
    }

    #[pyo3(signature = (timeout, /))]
    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout)?;
        py.detach(|| self.inner.close(timeout));
        Ok(())
    }
}
