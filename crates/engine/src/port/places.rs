//! The places for connections. If all are taken, one that has not given the password gives way to the next that comes:
//! the oldest of the address that has most of them, so that no address takes the places of others.
//!
//! Invariant, under the lock: `taken` counts the places whose connections were not told to close. `strangers` has those
//! among them without the password, by origin and age; `ranks` has each origin of strangers once.
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use crate::{security::Origin, sync::Mutex};

type Strangers = BTreeMap<u64, oneshot::Sender<()>>;

#[derive(Default)]
struct Table {
    taken: usize,
    next: u64,
    strangers: HashMap<Arc<str>, Strangers>,
    /// The number of strangers, and the oldest of them.
    ranks: BTreeSet<(usize, Reverse<u64>, Arc<str>)>,
}

impl Table {
    /// Changes what an origin has.
    fn change<T>(&mut self, origin: &Arc<str>, change: impl FnOnce(&mut Strangers) -> T) -> T {
        let of = self.strangers.entry(origin.clone()).or_default();
        let rank = |of: &Strangers| Some((of.len(), Reverse(*of.first_key_value()?.0), origin.clone()));
        let before = rank(of);
        let changed = change(of);
        let after = rank(of);
        if after.is_none() {
            self.strangers.remove(origin);
        }
        if let Some(before) = before {
            self.ranks.remove(&before);
        }
        self.ranks.extend(after);
        changed
    }
}

pub struct Places {
    most: usize,
    table: Mutex<Table>,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, table: Mutex::default() })
    }

    /// Takes a place for a connection, and returns with it what tells it to close. None: all are taken by connections
    /// that have the password, or need none.
    pub fn take(self: &Arc<Self>, origin: Origin, is_open: bool) -> Option<(Arc<Place>, Closed)> {
        let mut table = self.table.lock();
        if table.taken >= self.most {
            let (.., of) = table.ranks.last()?.clone();
            if let Some((_, close)) = table.change(&of, Strangers::pop_first) {
                let _ = close.send(());
                table.taken -= 1;
            }
        }
        table.taken += 1;
        table.next += 1;
        let (id, (close, closed)) = (table.next, oneshot::channel());
        if !is_open {
            table.change(&origin.0, |strangers| strangers.insert(id, close));
        }
        let place = Place { places: self.clone(), id, origin, is_open: is_open.into() };
        Some((Arc::new(place), Closed(Some(closed))))
    }
}

/// Ready once its connection is to close; never, if that has the password.
pub struct Closed(Option<oneshot::Receiver<()>>);

impl Future for Closed {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(told) = &mut self.0 else { return Poll::Pending };
        let told = ready!(Pin::new(told).poll(cx));
        self.0 = None;
        if told.is_ok() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// The place of one connection; free again when this is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    pub origin: Origin,
    is_open: AtomicBool,
}

impl Place {
    /// Returns whether the connection has the password, or needs none.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Relaxed)
    }

    /// Keeps the place: the connection has given the password.
    pub fn open(&self) {
        if !self.is_open() {
            let mut table = self.places.table.lock();
            let stays = table.change(&self.origin.0, |strangers| strangers.remove(&self.id)).is_some();
            self.is_open.store(stays, Relaxed); // else it was told to close
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table.lock();
        let is_open = self.is_open();
        if is_open || table.change(&self.origin.0, |strangers| strangers.remove(&self.id)).is_some() {
            table.taken -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Origin {
        Origin(text.into())
    }

    #[test]
    fn strangers_give_way_to_others() {
        let places = Places::new(4);
        let is_told = |closed: &mut Closed| closed.0.as_mut().is_some_and(|told| told.try_recv().is_ok());
        let (first, mut first_closes) = places.take(from("a"), false).unwrap();
        let (_b, mut b_closes) = places.take(from("b"), false).unwrap();
        let (second, mut second_closes) = places.take(from("a"), false).unwrap();
        let (third, _third_closes) = places.take(from("a"), false).unwrap();
        first.open();
        let (_c, mut c_closes) = places.take(from("c"), false).unwrap();
        assert!(is_told(&mut second_closes)); // the oldest of the two of a
        assert!(!is_told(&mut first_closes) && !is_told(&mut b_closes));
        second.open(); // too late
        drop(second);
        let (_d, _d_closes) = places.take(from("d"), true).unwrap();
        assert!(is_told(&mut b_closes)); // the oldest, as each has one
        third.open();
        let (_e, mut e_closes) = places.take(from("e"), false).unwrap();
        assert!(is_told(&mut c_closes));
        let (_f, _f_closes) = places.take(from("f"), true).unwrap();
        assert!(is_told(&mut e_closes));
        assert!(places.take(from("g"), false).is_none());
        drop((first, third));
        assert!(places.take(from("g"), false).is_some());
        let table = places.table.lock();
        assert_eq!((table.taken, table.strangers.len(), table.ranks.len()), (2, 0, 0));
    }
}
