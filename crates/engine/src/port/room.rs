//! The memory of requests that have not arrived in full, and their time: one budget for the whole port, taken as bytes
//! arrive.
use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The answer to a request for which there is no room.
pub const FULL: &str = "OVERLOADED requests that have not arrived in full fill the memory that this node has for them";

/// Requests up to this size are not counted; connections, whose number is limited, have as much anyway.
const UNIT: usize = 64 * 1024;
/// A request waits this long for the room of others.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub struct Room {
    units: Arc<Semaphore>,
    /// A request must arrive in full within this time.
    pub time: Duration,
}

impl Room {
    pub fn new(bytes: usize, time: Duration) -> Self {
        Self { units: Arc::new(Semaphore::new(bytes / UNIT)), time }
    }

    /// Returns a part of the room, empty at first. It is given back when it is dropped.
    pub fn part(&self) -> Part {
        Part { units: self.units.clone(), held: None }
    }
}

pub struct Part {
    units: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Part {
    /// Makes the part as large as this. Returns false if there is no room for it, and none becomes free in time.
    pub async fn hold(&mut self, bytes: usize) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let wanted = bytes / UNIT;
        if wanted <= held {
            self.held = self.held.take().and_then(|mut held| held.split(wanted)); // the rest is dropped
            return true;
        }
        let more = u32::try_from(wanted - held).unwrap_or(u32::MAX);
        match timeout(PATIENCE, self.units.clone().acquire_many_owned(more)).await {
            Ok(Ok(more)) => match &mut self.held {
                Some(held) => held.merge(more),
                None => self.held = Some(more),
            },
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_wait_for_each_others_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let room = Room::new(10 * UNIT, PATIENCE);
            let (mut one, mut other) = (room.part(), room.part());
            assert!(one.hold(UNIT - 1).await); // not counted
            assert!(other.hold(10 * UNIT).await);
            assert!(other.hold(4 * UNIT).await);
            assert!(one.hold(6 * UNIT).await);
            let waits = timeout(Duration::from_millis(10), other.hold(5 * UNIT)).await;
            assert!(waits.is_err());
            let (freed, held) = tokio::join!(one.hold(0), other.hold(10 * UNIT));
            assert!(freed && held);
            drop(other);
            assert!(one.hold(10 * UNIT).await);
            assert_eq!(room.units.available_permits(), 0);
        });
    }
}
