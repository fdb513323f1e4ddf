//! The RESP parsers under any bytes and any split, and a transport serving a memory that is not Python's.
use std::{collections::HashMap, net::TcpStream, sync::Arc, time::Duration};

use kamacache_engine::{
    memory::{Found, Held, Memory, Value},
    peer::many::ask_many,
    transport::Transport,
    wire::resp::{self, Limits, Parser, ProtocolError, Reply, Unpack},
};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    arguments: 1000,
    argument: 10_000,
    command: 100_000,
};

type Commands = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// All commands in the input, fed in pieces that end at `cuts`.
fn commands(input: &[u8], cuts: &[usize]) -> Commands {
    let mut parser = Parser::new(LIMITS);
    let (mut buffer, mut found, mut fed) = (Vec::new(), Vec::new(), 0);
    let mut ends: Vec<_> = cuts
        .iter()
        .map(|cut| cut % (input.len() + 1))
        .chain([input.len()])
        .collect();
    ends.sort_unstable();
    for end in ends {
        buffer.extend_from_slice(&input[fed..end]);
        fed = end;
        loop {
            match parser.parse(&buffer) {
                Ok(true) => {
                    found.push(
                        parser
                            .arguments()
                            .iter()
                            .map(|range| buffer[range.clone()].to_vec())
                            .collect(),
                    );
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
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Memory for Fixed {
    fn name(&self) -> &str {
        "fixed"
    }

    fn read(&self, key: &str, _former: bool, visit: &mut dyn FnMut(Option<Found<'_>>)) {
        let value = self.0.get(key).cloned().map(Shared);
        let held = value.as_ref().map(|value| value as &dyn Held);
        visit(held.map(|held| Found {
            value: Some(held),
            version: 7,
            remaining_ms: Some(1500),
            hot: true,
        }));
    }
}

fn question(keys: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    resp::ask(&mut out, "fixed", keys.iter().copied(), false);
    out
}

#[test]
fn a_memory_is_served_and_asked() {
    let big = vec![5; 1 << 20];
    let values = HashMap::from([("small", "v".into()), ("big", big.clone().into())]);
    let (server, client) = (
        Transport::new(1 << 20, Arc::default()),
        Transport::new(1 << 20, Arc::default()),
    );
    server.serve(Arc::new(Fixed(values)));
    let address = server.listen("127.0.0.1:0").unwrap();
    let pool = client.pool().unwrap();

    let second = Duration::from_secs(1);
    let (reply, connection) = pool.ask(&address, &question(&["big"]), second).unwrap();
    let Reply::Found(answer) = reply else {
        panic!("{reply:?}")
    };
    assert_eq!(&connection.input()[answer.value.unwrap()], big);
    assert_eq!(
        (answer.version, answer.remaining_ms, answer.flags),
        (7, 1500, resp::HOT)
    );
    pool.put(&address, connection);

    let asks = vec![
        (address.clone(), question(&["none", "small"])),
        (address.clone(), question(&["none"])),
    ];
    let mut outcomes = ask_many(pool, &asks, second).into_iter();
    let (reply, connection) = outcomes.next().unwrap().unwrap();
    let Reply::Packed(packed) = reply else {
        panic!("{reply:?}")
    };
    let packed = &connection.input()[packed];
    let mut unpack = Unpack::new(packed);
    assert_eq!(unpack.answer().unwrap(), None);
    assert_eq!(&packed[unpack.answer().unwrap().unwrap().value.unwrap()], b"v");
    assert_eq!(outcomes.next().unwrap().unwrap().0, Reply::Nothing);

    server.close();
    assert!(TcpStream::connect(&address).is_err());
    assert!(pool.ping(&address, second).is_err());
}
