//! Options of a store that Python writes otherwise than the engine.
use kamacache_engine::store::Freshness;
use pyo3::prelude::*;

use crate::errors::nanoseconds;

/// refresh_after, early, stale_while_revalidate and stale_if_error, in seconds.
pub type Fresh = (Option<f64>, f64, f64, f64);

/// Returns the options of freshness: refresh_after, early, and for how long a stale value may be answered.
pub fn fresh((after, early, while_revalidate, if_error): Fresh) -> PyResult<Freshness> {
    Ok(Freshness {
        refresh_after: after.map(nanoseconds).transpose()?,
        early,
        while_revalidate: nanoseconds(while_revalidate)?,
        if_error: nanoseconds(if_error)?,
    })
}
