//! `Question`: a future of one key in its owner's memory, for a task of the event loop that has a connection there.
//!
//! A future of asyncio has its loop call the task in the next turn, which costs more than the hit itself. The connection
//! (pipeline.rs) continues the tasks whose answers it has read, one after the other, and sends what they ask next at once.
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use kamacache_engine::{
    memory::Memory,
    outcome::JOINED,
    resp::{self, Look, Reply},
};
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{PyBaseException, PyRuntimeError, PyStopIteration},
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyTuple},
};

use crate::{
    answers,
    cell::Cell,
    errors::key as text,
    guarded::call,
    hit::missing,
    pipeline::{Pipeline, Token},
    remote::{Asked, Remote},
    store::Store,
};

/// Invariant: no Python object is made, dropped or called under the lock.
#[pyclass(frozen, module = "kamacache._engine")]
pub struct Question {
    state: Mutex<State>,
    /// asyncio's flag: this object was yielded by `await`.
    blocking: AtomicBool,
    /// True until a get of the store has another outcome than JOINED.
    open: AtomicBool,
    event_loop: Py<PyAny>,
    remote: Py<Remote>,
    store: Py<Store>,
    cell: Arc<Cell>,
    key: Py<PyAny>,
    begun: u64,
}

#[derive(Default)]
struct State {
    end: Option<End>,
    waiter: Option<Waiter>,
}

/// A task's callback, and the context to call it in.
type Waiter = (Py<PyAny>, Py<PyAny>);

pub enum End {
    Found(Option<Py<PyBytes>>, resp::Answer),
    Nothing,
    Failed(Py<PyAny>),
    Cancelled(Option<Py<PyAny>>),
    Taken,
}

impl End {
    pub fn of(py: Python<'_>, address: &str, reply: Reply, input: &[u8]) -> PyResult<Self> {
        Ok(match reply {
            Reply::Found(answer) => {
                Self::Found(answer.value.clone().map(|at| PyBytes::new(py, &input[at]).unbind()), answer)
            }
            reply => {
                answers::one(py, address, &reply, input)?;
                Self::Nothing
            }
        })
    }
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    RUNNING.import(py, "asyncio", "_get_running_loop")?.call0()
}

fn cancelled(py: Python<'_>, message: Option<Py<PyAny>>) -> PyErr {
    static TYPE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = TYPE.import(py, "asyncio", "CancelledError").and_then(|class| match message {
        Some(message) => class.call1((message,)),
        None => class.call0(),
    });
    made.map_or_else(|error| error, PyErr::from_value)
}

impl Question {
    /// Asks the owner of a key over the running loop's connection. None if no peer is to be asked, or there is no
    /// connection yet.
    pub fn ask<'py>(
        remote: &Bound<'py, Remote>,
        store: &Bound<'py, Store>,
        key: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, Self>>> {
        let py = key.py();
        let name = text(key)?;
        let Some(links) = &remote.get().links else { return Ok(None) };
        let Some(peer) = remote.get().owner_of(name).filter(|_| !store.get().has_pending()) else { return Ok(None) };
        let links = links.bind(py);
        if links.is_empty() {
            return Ok(None); // asyncio need not even be there
        }
        let event_loop = running_loop(py)?;
        let Some(links) = links.get_item(&event_loop)? else { return Ok(None) };
        let Some(link) = links.cast::<PyDict>()?.get_item(&peer.name)? else { return Ok(None) };
        let pipeline = link.getattr(intern!(py, "pipeline"))?;
        let Ok(pipeline) = pipeline.cast::<Pipeline>() else { return Ok(None) };
        if !pipeline.borrow().flushing {
            link.call_method0(intern!(py, "prepare"))?;
        }
        let cell = store.get().cell();
        let begun = cell.get().options().clock.now();
        let question = Self {
            state: Mutex::default(),
            blocking: AtomicBool::new(false),
            open: AtomicBool::new(false),
            event_loop: event_loop.unbind(),
            remote: remote.clone().unbind(),
            store: store.clone().unbind(),
            key: key.clone().unbind(),
            cell: cell.clone(),
            begun,
        };
        let question = Bound::new(py, question)?;
        let asked = pipeline.borrow_mut().question(question.clone().unbind(), cell.get().name(), name);
        question.get().open.store(asked, Ordering::Relaxed);
        Ok(asked.then_some(question))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the question, unless it has ended.
    pub fn end(&self, end: End) -> bool {
        let mut state = self.lock();
        let open = state.end.is_none();
        if open {
            state.end = Some(end);
        }
        open
    }

    /// Continues the task that waits. No task may run.
    pub fn resume(this: &Bound<'_, Self>) -> PyResult<()> {
        let waiter = this.get().lock().waiter.take();
        if let Some((callback, context)) = waiter {
            let run = context.bind(this.py()).getattr(intern!(this.py(), "run"))?;
            call(&run, &(callback, this).into_pyobject(this.py())?)?;
        }
        Ok(())
    }

    /// Has the loop continue the task that waits.
    pub fn schedule(this: &Bound<'_, Self>) -> PyResult<()> {
        let waiter = this.get().lock().waiter.take();
        match waiter {
            Some((callback, context)) => this.get().call_soon(this, &callback, &context),
            None => Ok(()),
        }
    }

    fn call_soon(&self, this: &Bound<'_, Self>, callback: &Py<PyAny>, context: &Py<PyAny>) -> PyResult<()> {
        let py = this.py();
        let options = PyDict::new(py);
        options.set_item(intern!(py, "context"), context)?;
        let called =
            self.event_loop.bind(py).call_method(intern!(py, "call_soon"), (callback, this), Some(&options)).map(drop);
        // RuntimeError: the loop is closed, and its tasks with it.
        called.or_else(|error| if error.is_instance_of::<PyRuntimeError>(py) { Ok(()) } else { Err(error) })
    }

    /// Returns what `await` does with an answer: the value, None if it is known to be absent, MISSING if Python has to
    /// go on.
    fn taken<'py>(&self, py: Python<'py>, end: End) -> PyResult<Bound<'py, PyAny>> {
        let (remote, store, key) = (self.remote.get(), self.store.get(), self.key.bind(py));
        let asked = match end {
            End::Found(value, answer) => {
                self.open.store(false, Ordering::Relaxed); // the store counts it, or Python goes on
                let value = value.map(|value| value.into_bound(py));
                remote.found(py, store, text(key)?, value, &answer, self.begun)?
            }
            End::Failed(error) => match remote.owner_of(text(key)?) {
                Some(peer) => remote.silent(py, peer, &PyErr::from_value(error.into_bound(py)))?,
                None => Asked::Nothing, // it is considered dead by now
            },
            End::Cancelled(message) => return Err(cancelled(py, message)),
            End::Nothing => Asked::Nothing,
            End::Taken => return Err(PyRuntimeError::new_err("a question is awaited once")),
        };
        self.open.store(false, Ordering::Relaxed);
        match asked {
            Asked::Found(Some(object)) => Ok(object),
            Asked::Found(None) => Ok(py.None().into_bound(py)),
            Asked::Nothing | Asked::Nobody => Ok(missing(py)?.bind(py).clone()),
        }
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if *self.open.get_mut() {
            self.cell.get().count(JOINED, 1);
        }
    }
}

#[pymethods]
impl Question {
    fn __await__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        let mut state = this.get().lock();
        if state.end.is_none() {
            drop(state);
            this.get().blocking.store(true, Ordering::Relaxed);
            return Ok(this);
        }
        let end = state.end.replace(End::Taken).unwrap_or(End::Taken);
        drop(state);
        let value = this.get().taken(this.py(), end)?;
        // An exception is made of a tuple at once, of another value only if somebody looks.
        let ambiguous = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>();
        Err(if ambiguous {
            PyStopIteration::new_err((value.unbind(),))
        } else {
            PyStopIteration::new_err(value.unbind())
        })
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Relaxed);
    }

    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.event_loop.clone_ref(py)
    }

    #[pyo3(signature = (callback, /, *, context))]
    fn add_done_callback(this: &Bound<'_, Self>, callback: Py<PyAny>, context: Py<PyAny>) -> PyResult<()> {
        let mut state = this.get().lock();
        if state.end.is_some() {
            drop(state);
            return this.get().call_soon(this, &callback, &context);
        }
        if state.waiter.is_some() {
            drop(state);
            return Err(PyRuntimeError::new_err("a question has one task"));
        }
        state.waiter = Some((callback, context));
        Ok(())
    }

    #[pyo3(signature = (msg = None))]
    fn cancel(this: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let open = this.get().end(End::Cancelled(msg));
        if open {
            Self::schedule(this)?;
        }
        Ok(open)
    }

    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let state = self.lock();
        let Some(End::Cancelled(message)) = &state.end else { return Ok(()) };
        let message = message.as_ref().map(|message| message.clone_ref(py));
        drop(state);
        Err(cancelled(py, message))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.remote)?;
        visit.call(&self.store)?;
        let Ok(state) = self.state.try_lock() else { return Ok(()) };
        if let Some((callback, context)) = &state.waiter {
            visit.call(callback)?;
            visit.call(context)?;
        }
        match &state.end {
            Some(End::Failed(object) | End::Cancelled(Some(object))) => visit.call(object),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let mut state = self.lock();
        let cleared = (state.waiter.take(), state.end.replace(End::Taken));
        drop(state);
        drop(cleared);
    }
}

/// Continues the tasks of questions that have ended. After an interrupt, the loop continues the rest.
pub fn resume_all(py: Python<'_>, ended: Vec<Py<Question>>) -> PyResult<()> {
    let mut left = ended.iter();
    let resumed = left.by_ref().try_for_each(|question| Question::resume(question.bind(py)));
    left.try_for_each(|question| Question::schedule(question.bind(py))).and(resumed)
}

impl Pipeline {
    /// Sends a question with the next flush. Returns false if the connection is closed.
    fn question(&mut self, question: Py<Question>, group: &str, key: &str) -> bool {
        self.inner.ask(Token::Question(question), group, [key].into_iter(), Look::Copy).is_ok()
    }
}
