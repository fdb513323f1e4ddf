//! The only crate that knows Python: thin classes over the engine, as `kamacache._engine`.
//!
//! Their methods are documented in src/kamacache/_engine.pyi, Group.get in hit.rs.
// Every use of unsafe states why it is sound.
#![allow(unsafe_code)]
#![warn(clippy::undocumented_unsafe_blocks)]
mod answers;
mod batch;
mod cell;
mod clock;
mod contacts;
mod descriptor;
mod errors;
mod etcd;
mod failure;
mod flights;
mod fork;
mod getter;
mod guarded;
mod handle;
mod handover;
mod hit;
mod incoming;
mod inherited;
mod keys;
mod messages;
mod metrics;
mod pipeline;
mod placement;
mod policy;
mod promise;
mod question;
mod remote;
mod security;
mod size;
mod stack;
mod store;
mod tokens;
mod transport;
mod trim;
mod value;
mod watch;
mod writer;

use kamacache_engine::{policy::Rule, sync};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyTuple},
};

#[pymodule(gil_used = false)] // docs/decisions.md says why
mod _engine {
    use super::*;

    #[pymodule_export]
    use super::clock::{Clock, Hlc, monotonic};
    #[pymodule_export]
    use super::contacts::{Contacts, Writing};
    #[pymodule_export]
    use super::etcd::EtcdSession;
    #[pymodule_export]
    use super::flights::{Flight, Flights, Lead};
    #[pymodule_export]
    use super::fork::after_fork_in_child;
    #[pymodule_export]
    use super::getter::Getter;
    #[pymodule_export]
    use super::handover::{hand_over, join, take_over};
    #[pymodule_export]
    use super::incoming::Incoming;
    #[pymodule_export]
    use super::keys::check_keys;
    #[pymodule_export]
    use super::metrics::{Histogram, Scrape, count_misses, hot, statuses};
    #[pymodule_export]
    use super::pipeline::Pipeline;
    #[pymodule_export]
    use super::placement::Placement;
    #[pymodule_export]
    use super::policy::PolicyRun;
    #[pymodule_export]
    use super::promise::{Promise, wake_late};
    #[pymodule_export]
    use super::question::Question;
    #[pymodule_export]
    use super::remote::{Flag, Remote};
    #[pymodule_export]
    use super::security::Security;
    #[pymodule_export]
    use super::store::{Budget, PendingWrite, Store};
    #[pymodule_export]
    use super::transport::Transport;
    #[pymodule_export]
    use super::watch::Watch;

    #[pyfunction]
    #[pyo3(signature = (key, /))]
    fn check_key(key: &Bound<'_, PyAny>) -> PyResult<()> {
        errors::key(key).map(drop)
    }

    #[pyfunction]
    fn arrived() -> u64 {
        kamacache_engine::arrivals::arrived()
    }

    #[pymodule_init]
    fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
        m.add("__version__", env!("CARGO_PKG_VERSION"))?;
        m.add("MISSING", hit::missing(m.py())?)?;
        m.add("PACKED", PyBytes::new(m.py(), kamacache_engine::memory::PACKED))?;
        m.add("TAG", kamacache_engine::store::TAG)?;
        m.add("PREFIX", kamacache_engine::store::PREFIX)?;
        m.add("POLICIES", PyTuple::new(m.py(), Rule::NAMES)?)?;
        inherited::watch_forks()?;
        Store::add_methods(m.py())?;
        Getter::add_methods(&m.py().get_type::<Getter>())
    }
}
