//! A batch of hits in the memories of their owners, all asked at once, without a step of Python for each key.
use kamacache_engine::{
    memory::Memory,
    outcome::{ABSENT, PEER_HITS},
    peer::{Failure, many::ask_many},
    resp::{self, Reply, Unpack},
};
use pyo3::{
    exceptions::PyException,
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};

use crate::{
    answers,
    errors::{key as text, seconds},
    failure::peer_error,
    remote::{Peer, Remote},
    store::Store,
};

impl Remote {
    /// Adds the values of keys to `found`, and the errors of those that could not be decoded to `failed`. Returns the
    /// keys that their owners do not have.
    pub fn ask_many<'py>(
        &self,
        py: Python<'py>,
        store: &Store,
        keys: &Bound<'py, PyList>,
        found: &Bound<'py, PyDict>,
        failed: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyList>> {
        let missing = PyList::empty(py);
        let asked: Vec<_> = keys.iter().collect();
        let texts = asked.iter().map(text).collect::<PyResult<Vec<_>>>()?;
        let owners = self.by_owner(&texts);
        let cell = store.cell();
        let engine = cell.get();
        let pool = match self.transport.get().pool() {
            Ok(pool) if !owners.is_empty() => pool,
            _ => return Ok(keys.clone()),
        };
        let begun = engine.options().clock.now();
        let question = |(peer, places): &(&Peer, Vec<usize>)| {
            let mut request = Vec::new();
            resp::ask(&mut request, engine.name(), places.iter().map(|place| texts[*place]), resp::Look::Copy);
            (peer.address.clone(), request)
        };
        let questions: Vec<_> = owners.iter().map(question).collect();
        let outcomes = py.detach(|| ask_many(pool, &questions, self.timeout));
        // By place: the answer, and which connection holds its value.
        let mut answers: Vec<Option<(usize, resp::Answer)>> = vec![None; asked.len()];
        let mut connections = Vec::with_capacity(owners.len());
        for ((peer, places), outcome) in owners.iter().zip(outcomes) {
            let answered = outcome.map_err(|failure| peer_error(py, &failure)).and_then(|(reply, connection)| {
                let unpacked = unpacked(py, &peer.address, &reply, connection.input(), places.len())?;
                for (&place, answer) in places.iter().zip(unpacked) {
                    answers[place] = answer.map(|answer| (connections.len(), answer));
                }
                connections.push((peer, reply, connection));
                Ok(())
            });
            if let Err(error) = answered {
                self.silent(py, peer, &error)?;
            }
        }
        for ((key, name), answer) in asked.iter().zip(texts).zip(answers) {
            let Some((at, answer)) = answer else {
                missing.append(key)?;
                continue;
            };
            let (_, reply, connection) = &connections[at];
            let input = match reply {
                Reply::Packed(packed) => &connection.input()[packed.clone()],
                _ => connection.input(),
            };
            if engine.is_older(name, answer.version, answer.value.clone().map(|at| &input[at])) {
                missing.append(key)?;
                continue;
            }
            let value = answer.value.clone().map(|at| PyBytes::new(py, &input[at]));
            let object = match value.clone() {
                None => Ok(None),
                Some(bytes) => match store.readable(py, name, bytes) {
                    Ok(None) => {
                        missing.append(key)?;
                        continue;
                    }
                    object => object,
                },
            };
            engine.count(if value.is_none() { ABSENT } else { PEER_HITS }, 1);
            self.keep(py, name, value.as_ref(), &answer, seconds(begun))?;
            match object {
                Ok(None) => {}
                Ok(Some(object)) => found.set_item(key, object)?,
                Err(error) if error.is_instance_of::<PyException>(py) => failed.set_item(key, error)?,
                Err(error) => return Err(error),
            }
        }
        for (peer, _, connection) in connections {
            pool.put(&peer.address, connection);
        }
        Ok(missing)
    }

    /// Returns the places of the keys by owner, without those that this node owns or whose owner is considered dead.
    fn by_owner(&self, keys: &[&str]) -> Vec<(&Peer, Vec<usize>)> {
        let mut owners: Vec<(&Peer, Vec<usize>)> = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            let Some(owner) = self.owner_of(key) else { continue };
            match owners.iter_mut().find(|(peer, _)| std::ptr::eq(*peer, owner)) {
                Some((_, places)) => places.push(place),
                None => owners.push((owner, vec![place])),
            }
        }
        owners
    }
}

/// Returns the answers to a request for so many keys.
fn unpacked(
    py: Python<'_>,
    address: &str,
    reply: &Reply,
    input: &[u8],
    keys: usize,
) -> PyResult<Vec<Option<resp::Answer>>> {
    match reply {
        Reply::Found(answer) if keys == 1 => Ok(vec![Some(answer.clone())]),
        Reply::Packed(packed) => {
            let mut unpack = Unpack::new(&input[packed.clone()]);
            let answers = (0..keys).map(|_| unpack.answer()).collect::<Result<Vec<_>, _>>();
            let whole = answers.ok().filter(|_| unpack.is_done());
            whole.ok_or_else(|| peer_error(py, &Failure::nonsense(address, "another number of answers")))
        }
        _ => answers::many(py, address, keys, reply, input).map(|_| vec![None; keys]),
    }
}
