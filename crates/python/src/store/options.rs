//! The engine's side of a store, made of the options that Python gives.
use std::sync::Arc;

use kamacache_engine::{
    policy::Rule,
    store::{Freshness, Options},
};
use pyo3::{exceptions::PyValueError, prelude::*};

use crate::{
    cell::{Cell, Engine},
    clock::Clock,
    errors::nanoseconds,
    fork,
    handle::OVERHEAD,
};

/// refresh_after, early, stale_while_revalidate and stale_if_error, in seconds.
pub type Fresh = (Option<f64>, f64, f64, f64);

/// Returns the options of freshness: refresh_after, early, and for how long a stale value may be answered.
fn fresh((after, early, while_revalidate, if_error): Fresh) -> PyResult<Freshness> {
    Ok(Freshness {
        refresh_after: after.map(nanoseconds).transpose()?,
        early,
        while_revalidate: nanoseconds(while_revalidate)?,
        if_error: nanoseconds(if_error)?,
    })
}

/// Makes the engine's side of a store: of max_bytes, the policy and the clock; near_ttl, `remember` and freshness;
/// keep_evicted and whether values may be packed.
pub fn cell(
    py: Python<'_>,
    name: String,
    (max_bytes, policy, clock): (u64, String, &Clock),
    (near_ttl, remember, freshness): (f64, f64, Option<Fresh>),
    (keep_evicted, packs): (bool, bool),
) -> PyResult<Arc<Cell>> {
    let options = Options {
        name,
        max_bytes,
        policy,
        clock: clock.0.clone(),
        near_ttl: nanoseconds(near_ttl)?,
        remember: nanoseconds(remember)?,
        freshness: freshness.map(fresh).transpose()?,
        overhead: OVERHEAD,
        keep_evicted,
        packs,
    };
    let engine = Engine::new(options)
        .ok_or_else(|| PyValueError::new_err(format!("policy must be one of {}", Rule::NAMES.join(", "))))?;
    let cell = Arc::new(Cell::new(engine));
    fork::register(py, &cell);
    Ok(cell)
}
