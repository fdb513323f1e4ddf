//! Waits until a directory changes or a lock becomes free, as no system call waits for both.
use std::{
    fs,
    os::{fd::BorrowedFd, unix::fs::MetadataExt},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::sync::{Condvar, Mutex};

/// A second change of a directory within this time may leave it the same times.
const TICK: i64 = 100; // milliseconds

/// The facts that a change of a directory changes: device, inode, mode, owner, two times in seconds and nanoseconds.
type Seen = (u64, u64, u32, u32, [i64; 4]);

#[derive(Default)]
struct State {
    path: PathBuf,
    /// The directory before it was read; None: it may change again without a sign.
    seen: Option<Seen>,
    /// The locks of other processes. None: the directory is being read.
    locks: Option<Vec<BorrowedFd<'static>>>,
    until: Option<Instant>,
    ended: bool,
}

#[derive(Default)]
pub struct Watch {
    state: Mutex<State>,
    ending: Condvar,
}

impl Watch {
    /// Begins to read a directory: no lock that was watched before is touched after this.
    pub fn begin(&self, path: PathBuf) {
        let mut state = self.state.lock();
        state.locks = None;
        state.seen = seen(&path);
        state.path = path;
    }

    /// Watches the directory that was read, and these locks. After `again` it counts as changed.
    pub fn watch(&self, locks: Vec<BorrowedFd<'static>>, again: Duration) {
        let mut state = self.state.lock();
        state.locks = Some(locks);
        state.until = Instant::now().checked_add(again);
    }

    /// Returns whether anything differs from what was read.
    pub fn differs(&self) -> bool {
        self.state.lock().differs()
    }

    /// Looks that often, and returns true as soon as anything differs, false when this was ended.
    pub fn wait(&self, every: Duration) -> bool {
        let mut state = self.state.lock();
        loop {
            let (next, mut notified) = (Instant::now() + every, true);
            while notified && !state.ended {
                (state, notified) = self.ending.wait_until(state, next);
            }
            if state.ended || state.differs() {
                return !state.ended;
            }
        }
    }

    pub fn end(&self) {
        self.state.lock().ended = true;
        self.ending.notify_all();
    }
}

impl State {
    fn differs(&self) -> bool {
        let Some(locks) = &self.locks else {
            return true;
        };
        self.seen.is_none()
            || self.seen != seen(&self.path)
            || self.until.is_some_and(|until| Instant::now() > until)
            || locks.iter().any(is_free)
    }
}

fn seen(path: &PathBuf) -> Option<Seen> {
    let now = fs::symlink_metadata(path).ok()?;
    let changed = now.ctime() * 1000 + now.ctime_nsec() / 1_000_000;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    let times = [now.mtime(), now.mtime_nsec(), now.ctime(), now.ctime_nsec()];
    ((time - changed).abs() > TICK).then(|| (now.dev(), now.ino(), now.mode(), now.uid(), times))
}

/// Returns whether no process holds the lock, and leaves it free.
fn is_free(lock: &BorrowedFd<'_>) -> bool {
    fcntl_lock(lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        && fcntl_lock(lock, FlockOperation::Unlock).is_ok()
}
