//! A write of a thread without a step of Python: the owners order it, the listeners are notified, and all is well.
//!
//! Python does the rest: it goes on with what comes back from here.
use std::time::Duration;

use kamacache_engine::{
    call::{Reply, Request},
    memory::{Memory, Write},
    orders,
    peer::{Failure, blocking::Pool, write::send_all},
    proto::peer as pb,
    store::Gone,
};
use pyo3::{prelude::*, pybacked::PyBackedBytes, types::PyBytes};

use crate::{
    cell::Engine,
    errors::{key as text, nanoseconds},
    messages,
    store::Store,
    value::{drain, release},
};

/// Key, value (None: a delete), ttl, and the versions of a WriteItem.
pub type Item<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyBytes>>, Option<f64>, u128, u128);

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

/// The items of one owner by their places.
struct Batch {
    address: String,
    places: Vec<usize>,
}

pub struct Writer<'a> {
    pub pool: &'a Pool,
    pub store: &'a Store,
    pub engine: &'a Engine,
    pub timeout: Duration,
}

impl Writer<'_> {
    /// Writes, where `owner` says who orders a key: the address, None for this node.
    pub fn write<'o>(
        &self,
        py: Python<'_>,
        items: &[Item<'_>],
        listeners: &[String],
        owner: impl Fn(&str) -> Option<&'o str>,
    ) -> PyResult<Written> {
        let mut written = Written { versions: vec![None; items.len()], ..Written::default() };
        let (mut batches, mut requests): (Vec<Batch>, Vec<pb::WriteRequest>) = Default::default();
        let clock = orders::bytes(self.engine.merge(0).unwrap_or(0));
        for (place, item) in items.iter().enumerate() {
            let Some(address) = owner(text(&item.0)?) else {
                written.versions[place] = self.order(py, item)?;
                continue;
            };
            let at = batches.iter().position(|batch| batch.address == address).unwrap_or_else(|| {
                batches.push(Batch { address: address.to_owned(), places: Vec::new() });
                let group = self.engine.name().to_owned();
                requests.push(pb::WriteRequest { group, clock: clock.clone(), ..pb::WriteRequest::default() });
                batches.len() - 1
            });
            batches[at].places.push(place);
            let (key, value, ttl, above, ordered) = item.clone();
            let value = value.map(PyBackedBytes::from);
            requests[at].items.push(messages::write_item((text(&key)?.to_owned(), value, ttl, above, ordered)));
        }
        let keys = items.iter().map(|(key, ..)| text(key)).collect::<PyResult<Vec<_>>>()?;
        let count = items.len();
        py.detach(|| {
            let asks = batches.iter().zip(requests).map(|(to, message)| (to.address.clone(), Request::Write(message)));
            let replies = send_all(self.pool, asks.collect(), self.timeout);
            let mut knows = None;
            for (batch, reply) in batches.iter().zip(replies) {
                match reply {
                    Ok(Reply::Write(reply)) if reply.versions.len() == batch.places.len() => {
                        for (&place, version) in batch.places.iter().zip(&reply.versions) {
                            written.versions[place] = orders::version(version).ok();
                        }
                        self.engine.merge(orders::version(&reply.clock).unwrap_or(0));
                        knows = (batch.places.len() == count).then_some(&batch.address);
                    }
                    Ok(_) => {} // refused
                    Err(failure) => written.failed.push((batch.address.clone(), failure)),
                }
            }
            let ordered = keys.iter().zip(&written.versions).enumerate();
            let ordered: Vec<_> = ordered
                .filter_map(|(place, (key, version))| Some((place, *key, version.filter(|version| *version > 0)?)))
                .collect();
            for (_, key, version) in &ordered {
                self.engine.tell(key, *version);
            }
            written.greater = vec![0; count];
            // Not those that know, nor those that did not answer: all waiting for them shares one `timeout`.
            let failed: Vec<_> = written.failed.iter().map(|(address, _)| address.clone()).collect();
            let told = listeners.iter().filter(|address| Some(*address) != knows && !failed.contains(address));
            self.tell(&ordered, told, &mut written);
        });
        drain(py);
        Ok(written)
    }

    fn order(&self, py: Python<'_>, (key, value, ttl, above, ordered): &Item<'_>) -> PyResult<Option<u128>> {
        let ttl = ttl.map(nanoseconds).transpose()?;
        let write = Write { key: text(key)?, value: None, ttl, above: *above, ordered: *ordered };
        let mut gone = Gone::default();
        let version = self.engine.ordered(&write, value.as_ref().map(|bytes| self.store.value(bytes)), &mut gone);
        release(py, gone);
        Ok(version)
    }

    fn tell<'l>(
        &self,
        ordered: &[(usize, &str, u128)],
        listeners: impl Iterator<Item = &'l String>,
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
        for (address, reply) in addresses.into_iter().zip(send_all(self.pool, asks, self.timeout)) {
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
