//! Answers of one connection that are still to come, in the order of their questions.
//!
//! Reads that follow each other are under way together; everything else waits until all before it are answered, and is
//! answered before what comes after it is begun.
use std::{collections::VecDeque, io};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    command::{Command, Together},
    output::Output,
    session::{Pending, Session},
};
use crate::call::nobody;

/// Keys that one connection has under way at once: a single command may have more.
const TOGETHER: usize = 16;
/// Bytes of answers that wait for those before them, from which on nothing more is begun.
const HELD: usize = 1 << 20;
/// Bytes that are made room for at a time.
const CHUNK: usize = 4 * 1024;

struct Question {
    pending: Pending,
    together: Together,
    keys: usize,
    /// What was answered at once after it.
    after: Output,
}

/// Empty for as long as memory has all answers.
#[derive(Default)]
pub struct Queue(VecDeque<Question>);

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a command of so many keys may begin now.
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

    /// Where the answers of commands go that need not wait for theirs.
    pub fn place<'a>(&'a mut self, out: &'a mut Output) -> &'a mut Output {
        self.0.back_mut().map_or(out, |last| &mut last.after)
    }

    /// Waits for the first answer, and takes in what the client sends meanwhile, until `input` has `enough`: its end is
    /// an error. Returns when there is either.
    pub async fn next<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        input: &mut Vec<u8>,
        enough: usize,
        session: &Session<'_>,
        out: &mut Output,
    ) -> io::Result<()> {
        let Some(Question { pending, .. }) = self.0.front_mut() else {
            return Ok(());
        };
        if input.capacity() == input.len() {
            input.reserve(CHUNK);
        }
        let answer = tokio::select! {
            biased;
            answer = &mut pending.answer => answer,
            read = stream.read_buf(input), if input.len() < enough => {
                return if read? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
            }
        };
        if let Some(mut first) = self.0.pop_front() {
            session.answer(first.pending.then, answer.unwrap_or_else(|_| Err(nobody())), out);
            out.append(&mut first.after);
        }
        Ok(())
    }
}
