//! `Transport`: a node's port and its ways to other nodes.
use std::{mem, sync::Arc, time::Duration};

use kamacache_engine::{
    events::Event,
    peer::{
        Failure,
        blocking::Pool,
        contact::{fetch_missed, ping_many},
        many::ask_many,
        write::send_all,
    },
    resp, transport,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyList, PyString, PyTuple},
};

use crate::{
    answers,
    contacts::Contacts,
    errors::duration,
    failure::{self, exception, os_error, peer_error},
    incoming::Incoming,
    messages,
    metrics::Scrape,
    pipeline::Pipeline,
    security::Security,
    tokens::Tokens,
};

/// One port for all protocols, and the ways to other members' ports. It owns one thread, which runs no Python.
#[pyclass(frozen, weakref, module = "kamacache._engine")]
pub struct Transport {
    inner: Arc<transport::Transport>,
    tokens: Tokens,
}

impl Drop for Transport {
    fn drop(&mut self) {
        if self.inner.is_forked() {
            mem::forget(self.inner.clone()); // its thread and locks are the parent's
        }
    }
}

/// Address, kind of question, counts of the buckets, their sum in seconds.
type PeerTimes = (String, &'static str, Vec<u64>, f64);

impl Transport {
    /// Returns the connections for reads on the caller's own thread.
    pub fn pool(&self) -> Result<&Pool, Failure> {
        self.inner.pool()
    }

    fn begin(
        &self,
        py: Python<'_>,
        token: Py<PyAny>,
        begin: impl FnOnce(u64) -> Result<(), Failure> + Send,
    ) -> PyResult<()> {
        let id = self.inner.id();
        if let Err(token) = self.tokens.put(id, token) {
            drop(token);
            return Err(peer_error(py, &Failure::ended()));
        }
        py.detach(|| begin(id)).map_err(|failure| {
            let token = self.tokens.take(id);
            drop(token);
            peer_error(py, &failure)
        })
    }

    /// Returns the end of a call or connect, for next_event. None: its token has left already.
    fn ended<'py>(&self, py: Python<'py>, id: u64, result: Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(token) = self.tokens.take(id) else { return Ok(None) };
        Ok(Some((token, result).into_pyobject(py)?.into_any()))
    }
}

#[pymethods]
impl Transport {
    #[classattr]
    const HOT: u8 = resp::HOT;
    #[classattr]
    const ABSENT: u8 = resp::ABSENT;

    #[new]
    #[pyo3(signature = (*, max_message, max_value = None, patience = 5.0, security = None, contacts = None))]
    fn new(
        max_message: usize,
        max_value: Option<usize>,
        patience: f64,
        security: Option<&Security>,
        contacts: Option<&Contacts>,
    ) -> PyResult<Self> {
        let security = security.map(|security| security.inner.clone()).unwrap_or_default();
        let groups = contacts.map(|contacts| contacts.groups.clone()).unwrap_or_default();
        let (max_value, patience) = (max_value.unwrap_or(max_message), duration(patience)?);
        let inner = transport::Transport::new(max_message, max_value, patience, security, groups);
        Ok(Self { inner: Arc::new(inner), tokens: Tokens::new() })
    }

    #[pyo3(signature = (address, /, within = 5.0, descriptor = None))]
    fn listen(&self, py: Python<'_>, address: &str, within: f64, descriptor: Option<i32>) -> PyResult<String> {
        let within = duration(within)?;
        if self.inner.is_forked() {
            return Err(peer_error(py, &Failure::forked()));
        }
        let bound = py.detach(|| self.inner.listen(address, within, descriptor.map(crate::descriptor::given)));
        bound.map_err(|error| os_error(&error, address))
    }

    #[pyo3(signature = (store, /))]
    fn serve(&self, py: Python<'_>, store: &crate::store::Store) {
        let memory = store.memory();
        py.detach(|| self.inner.serve(memory));
    }

    #[pyo3(signature = (group, /))]
    fn hide(&self, py: Python<'_>, group: &str) {
        py.detach(|| self.inner.hide(group));
    }

    #[pyo3(signature = (address, group, key, look, timeout, /))]
    fn peek<'py>(
        &self,
        py: Python<'py>,
        address: &str,
        group: &str,
        key: &str,
        look: u8,
        timeout: f64,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let (timeout, look) = (duration(timeout)?, answers::look(look, 1)?);
        let asked = py.detach(|| {
            let pool = self.inner.pool()?;
            let mut request = Vec::with_capacity(64 + group.len() + key.len());
            resp::ask(&mut request, group, [key].into_iter(), look);
            pool.ask(address, &request, timeout)
        });
        let (reply, connection) = asked.map_err(|failure| peer_error(py, &failure))?;
        let answer = answers::one(py, address, &reply, connection.input());
        if let Ok(pool) = self.inner.pool() {
            pool.put(address, connection);
        }
        answer
    }

    #[pyo3(signature = (asks, group, look, timeout, /))]
    fn peek_many<'py>(
        &self,
        py: Python<'py>,
        asks: Vec<(String, Vec<Bound<'py, PyString>>)>,
        group: &str,
        look: u8,
        timeout: f64,
    ) -> PyResult<Bound<'py, PyList>> {
        let timeout = duration(timeout)?;
        let counts: Vec<_> = asks.iter().map(|(_, keys)| keys.len()).collect();
        let mut questions = Vec::with_capacity(asks.len());
        for (address, keys) in asks {
            if keys.is_empty() {
                return Err(PyValueError::new_err("no keys to ask for"));
            }
            let mut request = Vec::new();
            let keys = keys.iter().map(|key| key.to_str()).collect::<PyResult<Vec<_>>>()?;
            resp::ask(&mut request, group, keys.iter().copied(), answers::look(look, keys.len())?);
            questions.push((address, request));
        }
        let pool = self.inner.pool().map_err(|failure| peer_error(py, &failure))?;
        let outcomes = py.detach(|| ask_many(pool, &questions, timeout));
        failure::check_open(py, &outcomes)?;
        let results = PyList::empty(py);
        for ((outcome, (address, _)), keys) in outcomes.into_iter().zip(&questions).zip(counts) {
            let answers = outcome.map_err(|failure| peer_error(py, &failure)).and_then(|(reply, connection)| {
                let answers = answers::many(py, address, keys, &reply, connection.input());
                pool.put(address, connection);
                answers
            });
            match answers {
                Ok(answers) => results.append(answers)?,
                Err(error) => results.append(error.into_value(py))?,
            }
        }
        Ok(results)
    }

    #[pyo3(signature = (asks, timeout, /))]
    fn send_all<'py>(
        &self,
        py: Python<'py>,
        asks: Vec<(String, Bound<'py, PyAny>)>,
        timeout: f64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let timeout = duration(timeout)?;
        let asks = asks.into_iter().map(|(address, message)| Ok((address, messages::request(&message)?)));
        let asks = asks.collect::<PyResult<Vec<_>>>()?;
        let pool = self.inner.pool().map_err(|failure| peer_error(py, &failure))?;
        let replies = py.detach(|| send_all(pool, asks, timeout));
        failure::objects(py, replies, |reply| messages::from_reply(py, &reply))
    }

    #[pyo3(signature = (address, timeout, /))]
    fn ping(&self, py: Python<'_>, address: &str, timeout: f64) -> PyResult<()> {
        let timeout = duration(timeout)?;
        let pool = self.inner.pool().map_err(|failure| peer_error(py, &failure))?;
        let answered = py.detach(|| ping_many(pool, "", vec![address.to_owned()], timeout));
        answered.into_iter().try_for_each(|answer| answer.map(drop)).map_err(|failure| peer_error(py, &failure))
    }

    #[pyo3(signature = (me, addresses, timeout, /))]
    fn ping_many<'py>(
        &self,
        py: Python<'py>,
        me: &str,
        addresses: Vec<String>,
        timeout: f64,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let timeout = duration(timeout)?;
        let pool = self.inner.pool().map_err(|failure| peer_error(py, &failure))?;
        let answered = py.detach(|| ping_many(pool, me, addresses, timeout));
        failure::objects(py, answered, |contact| messages::contact(py, &contact))
    }

    #[pyo3(signature = (address, store, since, timeout, /))]
    fn fetch_missed(
        &self,
        py: Python<'_>,
        address: &str,
        store: &crate::store::Store,
        since: u64,
        timeout: f64,
    ) -> PyResult<bool> {
        let (timeout, memory) = (duration(timeout)?, store.memory());
        let fetched = py.detach(|| fetch_missed(self.inner.pool()?, address, &*memory, since, timeout));
        fetched.map_err(|failure| peer_error(py, &failure))
    }

    #[pyo3(signature = (token, address, message, timeout, /))]
    fn call(
        &self,
        py: Python<'_>,
        token: Py<PyAny>,
        address: &str,
        message: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        let request = messages::request(message)?;
        let timeout = timeout.map(duration).transpose()?;
        self.begin(py, token, |id| self.inner.call(id, address, request, timeout))
    }

    #[pyo3(signature = (token, /))]
    fn cancel(&self, token: &Bound<'_, PyAny>) {
        self.tokens.id(token).into_iter().for_each(|id| self.inner.cancel(id));
    }

    #[pyo3(signature = (token, address, /))]
    fn connect(&self, py: Python<'_>, token: Py<PyAny>, address: &str) -> PyResult<()> {
        self.begin(py, token, |id| self.inner.connect(id, address))
    }

    #[pyo3(signature = (names, /))]
    fn answer_to(&self, py: Python<'_>, names: Vec<String>) -> PyResult<()> {
        let status = self.inner.status().map_err(|failure| peer_error(py, &failure))?;
        status.answer_to(names);
        Ok(())
    }

    #[pyo3(signature = (ready, /))]
    fn ready(&self, py: Python<'_>, ready: bool) -> PyResult<()> {
        let status = self.inner.status().map_err(|failure| peer_error(py, &failure))?;
        if ready {
            status.joined();
        } else {
            status.leaving();
        }
        Ok(())
    }

    fn peer_times(&self, py: Python<'_>) -> PyResult<Vec<PeerTimes>> {
        let times = py.detach(|| self.inner.times()).map_err(|failure| peer_error(py, &failure))?;
        let seconds = |(address, kind, counts, sum): (_, _, _, Duration)| (address, kind, counts, sum.as_secs_f64());
        Ok(times.into_iter().map(seconds).collect())
    }

    #[pyo3(signature = (timeout, /))]
    fn next_event<'py>(&self, py: Python<'py>, timeout: f64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let timeout = duration(timeout)?;
        let event = py.detach(|| self.inner.next_event(timeout)).map_err(|failure| peer_error(py, &failure))?;
        match event {
            None => Ok(None),
            Some(Event::Stood) => Ok(Some(PyString::new(py, "stood").into_any())),
            Some(Event::Call(call)) => Ok(Some(Bound::new(py, Incoming::new(call))?.into_any())),
            Some(Event::Scrape(scrape)) => Ok(Some(Bound::new(py, Scrape::new(scrape))?.into_any())),
            Some(Event::Done(id, result)) => {
                let result = match result {
                    Ok(reply) => messages::from_reply(py, &reply)?,
                    Err(failure) => exception(py, &failure),
                };
                self.ended(py, id, result)
            }
            Some(Event::Connected(id, result)) => {
                let result = match result {
                    Ok((address, link)) => Bound::new(py, Pipeline::new(&self.inner, address, link))?.into_any(),
                    Err(failure) => exception(py, &failure),
                };
                self.ended(py, id, result)
            }
        }
    }

    #[pyo3(signature = (address, /, *, finishing = false))]
    fn forget(&self, py: Python<'_>, address: &str, finishing: bool) -> PyResult<()> {
        py.detach(|| self.inner.forget(address, finishing)).map_err(|failure| peer_error(py, &failure))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.inner.close());
        if self.inner.is_forked() {
            return Ok(()); // the tokens are the parent's
        }
        self.tokens.close(py)
    }
}
