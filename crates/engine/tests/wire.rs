//! The RESP parsers under any bytes and any split, and a transport serving a memory that is not Python's.
use std::{
    collections::{HashMap, HashSet},
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use kamacache_engine::{
    call::{self, ClientReply, Incoming, Refusal, Request},
    events::Event,
    memory::{self, Found, Held, Looked, Memory, Value},
    peer::{contact::ping_many, many::ask_many},
    proto::peer as pb,
    resp::{self, Limits, Parser, ProtocolError, Reply, Unpack, table},
    security::{Password, Security},
    transport::Transport,
};
use proptest::prelude::*;
use prost::Message;

const LIMITS: Limits = Limits { arguments: 1000, argument: 10_000, command: 100_000 };

type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Returns all commands in the input, fed in pieces that end at `cuts`.
fn commands(input: &[u8], cuts: &[usize]) -> Commands {
    let mut parser = Parser::new(LIMITS);
    let (mut buffer, mut found, mut fed) = (Vec::new(), Vec::new(), 0);
    let mut ends: Vec<_> = cuts.iter().map(|cut| cut % (input.len() + 1)).chain([input.len()]).collect();
    ends.sort_unstable();
    for end in ends {
        buffer.extend_from_slice(&input[fed..end]);
        fed = end;
        loop {
            match parser.parse(&buffer) {
                Ok(true) => {
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

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::line(&mut out, b'*', command.len() as i64);
    command.iter().for_each(|argument| resp::put(&mut out, argument));
    out
}

const PIECES: &[&[u8]] = &[
    b"*1\r\n",
    b"*2\r\n",
    b"*4\r\n",
    b"*-1\r\n",
    b"$3\r\nabc\r\n",
    b"$0\r\n\r\n",
    b"$-1\r\n",
    b"$16\r\n",
    b":-1\r\n",
    b"0123456789abcdef\r\n",
    b":1\r\n",
    b"+OK\r\n",
    b"-ERR\r\n",
    b"\r\n",
    b"$",
    b"*",
    b"99999999",
    b"-",
    b"\r",
];

/// Bytes that look like RESP often enough to get far into the parsers.
fn resp_like() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(PIECES).prop_map(<[u8]>::to_vec);
    let piece = prop_oneof![4 => known, 1 => prop::collection::vec(any::<u8>(), 0..20)];
    prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(any::<usize>(), 0..8)
}

type Packed = Option<(Option<Vec<u8>>, u128, i64)>;

fn packed_answers() -> impl Strategy<Value = Vec<Packed>> {
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..30));
    prop::collection::vec(prop::option::of((value, any::<u128>(), -1..i64::MAX)), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases * 2))] // $PROPTEST_CASES, else 256

    #[test]
    fn splits_change_nothing(input in resp_like(), cuts in cuts()) {
        let every: Vec<_> = (0..input.len()).collect();
        let whole = commands(&input, &[]);
        prop_assert_eq!(&commands(&input, &cuts), &whole);
        prop_assert_eq!(&commands(&input, &every), &whole);
    }

    #[test]
    fn what_is_encoded_is_parsed(
        sent in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..6), 0..6),
        cuts in cuts(),
    ) {
        let input: Vec<u8> = sent.iter().flat_map(|command| encode(command)).collect();
        prop_assert_eq!(commands(&input, &cuts), (sent, None));
    }

    #[test]
    fn replies_need_all_their_bytes(input in resp_like()) {
        if let Ok(Ok((reply, used))) = resp::reply(&input, 1000) {
            prop_assert!(used <= input.len());
            for cut in 0..used {
                match resp::reply(&input[..cut], 1000) {
                    Ok(Err(need)) => prop_assert!(need > cut && need <= used),
                    other => prop_assert!(false, "{} of {} bytes gave {:?}", cut, used, other),
                }
            }
            prop_assert_eq!(resp::reply(&input[..used], 1000), Ok(Ok((reply, used))));
        }
    }

    #[test]
    fn packed_nonsense_stays_in_bounds(packed in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut unpack = Unpack::new(&packed);
        while !unpack.is_done() {
            match unpack.answer() {
                Ok(Some(answer)) => prop_assert!(answer.value.is_none_or(|value| value.end <= packed.len())),
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }

    #[test]
    fn packed_answers_come_back(answers in packed_answers()) {
        let mut packed = Vec::new();
        for answer in &answers {
            match answer {
                None => resp::pack_nothing(&mut packed),
                Some((value, version, remaining)) => {
                    let flags = if value.is_none() { resp::ABSENT } else { 0 };
                    resp::pack(&mut packed, *version, *remaining, flags, value.as_ref().map(Vec::len));
                    packed.extend_from_slice(value.as_deref().unwrap_or_default());
                }
            }
        }
        let mut unpack = Unpack::new(&packed);
        for answer in answers {
            let found = unpack.answer().unwrap();
            let found = found.map(|a| (a.value.map(|range| packed[range].to_vec()), a.version, a.remaining_ms));
            prop_assert_eq!(found, answer);
        }
        prop_assert!(unpack.is_done());
    }
}

/// A group's memory without a store.
struct Fixed(HashMap<&'static str, bytes::Bytes>);

#[derive(Clone)]
struct Shared(bytes::Bytes);

impl Value for Shared {
    fn received(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The part of a memory that hands nothing over.
macro_rules! hands_nothing_over {
    () => {
        fn slots(&self) -> Vec<Vec<u32>> {
            Vec::new()
        }

        fn stray(&self, _: usize, _: u32) -> Option<(String, memory::Moved)> {
            None
        }

        fn takes_over(&self) -> bool {
            false
        }

        fn take_over(&self, _: &str, _: memory::Moved, _: u64, _: u64) -> memory::Took {
            memory::Took::NotMine
        }

        fn used(&self, _: &str) {}

        fn hand_off(&self, _: &str, _: u128) {}

        fn entry(&self, _: &str) -> Option<memory::Moved> {
            None
        }
    };
}

impl Memory for Fixed {
    hands_nothing_over!();

    fn name(&self) -> &str {
        "fixed"
    }

    fn read(&self, key: &str, _former: bool, visit: &mut dyn FnMut(Option<Found<'_>>)) {
        let value = self.0.get(key).cloned().map(Shared);
        let held = value.as_ref().map(|value| value as &dyn Held);
        visit(held.map(|held| Found { value: Some(held), version: 7, remaining_ms: Some(1500), hot: true }));
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(Looked<'_>)) {
        let value = self.0.get(key).cloned().map(Shared);
        visit(value.as_ref().map(|value| Some(value as &dyn Held)));
    }

    fn is_candidate(&self, _: &str) -> bool {
        false
    }

    fn order(&self, _: memory::Write<'_>) -> Option<u128> {
        None
    }

    fn is_owner(&self, _: &str) -> bool {
        false
    }

    fn decide(&self, _: memory::Write<'_>, _: &memory::Terms) -> memory::Decided<bytes::Bytes> {
        unreachable!("it owns nothing")
    }

    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    fn tell(&self, _: &str, version: u128) -> u128 {
        version
    }

    fn floor(&self) -> u128 {
        0
    }

    fn raise(&self, floor: u128) -> u128 {
        floor
    }

    fn missed(&self, _: u64, _: usize) -> Option<memory::Missed> {
        Some(memory::Missed::default())
    }

    fn shut(&self, _: bool) {}

    fn merge(&self, clock: u128) -> Option<u128> {
        Some(clock)
    }

    fn now_ms(&self) -> u64 {
        0
    }
}

fn transport(security: Security) -> Transport {
    Transport::new(1 << 20, 1 << 20, Duration::from_secs(5), Arc::new(security), Arc::default())
}

fn question(keys: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::ask(&mut out, "fixed", keys.iter().copied(), resp::Look::Copy);
    out
}

#[test]
fn a_memory_is_served_and_asked() {
    let big = vec![5; 1 << 20];
    let values = HashMap::from([("small", "v".into()), ("big", big.clone().into())]);
    let (server, client) = (transport(Security::default()), transport(Security::default()));
    server.serve(Arc::new(Fixed(values)));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let pool = client.pool().unwrap();

    let second = Duration::from_secs(1);
    let (reply, connection) = pool.ask(&address, &question(&["big"]), second).unwrap();
    let Reply::Found(answer) = reply else { panic!("{reply:?}") };
    assert_eq!(&connection.input()[answer.value.unwrap()], big);
    assert_eq!((answer.version, answer.remaining_ms, answer.flags), (7, 1500, resp::HOT));
    pool.put(&address, connection);

    let asks = vec![(address.clone(), question(&["none", "small"])), (address.clone(), question(&["none"]))];
    let mut outcomes = ask_many(pool, &asks, second).into_iter();
    let (reply, connection) = outcomes.next().unwrap().unwrap();
    let Reply::Packed(packed) = reply else { panic!("{reply:?}") };
    let packed = &connection.input()[packed];
    let mut unpack = Unpack::new(packed);
    assert_eq!(unpack.answer().unwrap(), None);
    assert_eq!(&packed[unpack.answer().unwrap().unwrap().value.unwrap()], b"v");
    assert_eq!(outcomes.next().unwrap().unwrap().0, Reply::Nothing);

    server.close();
    assert!(TcpStream::connect(&address).is_err());
    assert!(ping_many(pool, "me", vec![address.clone()], second).remove(0).is_err());
}

fn talk(stream: &mut TcpStream, sent: &[u8], expected: &[u8]) {
    stream.write_all(sent).unwrap();
    let mut received = vec![0; expected.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(String::from_utf8_lossy(&received), String::from_utf8_lossy(expected));
}

fn next_call(server: &Transport) -> Incoming {
    match server.next_event(Duration::from_secs(20)).unwrap() {
        Some(Event::Call(call)) => call,
        _ => panic!("no call came"),
    }
}

#[test]
fn what_memory_does_not_have_is_asked_and_answered_in_order() {
    let server = transport(Security::default());
    server.serve(Arc::new(Fixed(HashMap::from([("small", "v".into())]))));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let get = |name: &str| encode(&[b"GET".to_vec(), name.into()]);

    talk(&mut stream, &get("fixed:small"), b"$1\r\nv\r\n");
    stream.write_all(&[get("fixed:a"), get("fixed:small"), get("fixed:b"), get("fixed:c")].concat()).unwrap();
    for (name, answer) in [("a", Some("A")), ("b", None)] {
        let mut call = next_call(&server);
        let Request::Client(request) = &call.request else { panic!("a call of a node") };
        assert_eq!((request.command, &request.keys), ("get", &vec![("fixed".to_owned(), name.to_owned())]));
        let values = vec![answer.map(Into::into)];
        assert!(!call.is_gone());
        assert!(call.reply(call::Reply::Client(ClientReply { values, number: 0 })));
        assert!(!call.fail(Refusal::Load, "twice"));
    }
    let mut call = next_call(&server);
    assert!(call.fail(Refusal::Load, "A type\r\n"));
    talk(&mut stream, b"", b"$1\r\nA\r\n$1\r\nv\r\n$-1\r\n-LOADERR A type  \r\n");

    stream.write_all(&get("fixed:d")).unwrap();
    drop(next_call(&server)); // without an answer
    talk(&mut stream, b"", b"-CLOSED the request was dropped without an answer\r\n");

    stream.write_all(&get("fixed:e")).unwrap();
    let call = next_call(&server);
    drop(stream);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !call.is_gone() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A memory in which everything about the key "slow" is told of, and then waits for a word.
struct Slow {
    begun: Sender<()>,
    word: Mutex<Receiver<()>>,
}

impl Memory for Slow {
    hands_nothing_over!();

    fn name(&self) -> &str {
        "fixed"
    }

    fn read(&self, key: &str, _former: bool, visit: &mut dyn FnMut(Option<Found<'_>>)) {
        if key == "slow" {
            let _ = self.begun.send(());
            let _ = self.word.lock().unwrap().recv_timeout(Duration::from_secs(60));
        }
        visit(None);
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(Looked<'_>)) {
        self.read(key, false, &mut |_| visit(Some(None)));
    }

    fn is_candidate(&self, _: &str) -> bool {
        true
    }

    fn order(&self, write: memory::Write<'_>) -> Option<u128> {
        self.read(write.key, false, &mut |_| {});
        Some(1)
    }

    fn is_owner(&self, _: &str) -> bool {
        false
    }

    fn decide(&self, _: memory::Write<'_>, _: &memory::Terms) -> memory::Decided<bytes::Bytes> {
        unreachable!("it owns nothing")
    }

    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    fn tell(&self, key: &str, version: u128) -> u128 {
        self.read(key, false, &mut |_| {});
        version
    }

    fn floor(&self) -> u128 {
        0
    }

    fn missed(&self, _: u64, _: usize) -> Option<memory::Missed> {
        Some(memory::Missed::default())
    }

    fn shut(&self, _: bool) {}

    fn raise(&self, floor: u128) -> u128 {
        floor
    }

    fn merge(&self, clock: u128) -> Option<u128> {
        Some(clock)
    }

    fn now_ms(&self) -> u64 {
        0
    }
}

/// Other connections are answered in the middle of a command on many keys, and that command in the end.
#[test]
fn heavy_commands_hold_up_no_other_connection() {
    let ((go_on, word), (begun, is_begun)) = (channel(), channel());
    let server = transport(Security::default());
    server.serve(Arc::new(Slow { begun, word: Mutex::new(word) }));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let connect = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let (mut heavy, mut other) = (connect(), connect());
    let keys = |prefix: &str| -> Vec<_> {
        (0..2000).map(|n| format!("{prefix}{n}").into_bytes()).chain([format!("{prefix}slow").into()]).collect()
    };
    let words = |words: &[&str], more: Vec<Vec<u8>>| {
        encode(&words.iter().map(|word| word.as_bytes().to_vec()).chain(more).collect::<Vec<_>>())
    };
    let mut nothing = b"$2001\r\n".to_vec();
    nothing.resize(nothing.len() + 2001, 0);
    let nil = [&b"*2001\r\n"[..], &b"$-1\r\n".repeat(2001)].concat();
    let key = |key: String| pb::WriteItem { key, ..pb::WriteItem::default() };
    let names = || (0..2000).map(|n| format!("a key of some length {n}")).chain(["slow".into()]);
    let items = names().map(key).collect();
    let write = pb::WriteRequest { group: "fixed".into(), items, ..pb::WriteRequest::default() };
    let versions = vec![1u128.to_be_bytes().to_vec().into(); 2001];
    let written = pb::WriteReply { versions, ..pb::WriteReply::default() };
    let known = |key| pb::Known { key, version: 1u128.to_be_bytes().to_vec().into() };
    let tell = pb::TellRequest { group: "fixed".into(), writes: names().map(known).collect(), ..Default::default() };
    let told = pb::TellReply { greater: vec![Default::default(); 2001], ..Default::default() };
    for (asked, reply) in [
        (words(&["KC.MGET", "fixed"], keys("")), [&nothing[..], b"\r\n"].concat()),
        (words(&["MGET"], keys("fixed:")), nil),
        (words(&["KC.WRITE"], vec![write.encode_to_vec()]), encode(&[written.encode_to_vec()])[4..].to_vec()),
        (words(&["KC.TELL"], vec![tell.encode_to_vec()]), encode(&[told.encode_to_vec()])[4..].to_vec()),
    ] {
        heavy.write_all(&asked).unwrap();
        heavy.write_all(&encode(&[b"PING".to_vec()])).unwrap();
        is_begun.recv_timeout(Duration::from_secs(20)).unwrap();
        talk(&mut other, &encode(&[b"PING".to_vec()]), b"+PONG\r\n");
        go_on.send(()).unwrap();
        talk(&mut heavy, b"", &[&reply[..], b"+PONG\r\n"].concat());
    }
}

/// No thread of Python works on one command for long.
#[test]
fn python_is_asked_in_pieces() {
    let server = transport(Security::default());
    server.serve(Arc::new(Fixed(HashMap::from([("here", "v".into())]))));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let ask = |stream: &mut TcpStream, command: &str| {
        let names = (0..20_500).map(|n| if n % 5 == 0 { "fixed:here".into() } else { format!("fixed:{n}") });
        let words = [command.to_owned()].into_iter().chain(names).map(String::into_bytes);
        stream.write_all(&encode(&words.collect::<Vec<_>>())).unwrap();
    };
    let echo = |mut call: Incoming, refused: bool| {
        let Request::Client(request) = &call.request else { panic!("a call of a node") };
        let keys: Vec<_> = request.keys.iter().map(|(_, key)| key.clone()).collect();
        assert!(keys.len() <= 1000);
        let (values, number) = (keys.iter().map(|key| Some(key.clone().into())).collect(), keys.len() as i64);
        match refused {
            true => call.fail(Refusal::Load, "Broken"),
            false => call.reply(call::Reply::Client(ClientReply { values, number })),
        };
        keys.len()
    };

    ask(&mut stream, "MGET");
    let mut under_way: Vec<_> = (0..16).map(|_| next_call(&server)).collect();
    assert!(server.next_event(Duration::ZERO).unwrap().is_none());
    under_way.reverse(); // the answers may come in any order
    let mut asked: usize = under_way.drain(..).map(|call| echo(call, false)).sum();
    while asked < 16_400 {
        asked += echo(next_call(&server), false);
    }
    let value = |n| if n % 5 == 0 { "v".to_owned() } else { format!("{n}") };
    let values = (0..20_500).map(value).map(|value| format!("${}\r\n{value}\r\n", value.len()));
    talk(&mut stream, b"", format!("*20500\r\n{}", values.collect::<String>()).as_bytes());

    ask(&mut stream, "DEL");
    asked = 0;
    while asked < 20_500 {
        asked += echo(next_call(&server), false);
    }
    talk(&mut stream, b"", b":20500\r\n");

    ask(&mut stream, "EXISTS");
    echo(next_call(&server), true);
    talk(&mut stream, b"", b"-LOADERR Broken\r\n");
}

/// With any arguments, even if Python answers nothing.
#[test]
fn every_command_keeps_the_connection() {
    let server = Arc::new(transport(Security::default()));
    server.serve(Arc::new(Fixed(HashMap::new())));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let answering = {
        let server = server.clone();
        std::thread::spawn(
            move || while let Some(Event::Call(_)) = server.next_event(Duration::from_secs(20)).unwrap() {},
        )
    };
    let words: [&[u8]; 12] =
        [b"fixed:x", b"2", b"3", b"EX", b"AUTH", b"SETNAME", b"ID", b"DOCS", b"\xff", b"", b"0", b"-1"];
    for command in table::commands().filter(|command| command.name != "quit") {
        for count in 0..5 {
            for shift in 0..words.len() {
                let arguments = (0..count).map(|n| words[(n + shift) % words.len()].to_vec());
                let asked: Vec<_> = [command.name.into()].into_iter().chain(arguments).collect();
                let end = format!("end of {asked:?}");
                stream.write_all(&encode(&asked)).unwrap();
                stream.write_all(&encode(&[b"DISCARD".to_vec()])).unwrap(); // after MULTI nothing is executed
                stream.write_all(&encode(&[b"ECHO".to_vec(), end.clone().into()])).unwrap();
                let mut received = Vec::new();
                let mut chunk = [0; 4096];
                while !received.ends_with(format!("{end}\r\n").as_bytes()) {
                    let n = stream.read(&mut chunk).unwrap();
                    assert_ne!(n, 0, "{end}");
                    received.extend_from_slice(&chunk[..n]);
                }
            }
        }
    }
    server.close();
    answering.join().unwrap();
}

/// A client that reads no answers cannot be answered, and would stay forever.
#[test]
fn unauthenticated_connections_that_do_not_read_are_closed() {
    let security = Security { password: Some(Password::new("secret").unwrap()), ..Security::default() };
    let server = transport(security);
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let ping = encode(&[b"PING".to_vec()]);
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"; // and empty settings
    let frame: &[u8] = b"\0\0\x08\x06\0\0\0\0\0question"; // a PING
    std::thread::scope(|scope| {
        for (beginning, question) in [(&ping[..], &ping[..]), (preface, frame)] {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            scope.spawn(move || {
                stream.write_all(beginning).unwrap();
                let questions = question.repeat(1000);
                let error = (0..1_000_000).find_map(|_| stream.write_all(&questions).err());
                let kind = error.expect("the connection is closed").kind();
                assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind}");
            });
        }
    });
}

/// Bytes that note by which thread they were dropped.
struct Noted(Vec<u8>, Sender<String>);

impl AsRef<[u8]> for Noted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        let _ = self.1.send(std::thread::current().name().unwrap_or_default().into());
    }
}

/// A memory that has a new value for each key but "none".
struct Made(usize, Mutex<Sender<String>>);

impl Memory for Made {
    hands_nothing_over!();

    fn name(&self) -> &str {
        "made"
    }

    fn read(&self, _: &str, _: bool, visit: &mut dyn FnMut(Option<Found<'_>>)) {
        visit(None);
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(Looked<'_>)) {
        let made = || Shared(bytes::Bytes::from_owner(Noted(vec![5; self.0], self.1.lock().unwrap().clone())));
        let value = (key != "none").then(made);
        visit(value.as_ref().map(|value| Some(value as &dyn Held)));
    }

    fn is_candidate(&self, _: &str) -> bool {
        false
    }

    fn order(&self, _: memory::Write<'_>) -> Option<u128> {
        None
    }

    fn is_owner(&self, _: &str) -> bool {
        false
    }

    fn decide(&self, _: memory::Write<'_>, _: &memory::Terms) -> memory::Decided<bytes::Bytes> {
        unreachable!("it owns nothing")
    }

    fn keys(&self) -> Vec<String> {
        Vec::new()
    }

    fn tell(&self, _: &str, version: u128) -> u128 {
        version
    }

    fn floor(&self) -> u128 {
        0
    }

    fn raise(&self, floor: u128) -> u128 {
        floor
    }

    fn missed(&self, _: u64, _: usize) -> Option<memory::Missed> {
        Some(memory::Missed::default())
    }

    fn shut(&self, _: bool) {}

    fn merge(&self, clock: u128) -> Option<u128> {
        Some(clock)
    }

    fn now_ms(&self) -> u64 {
        0
    }
}

/// Asks for 2,000 values and leaves before all of the reply is there. Returns the threads that drop the values.
fn threads_that_drop(size: usize, waits: bool) -> HashSet<String> {
    let (dropped, drops) = channel();
    let server = transport(Security::default());
    server.serve(Arc::new(Made(size, Mutex::new(dropped))));
    let address = server.listen("127.0.0.1:0", Duration::from_secs(1), None).unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let keys = (0..2000).map(|number| number.to_string()).chain(waits.then(|| "none".into()));
    let command: Vec<_> = [b"MGET".to_vec()].into_iter().chain(keys.map(|key| format!("made:{key}").into())).collect();
    stream.write_all(&encode(&command)).unwrap();
    let call = waits.then(|| next_call(&server));
    if call.is_none() {
        stream.read_exact(&mut [0; 100]).unwrap();
    }
    drop(stream);
    (0..2000).map(|_| drops.recv_timeout(Duration::from_secs(20)).unwrap()).collect()
}

#[test]
fn the_values_for_a_client_that_has_left_are_dropped_by_other_threads_than_the_wires() {
    assert_eq!(threads_that_drop(10, true), HashSet::from(["kamacache-heavy".into()])); // one is still loaded
    assert_eq!(threads_that_drop(20_000, false), HashSet::from(["kamacache-heavy".into()])); // they are being sent
}

#[test]
fn each_command_has_one_entry() {
    let mut names: Vec<_> = resp::table::commands().map(|command| command.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "of two entries with one name the second is never reached");
}
