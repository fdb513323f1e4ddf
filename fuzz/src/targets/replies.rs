//! The replies of another node's RESP port, and the answers packed in them.
use kamacache_engine::resp::{self, Answer, Reply, Unpack};

/// The most that a reply of a node may have.
const CAP: usize = 2000;

fn check(answer: &Answer, input: &[u8]) {
    if let Some(value) = &answer.value {
        assert!(value.start <= value.end && value.end <= input.len());
    }
}

pub fn run(input: &[u8]) {
    let whole = resp::reply(input, CAP);
    match &whole {
        Ok(Err(need)) => assert!(*need > input.len(), "it waits for what is there"),
        Ok(Ok((reply, used))) => {
            assert!(*used <= input.len());
            for cut in 0..*used {
                match resp::reply(&input[..cut], CAP) {
                    Ok(Err(need)) => assert!(need > cut && need <= *used),
                    other => panic!("{cut} of {used} bytes gave {other:?}"),
                }
            }
            match reply {
                Reply::Found(answer) => check(answer, input),
                Reply::Packed(packed) => unpack(&input[packed.clone()]),
                Reply::Nothing | Reply::Simple(_) | Reply::Error(_) => {}
            }
        }
        Err(_) => {}
    }
    unpack(input);
}

fn unpack(packed: &[u8]) {
    let (mut unpack, mut again) = (Unpack::new(packed), Vec::new());
    while !unpack.is_done() {
        match unpack.answer() {
            Ok(Some(answer)) => {
                check(&answer, packed);
                let length = answer.value.as_ref().map(ExactSizeIterator::len);
                resp::pack(&mut again, answer.version, answer.remaining_ms, answer.flags, length);
                again.extend_from_slice(&packed[answer.value.unwrap_or(0..0)]);
            }
            Ok(None) => resp::pack_nothing(&mut again),
            Err(_) => return,
        }
    }
    assert_eq!(again.len(), packed.len(), "what is written anew is as long");
}
