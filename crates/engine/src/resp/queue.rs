//! Replies of one connection that are still to come, in the order of their commands.
//!
//! Reads that follow each other are under way together. Every other command waits for the replies to all before it, and
//! those after it wait for its reply.
use std::{collections::VecDeque, io, mem};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    command::{Command, Together},
    output::Output,
    session::{Pending, Protocol},
};
use crate::{
    events::Events,
    runtime::{aside, discard},
};

/// Keys that one connection has under way at once. A single command may have more.
const TOGETHER: usize = 16;
/// No further command begins while this many bytes of replies wait for those before them.
const HELD: usize = 1 << 20;
/// Bytes of room that are added to the input at a time.
const CHUNK: usize = 4 * 1024;

struct Question {
    pending: Pending,
    together: Together,
    keys: usize,
    /// Replies to later commands that were answered at once.
    after: Output,
}

/// Empty while memory has all answers.
#[derive(Default)]
pub struct Queue(VecDeque<Question>);

impl Drop for Queue {
    fn drop(&mut self) {
        if self.0.iter().any(|question| question.pending.is_long()) {
            discard(mem::take(&mut self.0));
        }
    }
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether a command of this many keys may begin now.
    pub fn admits(&self, command: Option<&Command>, keys: usize) -> bool {
        let Some(last) = self.0.back() else { return true };
        last.together != Together::Alone
            && command.is_some_and(|command| command.together == last.together)
            && self.0.iter().map(|question| question.keys).sum::<usize>() + keys <= TOGETHER
            && self.0.iter().map(|question| question.after.len()).sum::<usize>() < HELD
    }

    pub fn push(&mut self, pending: Pending, command: Option<&Command>, keys: usize) {
        self.0.push_back(Question {
            pending,
            together: command.map_or(Together::Alone, |command| command.together),
            keys,
            after: Output::default(),
        });
    }

    /// Returns where a reply goes that is known at once.
    pub fn place<'a>(&'a mut self, out: &'a mut Output) -> &'a mut Output {
        self.0.back_mut().map_or(out, |last| &mut last.after)
    }

    /// Waits for the first answer or for bytes of the client, which are read until `input` has `enough`. An end of the
    /// stream is an error.
    pub async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        input: &mut Vec<u8>,
        enough: usize,
        protocol: Protocol,
        events: &Events,
        out: &mut Output,
    ) -> io::Result<()> {
        let Some(Question { pending, .. }) = self.0.front_mut() else {
            return Ok(());
        };
        if input.capacity() == input.len() {
            input.reserve(CHUNK);
        }
        let answered = tokio::select! {
            biased;
            answered = pending.answer(events) => answered,
            read = stream.read_buf(input), if input.len() < enough => {
                return if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
            }
        };
        if let Some(Question { pending, mut after, .. }) = self.0.pop_front() {
            if pending.is_long() {
                let mut reply = mem::take(out);
                let write = move || {
                    protocol.answer(pending.then, answered, &mut reply);
                    reply
                };
                *out = aside(write).await?;
            } else {
                protocol.answer(pending.then, answered, out);
            }
            out.append(&mut after);
        }
        Ok(())
    }
}
