//! Sockets that a forked child must not keep. It closes those that it inherited, and never touches the objects that
//! have them: their threads and locks do not exist there.
//!
//! Invariant: a descriptor is in `SOCKETS` exactly while it is open, as every holder of that lock sees it. So sockets
//! are opened and closed under the lock. The lock is held across fork() itself (`before_fork`, `after_fork`), not from
//! Python's own hooks, between which a thread may wait for the lock while it holds the interpreter. It is a std mutex,
//! which keeps no table of waiters outside of itself that a vanished thread could have left locked.
use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use crate::fork::generation;

static SOCKETS: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, BTreeSet<RawFd>>>> = const { RefCell::new(None) };
}

fn sockets() -> MutexGuard<'static, BTreeSet<RawFd>> {
    SOCKETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps sockets from opening and closing until `after_fork`. Runs just before fork(), on the thread that forks.
pub fn before_fork() {
    FORKING.with_borrow_mut(|held| {
        if held.is_none() {
            *held = Some(sockets());
        }
    });
}

/// Lets sockets open and close again. Runs just after fork(), on the same thread in both processes.
pub fn after_fork() {
    FORKING.take();
}

/// Returns the inherited sockets in a child. The caller closes each of them, as the objects that had them never will.
pub fn inherited() -> BTreeSet<RawFd> {
    std::mem::take(&mut *sockets())
}

/// A socket that forked children close.
pub struct Tracked<T: AsRawFd> {
    socket: Option<T>, // None only inside drop and try_map
    generation: u64,
}

impl<T: AsRawFd> Tracked<T> {
    /// Opens a socket; `open` must not block.
    pub fn open(open: impl FnOnce() -> io::Result<T>) -> io::Result<Self> {
        let mut all = sockets();
        let socket = open()?;
        all.insert(socket.as_raw_fd());
        Ok(Self { socket: Some(socket), generation: generation() })
    }

    /// Opens a socket as `open` does, if the attempt is ready.
    pub fn poll_open(open: impl FnOnce() -> Poll<io::Result<T>>) -> Poll<io::Result<Self>> {
        let mut pending = false;
        let opened = Self::open(|| match open() {
            Poll::Ready(opened) => opened,
            Poll::Pending => {
                pending = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        });
        if pending { Poll::Pending } else { Poll::Ready(opened) }
    }

    /// Wraps the same descriptor in another type, and closes it if that fails.
    pub fn try_map<U: AsRawFd>(mut self, map: impl FnOnce(T) -> io::Result<U>) -> io::Result<Tracked<U>> {
        let mut all = sockets();
        let socket = self.socket.take().expect("present until dropped");
        let fd = socket.as_raw_fd();
        match map(socket) {
            Ok(socket) => Ok(Tracked { socket: Some(socket), generation: self.generation }),
            Err(error) => {
                all.remove(&fd);
                Err(error)
            }
        }
    }
}

impl<T: AsRawFd> Drop for Tracked<T> {
    fn drop(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        if self.generation == generation() {
            let mut all = sockets();
            all.remove(&socket.as_raw_fd());
            drop(socket);
        } else {
            std::mem::forget(socket); // closed when the child began; the number may be another's by now
        }
    }
}

/// Further descriptors that forked children close while this lives. Drop it before they are closed here.
pub struct Also {
    descriptors: Vec<RawFd>,
    generation: u64,
}

impl Also {
    /// Opens something that has these descriptors; `open` must not block.
    pub fn open<T>(open: impl FnOnce() -> io::Result<(T, Vec<RawFd>)>) -> io::Result<(T, Self)> {
        let mut all = sockets();
        let (opened, descriptors) = open()?;
        all.extend(&descriptors);
        let generation = generation();
        Ok((opened, Self { descriptors, generation }))
    }
}

impl Drop for Also {
    fn drop(&mut self) {
        if self.generation == generation() {
            let mut all = sockets();
            all.retain(|fd| !self.descriptors.contains(fd));
        }
    }
}

impl<T: AsRawFd> Deref for Tracked<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.socket.as_ref().expect("present until dropped")
    }
}

impl<T: AsRawFd> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.socket.as_mut().expect("present until dropped")
    }
}

impl<T: AsRawFd> AsRawFd for Tracked<T> {
    fn as_raw_fd(&self) -> RawFd {
        (**self).as_raw_fd()
    }
}

impl<T: AsRawFd + AsFd> AsFd for Tracked<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (**self).as_fd()
    }
}
