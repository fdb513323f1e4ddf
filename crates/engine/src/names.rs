//! Host names, looked up on threads of their own, so that nothing else waits for a resolver.
//!
//! Invariant, under the lock: a name that is `looking` is in `queue` once, or one of the `threads` works on it.
use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{socket::Address, sync::Mutex};

/// This many slow names at a time do not delay others.
const THREADS: usize = 4;
/// A name is looked up again after this time. Until the new answer comes, the old one holds.
const FRESH: Duration = Duration::from_secs(1);

type Found = Option<Result<Vec<Address>, String>>;

struct Name {
    /// The last good answer, or the last error if there was none.
    found: watch::Sender<Found>,
    looked: Option<Instant>,
    looking: bool,
}

#[derive(Default)]
struct Table {
    names: HashMap<String, Name>,
    queue: VecDeque<String>,
    threads: usize,
}

/// The addresses of peers' names, as last looked up.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<Table>>);

impl Names {
    /// Returns every place that an address stands for. The caller limits the time.
    pub async fn find(&self, address: &Address) -> io::Result<Vec<Address>> {
        let text = match address {
            Address::Tcp(text) if text.parse::<SocketAddr>().is_err() => text,
            _ => return Ok(vec![address.clone()]),
        };
        let mut answers = self.look(text);
        match answers.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(places))) => Ok(places.clone()),
            Ok(Some(Err(error))) => Err(io::Error::other(error.clone())),
            _ => Err(io::Error::other("the name was dropped while it was looked up")),
        }
    }

    /// Drops what is known of a name.
    pub fn forget(&self, text: &str) {
        let name = self.0.lock().names.remove(text);
        drop(name);
    }

    /// Starts a lookup if one is due. The receiver holds the answer as soon as there is one.
    fn look(&self, text: &str) -> watch::Receiver<Found> {
        let mut table = self.0.lock();
        let name = table.names.entry(text.to_owned()).or_insert_with(|| Name {
            found: watch::Sender::new(None),
            looked: None,
            looking: false,
        });
        let answers = name.found.subscribe();
        if name.looking || name.looked.is_some_and(|at| at.elapsed() < FRESH) {
            return answers;
        }
        name.looking = true;
        name.found.send_if_modified(|found| found.take_if(|found| found.is_err()).is_some());
        table.queue.push_back(text.to_owned());
        if table.threads < THREADS {
            let names = self.clone();
            match thread::Builder::new().name("kamacache-names".into()).spawn(move || names.work()) {
                Ok(_) => table.threads += 1,
                Err(_) if table.threads > 0 => {} // a running thread will take it
                Err(error) => {
                    table.queue.pop_back();
                    table.heard(text, Err(error));
                }
            }
        }
        answers
    }

    fn work(&self) {
        loop {
            let mut table = self.0.lock();
            let Some(text) = table.queue.pop_front() else {
                table.threads -= 1;
                return;
            };
            drop(table);
            let found = text.to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            self.0.lock().heard(&text, found);
        }
    }
}

impl Table {
    fn heard(&mut self, text: &str, found: io::Result<Vec<SocketAddr>>) {
        let Some(name) = self.names.get_mut(text) else { return };
        (name.looking, name.looked) = (false, Some(Instant::now()));
        let place = |place: &SocketAddr| Address::Tcp(place.to_string());
        let found = match found {
            Ok(places) if places.is_empty() => Err("the name has no address".to_owned()),
            Ok(places) => Ok(places.iter().map(place).collect()),
            Err(error) => Err(error.to_string()),
        };
        let known = matches!(&*name.found.borrow(), Some(Ok(_)));
        if found.is_ok() || !known {
            name.found.send_replace(Some(found));
        }
    }
}
