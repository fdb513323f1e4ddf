//! A write of a thread without a step of Python: the owners order it, the listeners are notified, and all is well.
//!
//! Python does the rest: it goes on with what comes back from here.
use std::time::{Duration, Instant};

use kamacache_engine::{
    call::{Reply, Request},
    memory::{Memory, Write},
    orders,
    peer::{Failure, blocking::Pool, write::send_all},
    proto::peer as pb,
};
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};

use crate::{
    cell::Engine,
    errors::{key as text, nanoseconds},
    handle::drain,
    messages,
    store::Store,
};

/// The time for a notice when the write's time is over.
const LAST: Duration = Duration::from_millis(250);

/// Key, value (None: a delete), ttl, the versions and the terms of a WriteItem.
pub type Item<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyBytes>>, Option<f64>, u128, u128, Option<messages::Terms>);

/// The result of a write.
#[derive(Default)]
pub struct Written {
    /// By item; 0: it was superseded. None: no owner ordered it.
    pub versions: Vec<Option<u128>>,
    /// By item: the greatest version that a listener knew, 0 for none.
    pub greater: Vec<u128>,
    /// The addresses that did not answer.
    pub failed: Vec<(String, Failure)>,
}

/// The items of one owner by their places, and the request for them.
struct Batch {
    address: String,
    places: Vec<usize>,
    request: pb::WriteRequest,
}

pub struct Writer<'a> {
    pub pool: &'a Pool,
    pub store: &'a Store,
    pub engine: &'a Engine,
    pub timeout: Duration,
}

impl Writer<'_> {
    /// Writes. `owner` returns the address of the candidate that orders a key, "" for this node; None if all candidates
    /// are considered dead.
    pub fn write<'o>(
        &self,
        py: Python<'_>,
        items: &[Item<'_>],
        listeners: &[String],
        owner: impl Fn(&str) -> Option<&'o str>,
    ) -> PyResult<Written> {
        let begun = Instant::now();
        let mut written = Written { versions: vec![None; items.len()], ..Written::default() };
        let batches = self.order_here(py, items, owner, &mut written)?;
        let keys = items.iter().map(|(key, ..)| text(key)).collect::<PyResult<Vec<_>>>()?;
        py.detach(|| {
            let knows = self.order_there(batches, &mut written);
            let ordered = keys.iter().zip(&written.versions).enumerate();
            let ordered: Vec<_> = ordered
                .filter_map(|(place, (key, version))| Some((place, *key, version.filter(|version| *version > 0)?)))
                .collect();
            for (_, key, version) in &ordered {
                self.engine.tell(key, *version);
            }
            written.greater = vec![0; keys.len()];
            // Not the one that knows, nor those that did not answer: all waiting for them shares one `timeout`.
            let failed: Vec<_> = written.failed.iter().map(|(address, _)| address.clone()).collect();
            let told = listeners.iter().filter(|address| knows.as_ref() != Some(*address) && !failed.contains(address));
            let left = self.timeout.saturating_sub(begun.elapsed()).max(LAST);
            self.tell(&ordered, told, left, &mut written);
        });
        drain(py);
        Ok(written)
    }

    /// Orders the items that this node owns, and returns those of the others.
    fn order_here<'o>(
        &self,
        py: Python<'_>,
        items: &[Item<'_>],
        owner: impl Fn(&str) -> Option<&'o str>,
        written: &mut Written,
    ) -> PyResult<Vec<Batch>> {
        let mut batches: Vec<Batch> = Vec::new();
        let clock = orders::bytes(self.engine.merge(0).unwrap_or(0));
        for (place, item) in items.iter().enumerate() {
            let Some(address) = owner(text(&item.0)?) else { continue };
            if address.is_empty() {
                written.versions[place] = order(py, self.store, item)?;
                continue;
            }
            let at = batches.iter().position(|batch| batch.address == address).unwrap_or_else(|| {
                let (group, clock) = (self.engine.name().to_owned(), clock.clone());
                let until_ms = self.engine.until_ms(self.timeout);
                let request = pb::WriteRequest { group, clock, until_ms, ..pb::WriteRequest::default() };
                batches.push(Batch { address: address.to_owned(), places: Vec::new(), request });
                batches.len() - 1
            });
            batches[at].places.push(place);
            let (key, value, ttl, above, ordered, terms) = item.clone();
            let item = (text(&key)?.to_owned(), value.map(PyBackedBytes::from), ttl, above, ordered, terms);
            batches[at].request.items.push(messages::write_item(item));
        }
        Ok(batches)
    }

    /// Has the owners order their items. Returns the address of one that ordered all there are.
    fn order_there(&self, batches: Vec<Batch>, written: &mut Written) -> Option<String> {
        let (mut asks, mut places) = (Vec::new(), Vec::new());
        for batch in batches {
            asks.push((batch.address.clone(), Request::Write(batch.request)));
            places.push((batch.address, batch.places));
        }
        let mut knows = None;
        for ((address, places), reply) in places.into_iter().zip(send_all(self.pool, asks, self.timeout)) {
            match reply {
                Ok(Reply::Write(reply)) if reply.versions.len() == places.len() => {
                    for (&place, version) in places.iter().zip(&reply.versions) {
                        written.versions[place] = orders::version(version).ok();
                    }
                    self.engine.merge(orders::version(&reply.clock).unwrap_or(0));
                    knows = (places.len() == written.versions.len()).then_some(address);
                }
                Ok(_) => {} // refused
                Err(failure) => written.failed.push((address, failure)),
            }
        }
        knows
    }

    fn tell<'l>(
        &self,
        ordered: &[(usize, &str, u128)],
        listeners: impl Iterator<Item = &'l String>,
        within: Duration,
        written: &mut Written,
    ) {
        if ordered.is_empty() {
            return;
        }
        let known = |(_, key, version): &(usize, &str, u128)| {
            let version = orders::bytes(*version);
            pb::Known { key: (*key).to_owned(), version }
        };
        let message = pb::TellRequest {
            group: self.engine.name().to_owned(),
            writes: ordered.iter().map(known).collect(),
            clock: orders::bytes(self.engine.merge(0).unwrap_or(0)),
            ..pb::TellRequest::default()
        };
        let asks: Vec<_> = listeners.map(|address| (address.clone(), Request::Tell(message.clone()))).collect();
        let addresses: Vec<_> = asks.iter().map(|(address, _)| address.clone()).collect();
        for (address, reply) in addresses.into_iter().zip(send_all(self.pool, asks, within)) {
            match reply {
                Ok(Reply::Tell(reply)) => {
                    self.engine.merge(orders::version(&reply.clock).unwrap_or(0));
                    for ((place, ..), greater) in ordered.iter().zip(&reply.greater) {
                        let greater = orders::version(greater).unwrap_or(0);
                        written.greater[*place] = written.greater[*place].max(greater);
                    }
                }
                Ok(_) => written.failed.push((address.clone(), Failure::nonsense(&address, "of another kind"))),
                Err(failure) => written.failed.push((address, failure)),
            }
        }
    }
}

/// Orders an item in the memory of its owner. None: the group is closed.
pub fn order(py: Python<'_>, store: &Store, item: &Item<'_>) -> PyResult<Option<u128>> {
    let (key, value, ttl, above, ordered, _) = item;
    let ttl = ttl.map(nanoseconds).transpose()?;
    let write = Write { key: text(key)?, value: None, ttl, above: *above, ordered: *ordered };
    let value = value.as_ref().map(|bytes| store.value(bytes));
    Ok(store.change(py, |engine, gone| engine.ordered(&write, value, gone)))
}
