//! RESP on a connection: its commands are read, executed and answered.
use std::{
    future::Future,
    io::{self, IoSlice},
    mem,
};

use bytes::BufMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::yield_now,
    time::{Instant, sleep, timeout_at},
};

use super::{
    places::Place,
    room::FULL,
    server::{BUFFER, Shared},
    stream::Stream,
};
use crate::{
    resp::{
        Limits, Parser, ProtocolError,
        command::Command,
        guard::Guard,
        output::{OUTPUT, Output},
        queue::Queue,
        session::{Arguments, Next, Session},
        table,
    },
    runtime::{LONG, MANY, Pace, TURN, aside, discard},
};

/// The limits of a connection before the password: enough for AUTH and HELLO.
const STRANGER: Limits = Limits { arguments: 10, argument: 1024, command: 4096 };
/// Bytes of later commands that are read while an answer is due.
const AHEAD: usize = 64 * 1024;

/// Commands, as they arrive and are executed.
struct Work {
    session: Session,
    parser: Parser,
    input: Vec<u8>,
    /// The commands before this position have been executed.
    start: usize,
}

impl Work {
    /// Looks for a whole command in at most that many bytes.
    fn parse(&mut self, window: usize) -> Result<bool, ProtocolError> {
        let rest = &self.input[self.start..];
        self.parser.parse(&rest[..rest.len().min(window)])
    }

    fn arguments(&self) -> Arguments<'_> {
        Arguments { input: &self.input[self.start..], ranges: self.parser.arguments() }
    }

    /// Returns the command that was found, and how many keys it may have.
    fn found(&self) -> (Option<&'static Command>, usize) {
        let arguments = self.arguments();
        (arguments.get(0).and_then(table::find), arguments.count().saturating_sub(1))
    }

    fn is_heavy(&self) -> bool {
        self.parser.arguments().len() > MANY || self.parser.length() > LONG
    }

    /// Executes the command that was found.
    fn execute(&mut self, command: Option<&'static Command>, shared: &Shared, reply: &mut Output) -> Next {
        let arguments = Arguments { input: &self.input[self.start..], ranges: self.parser.arguments() };
        let next = table::execute(&mut self.session, command, arguments, &shared.groups, &shared.events, reply);
        self.start += self.parser.finish();
        let released = mem::take(&mut self.session.next);
        self.input.splice(self.start..self.start, released);
        if self.session.guard.is_open() {
            self.parser.limit(shared.limits);
        }
        next
    }

    /// Does the same on a thread for heavy work.
    async fn execute_aside(
        mut self,
        command: Option<&'static Command>,
        shared: Shared,
        mut reply: Output,
    ) -> io::Result<(Self, Output, Next)> {
        aside(move || {
            let next = self.execute(command, &shared, &mut reply);
            self.tidy();
            (self, reply, next)
        })
        .await
    }

    /// Drops the commands that were executed, and the room that they took.
    fn tidy(&mut self) {
        if self.start == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..self.start);
        }
        self.start = 0;
        if self.input.capacity() > OUTPUT {
            self.input.shrink_to(BUFFER.max(2 * self.input.len()));
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.input.capacity() > OUTPUT {
            discard(mem::take(&mut self.input));
        }
    }
}

/// Runs work that must be done by that time, if there is one.
async fn until<T>(time: Option<Instant>, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match time {
        None => work.await,
        Some(time) => timeout_at(time, work).await?,
    }
}

/// Serves a connection. A client must give the password by `deadline`, as one that does not can block both reading and
/// writing.
pub async fn serve(
    mut stream: Stream,
    input: Vec<u8>,
    deadline: Instant,
    place: &Place,
    shared: &Shared,
) -> io::Result<()> {
    let session = Session::new(Guard::new(shared.security.clone(), place.origin.clone()));
    let parser = Parser::new(if session.guard.is_open() { shared.limits } else { STRANGER });
    let mut work = Work { session, parser, input, start: 0 };
    let (mut out, mut queue, mut pace) = (Output::default(), Queue::default(), Pace::default());
    let (mut window, mut room, mut begun) = (TURN, shared.room.part(), None);
    loop {
        let go_on = loop {
            match work.parse(window) {
                Ok(true) => {
                    let (command, keys) = work.found();
                    let protocol = work.session.protocol;
                    if !queue.admits(command, keys) {
                        write(&mut stream, &mut out).await?;
                        let enough = AHEAD + work.parser.length();
                        work.tidy(); // else the input would grow while more can be read
                        queue.next(&mut stream, &mut work.input, enough, protocol, &shared.events, &mut out).await?;
                        continue;
                    }
                    if command.is_some_and(|command| command.before_password) {
                        let pause = work.session.guard.pause();
                        if !pause.is_zero() {
                            timeout_at(deadline, sleep(pause)).await?;
                        }
                    }
                    let length = work.parser.length();
                    let next = if work.is_heavy() {
                        let reply = mem::take(queue.place(&mut out));
                        let (done, reply, next) = work.execute_aside(command, shared.clone(), reply).await?;
                        (work, *queue.place(&mut out)) = (done, reply);
                        next
                    } else {
                        work.execute(command, shared, queue.place(&mut out))
                    };
                    if work.session.guard.is_open() {
                        place.open();
                    }
                    (window, begun) = (TURN, None);
                    let closes = matches!(next, Next::Close);
                    if let Next::Wait(pending) = next {
                        queue.push(pending, command, keys);
                    }
                    if closes {
                        break false;
                    }
                    if out.len() >= OUTPUT {
                        write(&mut stream, &mut out).await?;
                    }
                    pace.step(length).await;
                }
                Ok(false) if window < work.input.len() - work.start => {
                    window += TURN;
                    yield_now().await;
                }
                Ok(false) => break true,
                Err(error) => {
                    queue.place(&mut out).error(&format!("ERR Protocol error: {}", error.0));
                    break false;
                }
            }
        };
        let protocol = work.session.protocol;
        let limit = (!work.session.guard.is_open()).then_some(deadline); // strangers' answers never come to OUTPUT before this
        until(limit, write(&mut stream, &mut out)).await?;
        if !go_on {
            let enough = work.input.len() + AHEAD;
            while !queue.is_empty() {
                queue.next(&mut stream, &mut work.input, enough, protocol, &shared.events, &mut out).await?;
                write(&mut stream, &mut out).await?;
            }
            return until(limit, stream.shutdown()).await;
        }
        work.tidy();
        let held = work.input.len();
        if work.input.capacity() - held < BUFFER / 4 {
            let more = BUFFER.max(held); // doubles what has arrived, whatever length the client claims
            if !room.hold(held + more).await {
                out.error(FULL);
                write(&mut stream, &mut out).await?;
                return stream.shutdown().await;
            }
            if more > OUTPUT {
                let mut input = mem::take(&mut work.input);
                let grow = move || {
                    input.reserve(more); // may copy it
                    input
                };
                work.input = aside(grow).await?;
            } else {
                work.input.reserve(more);
            }
        } else if held == 0 {
            room.hold(0).await;
        }
        if !queue.is_empty() {
            queue.next(&mut stream, &mut work.input, usize::MAX, protocol, &shared.events, &mut out).await?;
            continue;
        }
        let whole = (held > 0).then(|| *begun.get_or_insert_with(Instant::now) + shared.room.time);
        let due = limit.into_iter().chain(whole).min();
        match until(due, stream.read_buf(&mut (&mut work.input).limit(TURN))).await? {
            0 => return Ok(()),
            read => pace.step(read).await,
        }
    }
}

/// Writes everything, large values without a copy, and lets other connections have their turn.
async fn write(stream: &mut Stream, out: &mut Output) -> io::Result<()> {
    let mut pace = Pace::default();
    if out.large.is_empty() {
        for part in out.bytes.chunks(TURN) {
            stream.write_all(part).await?;
            pace.step(part.len()).await;
        }
    } else {
        let mut slices = Vec::with_capacity(2 * out.large.len() + 1);
        let mut at = 0;
        for (position, value) in &out.large {
            slices.push(IoSlice::new(&out.bytes[at..*position]));
            slices.push(IoSlice::new(value));
            at = *position;
        }
        slices.push(IoSlice::new(&out.bytes[at..]));
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // drops empty ones at the front
        while let Some(first) = left.first() {
            let written = if first.len() > TURN {
                stream.write(&first[..TURN]).await?
            } else {
                let mut size = 0;
                let fits = |slice: &&IoSlice<'_>| {
                    size += slice.len();
                    size <= TURN
                };
                let few = left.iter().take(512).take_while(fits).count(); // under the system's limit of one call
                stream.write_vectored(&left[..few]).await?
            };
            match written {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut left, n),
            }
            pace.step(written).await;
        }
    }
    stream.flush().await?; // TLS holds some back otherwise
    if out.bytes.capacity() > OUTPUT {
        *out = Output::default();
    }
    out.clear();
    Ok(())
}
