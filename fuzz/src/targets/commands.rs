//! The commands of a RESP connection: read from bytes as they arrive, and executed on a store.
use std::sync::Arc;

use bytes::Bytes;
use kamacache_engine::{
    call::{ClientReply, Refusal, Refused},
    events::Events,
    resp::{
        Limits, Parser, ProtocolError,
        guard::Guard,
        output::Output,
        session::{Arguments, Next, Session},
        table,
    },
    security::{Origin, Security},
};

const LIMITS: Limits = Limits { arguments: 1000, argument: 3000, command: 3500 };

type Found = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Returns the commands of an input that arrives in pieces of so many bytes.
fn parse(input: &[u8], piece: usize) -> Found {
    let (mut parser, mut buffer, mut found) = (Parser::new(LIMITS), Vec::new(), Vec::new());
    for piece in input.chunks(piece.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.parse(&buffer) {
                Ok(true) => {
                    assert!(parser.length() <= buffer.len() && parser.length() <= LIMITS.command);
                    found.push(parser.arguments().iter().map(|range| buffer[range.clone()].to_vec()).collect());
                    buffer.drain(..parser.finish());
                }
                Ok(false) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

pub fn run(input: &[u8]) {
    let (found, error) = parse(input, input.len());
    assert!(parse(input, 1) == (found.clone(), error), "a split changes what is read");
    let (groups, events) = (super::groups(), Arc::new(Events::default()));
    let mut session = Session::new(Guard::new(Arc::<Security>::default(), Origin("a fuzzer".into())));
    let mut out = Output::default();
    for (number, command) in found.iter().enumerate() {
        let text = command.concat();
        let mut at = 0;
        let ranges: Vec<_> = command
            .iter()
            .map(|argument| {
                (at, {
                    at += argument.len();
                    at
                })
            })
            .map(|(from, to)| from..to)
            .collect();
        let known = command.first().and_then(|name| table::find(name));
        let arguments = Arguments { input: &text, ranges: &ranges };
        match table::execute(&mut session, known, arguments, &groups, &events, &mut out) {
            Next::Done => {}
            Next::Close => break,
            Next::Wait(pending) => {
                // The node's Python answers in one of these ways.
                let values =
                    command.iter().map(|argument| (argument.len() % 2 == 0).then(|| Bytes::from(argument.clone())));
                let reply = ClientReply { values: values.collect(), number: number as i64 - 1 };
                let refused = Refused { refusal: Refusal::Load, text: String::from_utf8_lossy(&text).into_owned() };
                session.protocol.answer(pending.then, if number % 3 == 2 { Err(refused) } else { Ok(reply) }, &mut out);
            }
        }
        out.clear(); // as the port writes it
    }
}
