//! `Pipeline`: a connection to a peer's memory for one event loop.
use std::{mem, time::Duration};

use kamacache_engine::{
    peer::{Failure, link::Link, reactor},
    transport,
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyList, PyString},
};

use crate::{
    answers,
    failure::peer_error,
    question::{End, Question, resume_all},
};

/// One non-blocking connection to a member's memory, driven by an event loop; used by that loop alone.
#[pyclass(module = "kamacache._engine")]
pub struct Pipeline {
    pub inner: reactor::Pipeline<Token>,
    address: String,
    /// Questions whose answers were received, and whose tasks are to be continued.
    answered: Vec<Py<Question>>,
    /// What the peer said instead of an answer: the connection is not good any more.
    refused: Option<Py<PyAny>>,
    /// True if what is asked now will be sent without a step of the caller's.
    #[pyo3(get, set)]
    pub flushing: bool,
}

/// Names a request for its caller.
pub enum Token {
    Object(Py<PyAny>),
    Question(Py<Question>),
}

/// The end of a receive: a failure of the connection, or an exception of Python.
enum Ended {
    Failure(Failure),
    Error(PyErr),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<PyErr> for Ended {
    fn from(error: PyErr) -> Self {
        Self::Error(error)
    }
}

impl Pipeline {
    pub fn new(transport: &transport::Transport, address: String, link: Link) -> Self {
        let inner = transport.pipeline(address.clone(), link);
        Self { inner, address, answered: Vec::new(), refused: None, flushing: false }
    }
}

#[pymethods]
impl Pipeline {
    fn fileno(&mut self, py: Python<'_>) -> PyResult<i32> {
        self.inner.fd().map_err(|failure| peer_error(py, &failure))
    }

    #[pyo3(signature = (token, group, keys, look, /))]
    fn ask(
        &mut self,
        py: Python<'_>,
        token: Py<PyAny>,
        group: &str,
        keys: &Bound<'_, PyList>,
        look: u8,
    ) -> PyResult<()> {
        let keys: Vec<Bound<'_, PyString>> = keys.extract()?;
        if keys.is_empty() {
            return Err(PyValueError::new_err("no keys to ask for"));
        }
        let keys = keys.iter().map(|key| key.to_str()).collect::<PyResult<Vec<_>>>()?;
        let asked = self.inner.ask(Token::Object(token), group, keys.iter().copied(), answers::look(look, keys.len())?);
        asked.map_err(|failure| peer_error(py, &failure))
    }

    fn flush(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.flushing = false;
        self.inner.flush().map_err(|failure| peer_error(py, &failure))
    }

    fn receive<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let found = PyList::empty(py);
        let (address, answered, refused) = (&self.address, &mut self.answered, &mut self.refused);
        let mut refuse = |error: PyErr| {
            let error = error.into_value(py).into_any();
            *refused = Some(error.clone_ref(py));
            error
        };
        let received = self.inner.receive(|token, keys, reply, input| {
            match token {
                Token::Question(question) => {
                    let end = End::of(py, address, reply, input).unwrap_or_else(|error| End::Failed(refuse(error)));
                    if question.get().end(end) {
                        answered.push(question);
                    }
                }
                Token::Object(token) => match answers::many(py, address, keys, &reply, input) {
                    Ok(answers) => found.append((token, answers))?,
                    Err(error) => found.append((token, refuse(error)))?,
                },
            }
            Ok(())
        });
        match received {
            Ok(()) => Ok(found),
            Err(Ended::Failure(failure)) => Err(peer_error(py, &failure)),
            Err(Ended::Error(error)) => Err(error),
        }
    }

    #[pyo3(signature = (silence, whole, /))]
    fn patience(&self, silence: f64, whole: f64) -> Option<f64> {
        let (silence, whole) = (Duration::from_secs_f64(silence), Duration::from_secs_f64(whole));
        self.inner.patience(silence, whole).map(|left| left.as_secs_f64())
    }

    fn resume(this: &Bound<'_, Self>) -> PyResult<bool> {
        let mut pipeline = this.borrow_mut();
        pipeline.flushing = true;
        let answered = mem::take(&mut pipeline.answered);
        drop(pipeline); // the tasks ask again
        let resumed = resume_all(this.py(), answered);
        let mut pipeline = this.borrow_mut();
        let flushed = pipeline.flush(this.py());
        let refused = pipeline.refused.take();
        drop(pipeline);
        resumed.and(refused.map_or(flushed, |error| Err(PyErr::from_value(error.into_bound(this.py())))))
    }

    #[pyo3(signature = (error = None, /))]
    fn close(this: &Bound<'_, Self>, error: Option<Py<PyAny>>) -> PyResult<Vec<Py<PyAny>>> {
        let py = this.py();
        let mut pipeline = this.borrow_mut();
        let mut answered = mem::take(&mut pipeline.answered);
        let unanswered: Vec<_> = pipeline.inner.close().collect();
        drop(pipeline);
        let mut objects = Vec::new();
        for token in unanswered {
            match token {
                Token::Object(object) => objects.push(object),
                Token::Question(question) => {
                    let error = error.as_ref().map(|error| error.clone_ref(py));
                    if question.get().end(error.map_or(End::Nothing, End::Failed)) {
                        answered.push(question);
                    }
                }
            }
        }
        answered.iter().try_for_each(|question| Question::schedule(question.bind(py)))?;
        Ok(objects)
    }
}
