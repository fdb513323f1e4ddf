//! The task of a session: connects, keeps the leases alive, writes, watches; and on trouble tries the next endpoint.
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    time::sleep,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::{
    Shared,
    connection::{Connection, Options, Trouble, TroubleKind},
    pb,
    state::{Entry, Job, Lease, State},
};

/// The pause after all endpoints have failed, at least; a random part keeps nodes from coming back all at once.
const PAUSE: Duration = Duration::from_millis(500);
/// The pause before a new connection if etcd has just answered.
const BREATH: Duration = Duration::from_millis(20);

/// The life by which the session looks for leases while there are none, in seconds.
const IDLE: u64 = 30;

/// Runs until it is dropped.
pub async fn run(shared: &Shared, options: &Options) {
    let count = options.endpoints.len();
    let chance = RandomState::new();
    let mut at = chance.hash_one(count) as usize % count; // not all nodes begin with the first
    let mut failures = 0_usize;
    loop {
        let mut answered = false;
        let trouble = match Connection::open(options, &options.endpoints[at]).await {
            Ok(connection) => attend(shared, connection, &mut answered).await,
            Err(trouble) => trouble,
        };
        at = (at + 1) % count;
        failures = if answered { 0 } else { failures + 1 };
        let refused = trouble.kind == TroubleKind::Refused;
        if refused || failures >= count {
            shared.update(|state| state.trouble = Some(trouble));
        }
        if refused || failures % count == 0 && !answered {
            sleep(PAUSE.mul_f64(1.0 + (chance.hash_one(at + failures) % 100) as f64 / 100.0)).await;
        } else if answered {
            sleep(BREATH).await;
        }
    }
}

/// Does all work on one connection until it breaks.
async fn attend(shared: &Shared, connection: Connection, answered: &mut bool) -> Trouble {
    shared.update(State::reconnected);
    let mut keeper = Keeper { shared, connection, alive: None, watch: None, beat: Instant::now() };
    loop {
        if let Err(trouble) = keeper.turn(answered).await {
            return trouble;
        }
    }
}

/// Questions on a stream, and its answers.
struct Stream<Q, A> {
    ask: UnboundedSender<Q>,
    answers: Streaming<A>,
}

struct Keeper<'a> {
    shared: &'a Shared,
    connection: Connection,
    alive: Option<Stream<pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse>>,
    watch: Option<Stream<pb::WatchRequest, pb::WatchResponse>>,
    /// The time of the next request to keep the leases alive. On a new connection it is sent at once, because the answer
    /// says whether they still live.
    beat: Instant,
}

impl Keeper<'_> {
    /// Does the pending jobs, then waits for more.
    async fn turn(&mut self, answered: &mut bool) -> Result<(), Trouble> {
        if Instant::now() >= self.beat {
            *answered |= self.keep_alive().await?;
        }
        while let Some(job) = self.job() {
            self.work(job).await?;
            *answered = true;
        }
        if *answered {
            self.shared.update(State::mended);
        }
        tokio::select! {
            () = self.shared.wake.notified() => Ok(()),
            () = sleep(self.beat.saturating_duration_since(Instant::now())) => Ok(()),
            message = next(&mut self.watch) => self.watched(message),
        }
    }

    fn job(&self) -> Option<Job> {
        self.shared.state.lock().next()
    }

    async fn work(&mut self, job: Job) -> Result<(), Trouble> {
        match job {
            Job::Grant(life) => self.grant(life).await,
            Job::Revoke(id) => {
                self.revoke(id).await?;
                self.shared.update(|state| state.lost_lease(id));
                Ok(())
            }
            Job::Drop(id) => {
                self.shared.update(|state| state.dropping(id));
                match self.revoke(id).await {
                    Err(trouble) if trouble.kind == TroubleKind::Refused => Ok(()), // then its time runs out
                    done => done,
                }
            }
            Job::Write(version, entries) => self.write(version, entries).await,
            Job::Read(prefix, question) => self.read(&prefix, question, true).await,
            Job::Check(prefix, question) => self.check(&prefix, question).await,
        }
    }

    async fn grant(&mut self, life: u32) -> Result<(), Trouble> {
        let asked = Instant::now();
        let request = pb::LeaseGrantRequest { ttl: life.into() };
        let granted = self.connection.ask(self.connection.lease().lease_grant(request)).await?;
        self.lives(life, granted.id, granted.ttl, asked);
        Ok(())
    }

    /// Ends a lease. One that etcd does not know has ended.
    async fn revoke(&self, id: i64) -> Result<(), Trouble> {
        let request = pb::LeaseRevokeRequest { id };
        match self.connection.ask(self.connection.lease().lease_revoke(request)).await {
            Err(trouble) if !trouble.no_lease => Err(trouble),
            _ => Ok(()),
        }
    }

    /// Keeps the leases alive. Returns whether there was one.
    async fn keep_alive(&mut self) -> Result<bool, Trouble> {
        let leases = self.shared.state.lock().leases.clone();
        self.beat = Instant::now() + rhythm(&leases);
        for (life, Lease { id, .. }) in &leases {
            let asked = Instant::now();
            match self.ask_alive(*id).await? {
                pb::LeaseKeepAliveResponse { id: of, ttl } if of == *id && ttl > 0 => {
                    self.lives(*life, *id, ttl, asked);
                }
                _ => self.shared.update(|state| state.lost_lease(*id)),
            }
        }
        Ok(!leases.is_empty())
    }

    async fn ask_alive(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Trouble> {
        let request = pb::LeaseKeepAliveRequest { id };
        let answer = match &mut self.alive {
            Some(alive) => {
                let _ = alive.ask.send(request); // an end of the stream shows in the answer
                self.connection.answer(alive.answers.message()).await
            }
            none => {
                // Its headers come with the first answer, so the first question goes ahead.
                let (ask, questions) = unbounded_channel();
                let _ = ask.send(request);
                let mut client = self.connection.lease();
                let answers = client.lease_keep_alive(UnboundedReceiverStream::new(questions));
                let answers = self.connection.ask(answers).await?;
                let alive = none.insert(Stream { ask, answers });
                self.connection.answer(alive.answers.message()).await
            }
        };
        self.connection.message(Ok(answer?))
    }

    fn lives(&mut self, life: u32, id: i64, ttl: i64, asked: Instant) {
        let until = asked + Duration::from_secs(ttl.clamp(0, 3600).unsigned_abs());
        let mut beat = asked;
        self.shared.update(|state| {
            state.leases.insert(life, Lease { id, until });
            beat += rhythm(&state.leases);
        });
        self.beat = self.beat.min(beat);
    }

    async fn write(&mut self, version: u64, entries: Vec<(Entry, i64)>) -> Result<(), Trouble> {
        let mut first = None;
        for (Entry { key, value, .. }, lease) in entries {
            let request = pb::PutRequest { key, value, lease };
            match self.connection.ask(self.connection.kv().put(request)).await {
                Ok(put) => _ = first.get_or_insert(put.header.map_or(0, |header| header.revision)),
                Err(trouble) if trouble.no_lease => {
                    self.shared.update(|state| state.lost_lease(lease));
                    return Ok(());
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let revision = first.unwrap_or(0);
        self.shared.update(|state| state.wrote(version, revision));
        Ok(())
    }

    /// Reads all keys under a prefix and, with `watch`, watches it from there on.
    async fn read(&mut self, prefix: &Bytes, question: u64, watch: bool) -> Result<(), Trouble> {
        let request = pb::RangeRequest { key: prefix.clone(), range_end: end(prefix), ..Default::default() };
        let read = self.connection.ask(self.connection.kv().range(request)).await?;
        let revision = read.header.map_or(0, |header| header.revision);
        if watch {
            self.watch(prefix, revision + 1).await?;
        }
        self.shared.update(|state| state.read(prefix, question, revision, read.kvs));
        Ok(())
    }

    /// Asks only how many keys there are and which changed last: usually the watch has brought just that.
    async fn check(&mut self, prefix: &Bytes, question: u64) -> Result<(), Trouble> {
        let request = pb::RangeRequest {
            key: prefix.clone(),
            range_end: end(prefix),
            limit: 1,
            sort_order: pb::range_request::SortOrder::Descend.into(),
            sort_target: pb::range_request::SortTarget::Mod.into(),
            keys_only: true,
        };
        let answer = self.connection.ask(self.connection.kv().range(request)).await?;
        let same = self.shared.state.lock().compare(prefix, &answer);
        match same {
            None => Err(Trouble::away("etcd has another history than before")),
            Some(false) => self.read(prefix, question, false).await,
            Some(true) => {
                self.shared.update(|state| state.checked(prefix, question));
                Ok(())
            }
        }
    }

    async fn watch(&mut self, prefix: &Bytes, start_revision: i64) -> Result<(), Trouble> {
        let create = pb::WatchCreateRequest { key: prefix.clone(), range_end: end(prefix), start_revision };
        let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
        if let Some(watch) = &self.watch {
            let _ = watch.ask.send(request); // an end of the stream shows in what it brings
            return Ok(());
        }
        let (ask, questions) = unbounded_channel();
        let _ = ask.send(request);
        let mut client = self.connection.watch();
        let answers = client.watch(UnboundedReceiverStream::new(questions));
        let answers = self.connection.ask(answers).await?;
        self.watch = Some(Stream { ask, answers });
        Ok(())
    }

    fn watched(&self, message: Result<Option<pb::WatchResponse>, Status>) -> Result<(), Trouble> {
        let watched = self.connection.message(message)?;
        if watched.canceled {
            // Compacted perhaps: on a new connection everything is read afresh.
            return Err(Trouble::away(format!("etcd ended a watch: {}", watched.cancel_reason)));
        }
        self.shared.update(|state| state.watched(watched.events));
        Ok(())
    }
}

/// Returns the time between two requests to keep leases alive: a third of the shortest life.
fn rhythm(leases: &BTreeMap<u32, Lease>) -> Duration {
    Duration::from_secs(leases.keys().next().map_or(IDLE, |life| u64::from(*life))) / 3
}

async fn next<Q, A>(stream: &mut Option<Stream<Q, A>>) -> Result<Option<A>, Status> {
    match stream {
        Some(stream) => stream.answers.message().await,
        None => std::future::pending().await,
    }
}

/// Returns the end of the range of all keys with this prefix.
fn end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0") // all keys there are
}
