//! The state of a RESP connection between commands, and how it goes on after each.
use std::{borrow::Cow, collections::VecDeque, mem, ops::Range};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{codec, guard::Guard, output::Output};
use crate::{
    call::{Answered, ClientReply, ClientRequest, Incoming, Refusal, nobody},
    events::Events,
    marked,
    runtime::MANY,
};

/// Python is asked for this many keys at a time, so that none of its threads works on one command for long.
const PIECE: usize = 1000;
/// Pieces of one command that are under way together.
const PIECES: usize = 16;
/// Bytes of the values in one reply.
pub const REPLY: usize = 64 << 20;

/// How a connection goes on after a command.
pub enum Next {
    Done,
    /// This reply is the last one.
    Close,
    /// The reply comes later. Nothing after it is sent before.
    Wait(Pending),
}

/// How a command ends. An error is written as a RESP error.
pub type Outcome = Result<Next, Cow<'static, str>>;

/// A reply that comes later, piece by piece, and how it is written.
pub struct Pending {
    pub then: Then,
    asked: VecDeque<oneshot::Receiver<Answered>>,
    unasked: VecDeque<ClientRequest>,
    answered: ClientReply,
}

impl Pending {
    /// Asks Python, in pieces if the request has many keys.
    pub fn begin(events: &Events, mut request: ClientRequest, then: Then) -> Self {
        let mut keys = mem::take(&mut request.keys).into_iter();
        let mut unasked = VecDeque::new();
        loop {
            unasked.push_back(ClientRequest { keys: keys.by_ref().take(PIECE).collect(), ..request.clone() });
            if keys.len() == 0 {
                break;
            }
        }
        let mut pending = Self { then, asked: VecDeque::new(), unasked, answered: ClientReply::default() };
        pending.ask(events);
        pending
    }

    fn ask(&mut self, events: &Events) {
        while self.asked.len() < PIECES {
            let Some(request) = self.unasked.pop_front() else { return };
            let (incoming, answer) = Incoming::client(request);
            events.call(incoming);
            self.asked.push_back(answer);
        }
    }

    /// Returns the answer once all of it is there, or the first refusal. It may be dropped and called again.
    pub async fn answer(&mut self, events: &Events) -> Answered {
        while let Some(first) = self.asked.front_mut() {
            let piece = first.await.unwrap_or_else(|_| Err(nobody()));
            self.asked.pop_front();
            let piece = piece?;
            self.answered.values.extend(piece.values);
            self.answered.number += piece.number;
            self.ask(events);
        }
        Ok(mem::take(&mut self.answered))
    }

    /// Returns whether the reply takes long to write, or what is here to drop.
    pub fn is_long(&self) -> bool {
        let values = if let Then::Values(values) = &self.then { values.len() } else { self.answered.values.len() };
        values > MANY || !self.unasked.is_empty()
    }
}

pub enum Then {
    Value,
    /// The values that memory had (Some(None): absent). The answer fills the gaps.
    Values(Vec<Option<Option<Bytes>>>),
    Ok,
    /// OK, or nil for 0.
    Done,
    Number,
    Seconds,
    /// A number, or below 0 that the script is not known.
    Script,
}

/// A command's arguments, its name included.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    pub input: &'a [u8],
    pub ranges: &'a [Range<usize>],
}

impl<'a> Arguments<'a> {
    pub fn get(&self, n: usize) -> Option<&'a [u8]> {
        self.ranges.get(n).map(|range| &self.input[range.clone()])
    }

    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    pub fn from(&self, n: usize) -> impl Iterator<Item = &'a [u8]> {
        let input = self.input;
        self.ranges.iter().skip(n).map(move |range| &input[range.clone()])
    }
}

/// Returns a client's text, cut to fit into an error.
pub fn shown(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(&name[..name.len().min(64)])
}

/// The commands since MULTI.
#[derive(Default)]
pub struct Batch {
    pub commands: Vec<u8>,
    pub count: usize,
    /// One of them was answered with an error.
    pub refused: bool,
}

pub struct Session {
    pub guard: Guard,
    pub protocol: Protocol,
    pub name: Vec<u8>,
    /// 0: nothing has asked for it.
    pub id: u64,
    /// Between MULTI and EXEC, where nothing is executed.
    pub transaction: Option<Batch>,
    /// Commands that EXEC has released: the connection executes them before it reads on.
    pub next: Vec<u8>,
    /// Room for the packed reply to a node.
    pub packed: Output,
}

impl Session {
    pub fn new(guard: Guard) -> Self {
        Self {
            guard,
            protocol: Protocol(2),
            name: Vec::new(),
            id: 0,
            transaction: None,
            next: Vec::new(),
            packed: Output::default(),
        }
    }
}

/// Version 2 or 3 of the protocol, for replies to clients; nodes speak 2.
#[derive(Clone, Copy)]
pub struct Protocol(pub u8);

impl Protocol {
    pub fn nil(self, out: &mut Output) {
        out.bytes.extend_from_slice(if self.0 == 3 { b"_\r\n" } else { b"$-1\r\n" });
    }

    pub fn map(self, entries: usize, out: &mut Output) {
        if self.0 == 3 {
            codec::line(&mut out.bytes, b'%', entries as i64);
        } else {
            out.array(2 * entries);
        }
    }

    pub fn value(self, value: Option<Bytes>, out: &mut Output) {
        match value.and_then(marked::shown_of) {
            None => self.nil(out),
            Some(value) => out.bulk(&value, || value.clone()),
        }
    }

    pub fn values(self, values: Vec<Option<Bytes>>, out: &mut Output) {
        if values.iter().flatten().map(Bytes::len).sum::<usize>() > REPLY {
            return out.error("ERR these values are over 64 MiB: ask for fewer keys at a time");
        }
        out.array(values.len());
        for value in values {
            self.value(value, out);
        }
    }

    /// Writes a reply that came later.
    pub fn answer(self, then: Then, answered: Answered, out: &mut Output) {
        let ClientReply { values, number } = match answered {
            Ok(reply) => reply,
            Err(refused) => return out.error(&format!("{} {}", code(refused.refusal), refused.text)),
        };
        let mut values = values.into_iter();
        match then {
            Then::Value => self.value(values.next().flatten(), out),
            Then::Values(found) => {
                let all = found.into_iter().map(|value| value.unwrap_or_else(|| values.next().flatten()));
                self.values(all.collect(), out);
            }
            Then::Done if number == 0 => self.nil(out),
            Then::Ok | Then::Done => out.simple("OK"),
            Then::Seconds if number >= 0 => out.number(number.saturating_add(500) / 1000), // as Redis rounds
            Then::Script if number < 0 => out.error("NOSCRIPT No matching script. Please use EVAL."),
            Then::Number | Then::Seconds | Then::Script => out.number(number),
        }
    }
}

fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Overloaded => "OVERLOADED",
        Refusal::UnknownGroup => "NOGROUP",
        Refusal::Closed => "CLOSED",
        Refusal::Load => "LOADERR",
        Refusal::Internal | Refusal::Invalid => "ERR",
    }
}
