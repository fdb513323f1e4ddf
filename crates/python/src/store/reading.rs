//! What reads return: the object of a value that is here, else what the owner or the loader has.
use std::{ptr::NonNull, sync::atomic::Ordering};

use kamacache_engine::{
    marked,
    outcome::OUTCOMES,
    store::{Gone, Kind, Lookup},
};
use pyo3::{
    exceptions::PyException,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PySequence, PyString},
};

use super::Store;
use crate::{
    errors::{key, seconds},
    guarded::call,
    hit::{self, Reader, Taken, exact, take},
    remote::Asked,
    value::{Value, release},
};

/// A value (None: absent), its version, remaining seconds and kind.
pub type Found<'py> = (Option<Bound<'py, PyBytes>>, u128, Option<f64>, u8);
/// Writes, the next part, and whether something was forgotten.
pub type Missing = (Vec<(String, u128)>, Option<usize>, bool);
/// What was found, by key; the keys that are not here; and the errors of those that could not be decoded.
pub type Many<'py> = (Bound<'py, PyDict>, Bound<'py, PyList>, Bound<'py, PyDict>);

impl Reader for Store {
    #[inline]
    unsafe fn lookup(&self, key: &str) -> Lookup<Taken> {
        self.engine().lookup(key, take)
    }

    fn with_store<T>(&self, _py: Python<'_>, run: impl FnOnce(&Store) -> T) -> T {
        run(self)
    }
}

impl Store {
    pub fn add_methods(py: Python<'_>) -> PyResult<()> {
        let class = py.get_type::<Self>();
        hit::add_get::<Self>(&class, c"get($self, key, /)\n--\n\n")?;
        hit::add_lookup::<Self>(&class, c"lookup", c"lookup($self, key, /)\n--\n\n")
    }

    pub fn missed_writes(&self, py: Python<'_>, since: u64, part: usize) -> Missing {
        let missed = py.detach(|| self.cell.share().missed(since, part));
        (missed.writes, missed.next, missed.forgotten)
    }

    /// Returns the object that a get returns for a value.
    pub fn object<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        if let Some(ready) = value.ready() {
            // SAFETY: `value` keeps the object alive.
            return Ok(unsafe { Bound::from_borrowed_ptr(py, NonNull::as_ptr(ready)) });
        }
        self.decoded(py, value.bytes(py))
    }

    /// Returns the object that a get of this key returns, or None if the bytes cannot be read, which is then no hit. A
    /// value that was received without Python becomes a bytes object now, which later hits find.
    pub fn hit<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        mut value: Value,
        kind: Kind,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if value.is_received() {
            let mine = self.value(&value.bytes(py));
            let mut gone = Gone::default();
            self.engine().replace(key, mine.clone(), |held| held.is(&value), &mut gone);
            gone.0.push(std::mem::replace(&mut value, mine));
            release(py, gone);
        }
        let object = self.shown(py, key, value)?;
        if object.is_none() {
            self.engine().uncount(key, kind);
        }
        Ok(object)
    }

    /// Returns the object of what is in memory, if it can be read; counts nothing.
    pub(super) fn peeked<'py>(&self, py: Python<'py>, key: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        match self.engine().peek(key) {
            Lookup::Hit(value) => self.shown(py, key, value),
            _ => Ok(None),
        }
    }

    /// Returns the object of a handle that the caller owns, and releases it; None if its bytes cannot be read.
    pub fn shown<'py>(&self, py: Python<'py>, key: &str, value: Value) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = self.shared(py, key, &value);
        let object = self.unless_unread(py, key, || value.bytes(py), object);
        value.release(py);
        object
    }

    /// Returns the object of bytes that are not kept here; None if they cannot be read.
    pub fn readable<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        bytes: Bound<'py, PyBytes>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let object = self.decoded(py, bytes.clone());
        self.unless_unread(py, key, || bytes, object)
    }

    /// Tells on_unread of bytes that could not be decoded, and returns None for them.
    fn unless_unread<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        bytes: impl FnOnce() -> Bound<'py, PyBytes>,
        object: PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let error = match object {
            Err(error) if error.is_instance_of::<PyException>(py) => error,
            other => return other.map(Some),
        };
        let Some(on_unread) = self.on_unread.get(py) else { return Err(error) };
        call(on_unread.bind(py), &(key, bytes(), error.into_value(py)).into_pyobject(py)?)?;
        Ok(None)
    }

    /// Drops an expired entry, then asks the owner's memory if no Python is needed for that, then on_miss.
    pub fn miss(&self, py: Python<'_>, asked: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.expire(py, asked)?;
        let mut peeked = false;
        if let Some(remote) = self.remote.get(py).filter(|_| !self.has_pending()) {
            match remote.get().ask(py, self, key(asked)?)? {
                Asked::Found(Some(object)) => return Ok(object.unbind()),
                Asked::Found(None) => return Ok(py.None()),
                Asked::Nothing => peeked = true,
                Asked::Nobody => {}
            }
        }
        let Some(on_miss) = self.on_miss.get(py) else {
            return Ok(py.None());
        };
        // The loader sees the key under which its value is kept, whatever a subclass of str says of itself.
        let asked = match asked.cast_exact::<PyString>() {
            Ok(exact) => exact.clone(),
            Err(_) => PyString::new(py, key(asked)?),
        };
        let arguments = if peeked { (asked, true).into_pyobject(py)? } else { (asked,).into_pyobject(py)? };
        call(on_miss.bind(py), &arguments)
    }

    /// Returns whether writes of this node are under way, for which a get may have to wait.
    pub fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Relaxed)
    }

    /// Returns the object that a get returns for a value that is not kept here.
    pub fn decoded<'py>(&self, py: Python<'py>, bytes: Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(object) = super::values::marked_object(py, bytes.as_bytes())? {
            return Ok(object);
        }
        let tagged = marked::is_tagged(bytes.as_bytes());
        let bytes = if tagged { PyBytes::new(py, marked::untagged(bytes.as_bytes())) } else { bytes };
        if self.is_object(bytes.as_bytes()) {
            return Ok(bytes.into_any());
        }
        match self.decode.get(py) {
            Some(decode) => Ok(call(decode.bind(py), &(bytes,).into_pyobject(py)?)?.into_bound(py)),
            // None was given, or the collector has taken it, and with it everything that could ask.
            None => Ok(PyBytes::new(py, marked::shown(bytes.as_bytes()).unwrap_or_default()).into_any()),
        }
    }

    pub fn expire(&self, py: Python<'_>, asked: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut gone = Gone::default();
        self.engine().expire(key(asked)?, &mut gone);
        release(py, gone);
        Ok(())
    }

    /// Returns what is here of a key; counts nothing.
    pub fn found<'py>(&self, py: Python<'py>, key: &str) -> Option<Found<'py>> {
        let (value, version, remaining, kind) = self.engine().find(key)?;
        Some((bytes_of(py, value), version, remaining.map(seconds), kind as u8))
    }

    /// Returns what is here of a key whose hits need a decision by now, with what may be done with it in the place of
    /// its kind.
    pub(super) fn aged_now<'py>(&self, py: Python<'py>, key: &str, claim: bool) -> Option<Found<'py>> {
        let aged = self.engine().aged(key, claim)?;
        Some((bytes_of(py, aged.value), aged.version, aged.remaining.map(seconds), aged.usable as u8))
    }

    /// Returns what is here of a key, stale or not, and its age in seconds.
    pub(super) fn held_now<'py>(&self, py: Python<'py>, key: &str) -> Option<(Found<'py>, f64)> {
        let (value, version, remaining, kind, age) = self.engine().held(key)?;
        Some(((bytes_of(py, value), version, remaining.map(seconds), kind as u8), seconds(age)))
    }

    pub(super) fn read_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PySequence>) -> PyResult<Many<'py>> {
        // Every key is checked before the first is counted, and counts once.
        let keys = keys.to_tuple()?;
        let asked: Vec<_> = keys.iter_borrowed().collect();
        let engine = self.engine();
        let mut texts = Vec::with_capacity(asked.len());
        for one in &asked {
            let text = exact(one).map_or_else(|| key(one), Ok)?;
            texts.push((engine.hash(text), text));
        }
        if repeats(&texts) {
            let once = PyDict::new(py);
            asked.iter().try_for_each(|one| once.set_item(one, ()))?;
            if once.len() < asked.len() {
                return self.read_many(py, once.keys().as_sequence());
            }
        }
        let mut objects = vec![None; texts.len()];
        let mut handles = Vec::new(); // of values that a codec has to decode, each in its key's place
        let answers = engine.lookup_many(&texts, |place, value, kind| match take(value, kind) {
            // SAFETY: the reference is ours.
            Taken::Object(object) => objects[place] = Some(unsafe { Bound::from_owned_ptr(py, object.as_ptr()) }),
            Taken::Handle(value, kind) => {
                handles.resize_with(texts.len(), || None); // once
                handles[place] = Some((value, kind));
            }
        });
        let found = PyDict::new(py);
        let missing = PyList::empty(py);
        let failed = PyDict::new(py);
        for (place, (answer, object)) in answers.into_iter().zip(objects).enumerate() {
            let asked = asked[place];
            let object = match answer {
                Lookup::Hit(()) => match (object, handles.get_mut(place).and_then(Option::take)) {
                    (None, Some(value)) => self.hit(py, texts[place].1, value.0, value.1),
                    (object, _) => Ok(object),
                },
                Lookup::Absent => continue,
                Lookup::Miss => {
                    missing.append(asked)?;
                    continue;
                }
                Lookup::Past => {
                    self.expire(py, &asked)?;
                    missing.append(asked)?;
                    continue;
                }
            };
            match object {
                Ok(Some(object)) => found.set_item(asked, object)?,
                Ok(None) => missing.append(asked)?,
                Err(error) if error.is_instance_of::<PyException>(py) => failed.set_item(asked, error)?,
                Err(error) => return Err(error),
            }
        }
        Ok((found, missing, failed))
    }

    /// Returns all numbers of the store by name.
    pub(super) fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.engine().stats();
        let dict = PyDict::new(py);
        for (name, n) in OUTCOMES.iter().zip(stats.outcomes) {
            dict.set_item(PyString::intern(py, name), n)?;
        }
        let others = [
            ("evictions", stats.evictions),
            ("expirations", stats.expirations),
            ("entries", stats.entries),
            ("bytes", stats.bytes),
            ("near_bytes", stats.near_bytes),
            ("max_bytes", self.engine().budget()),
            ("remembered", stats.remembered),
            ("remembered_bytes", stats.remembered_bytes),
            ("unremembered", stats.unremembered),
        ];
        for (name, n) in others {
            dict.set_item(name, n)?;
        }
        Ok(dict)
    }
}

/// Returns the bytes of a handle that the caller owns, and releases it.
fn bytes_of(py: Python<'_>, value: Option<Value>) -> Option<Bound<'_, PyBytes>> {
    let bytes = value.as_ref().map(|value| value.bytes(py));
    value.into_iter().for_each(|value| value.release(py));
    bytes
}

/// Returns whether a hash is there twice: probably of the same key.
fn repeats(hashes: &[(u64, &str)]) -> bool {
    let mut seen = vec![0; (hashes.len() * 2).next_power_of_two()];
    let mask = seen.len() - 1;
    hashes.iter().any(|(hash, _)| {
        let mut at = *hash as usize & mask;
        let rest = (hash >> 32) as u32 | 1;
        loop {
            match seen[at] {
                0 => break,
                other if other == rest => return true,
                _ => at = (at + 1) & mask,
            }
        }
        seen[at] = rest;
        false
    })
}
