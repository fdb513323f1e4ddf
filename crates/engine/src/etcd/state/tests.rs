use super::*;

const MINE: &[u8] = b"/s/app/me";
const PREFIX: &[u8] = b"/s/app/";

fn kv(key: &'static [u8], mod_revision: i64) -> pb::KeyValue {
    pb::KeyValue { key: key.into(), value: Bytes::new(), mod_revision, lease: 0 }
}

fn event(deleted: bool, key: &'static [u8], revision: i64) -> pb::Event {
    pb::Event { r#type: i32::from(deleted), kv: Some(kv(key, revision)) }
}

fn entry(key: &'static [u8], life: u32) -> Entry {
    Entry { key: key.into(), value: Bytes::new(), life }
}

fn lease(id: i64) -> Lease {
    Lease { id, until: Instant::now() + Duration::from_secs(10) }
}

/// Registered at revision 10, and read at revision 11.
fn registered() -> State {
    let mut state = State::default();
    state.want(vec![entry(MINE, 10)]);
    assert_eq!(state.next(), Some(Job::Grant(10)));
    state.leases.insert(10, lease(7));
    assert_eq!(state.next(), Some(Job::Write(1, vec![(entry(MINE, 10), 7)])));
    state.wrote(1, 10);
    assert_eq!(state.next(), Some(Job::Read(PREFIX.into(), 0)));
    state.read(&PREFIX.into(), 0, 11, vec![kv(MINE, 10)]);
    assert_eq!(state.next(), None);
    assert!(state.is_registered());
    state
}

#[test]
fn a_lost_key_is_written_again_and_a_lost_lease_granted() {
    let mut state = registered();
    state.watched(vec![event(true, MINE, 9)]); // of a life before
    assert!(state.is_registered());
    state.watched(vec![event(true, MINE, 12)]);
    assert!(matches!(state.next(), Some(Job::Write(1, ..))));
    state.wrote(1, 13);
    state.lost_lease(8); // of a life before
    state.wrote(1, 13);
    assert!(state.is_registered());
    state.lost_lease(7);
    assert_eq!(state.next(), Some(Job::Grant(10)));
    state.want(Vec::new());
    assert_eq!(state.next(), None);
    assert!(!state.is_registered());
}

#[test]
fn what_is_missing_when_all_is_read_again_is_written_again() {
    let mut state = registered();
    state.reconnected();
    assert_eq!(state.next(), Some(Job::Read(PREFIX.into(), 0)));
    state.read(&PREFIX.into(), 0, 12, Vec::new());
    assert!(matches!(state.next(), Some(Job::Write(1, ..))));
}

#[test]
fn events_that_were_read_already_change_nothing() {
    let mut state = registered();
    let other: &[u8] = b"/s/app/other";
    state.watched(vec![event(false, other, 11), event(false, b"/s/app-other/x", 12)]);
    assert_eq!(state.list(&PREFIX.into()).len(), 1);
    state.watched(vec![event(false, other, 12), event(true, MINE, 12)]); // one transaction
    assert_eq!(state.list(&PREFIX.into()), [(other.into(), Bytes::new())]);
}

#[test]
fn a_list_is_compared_unless_the_watch_has_just_brought_news() {
    let (mut state, prefix) = (registered(), Bytes::from_static(PREFIX));
    let question = state.ask(&prefix).expect("no news");
    assert_eq!(state.next(), Some(Job::Check(prefix.clone(), question)));
    let mut answer =
        pb::RangeResponse { header: Some(pb::ResponseHeader { revision: 20 }), kvs: vec![kv(MINE, 10)], count: 1 };
    assert_eq!(state.compare(&prefix, &answer), Some(true));
    answer.count = 2;
    assert_eq!(state.compare(&prefix, &answer), Some(false));
    answer.header = Some(pb::ResponseHeader { revision: 5 });
    assert_eq!(state.compare(&prefix, &answer), None);
    state.checked(&prefix, question);
    assert!(state.is_answered(&prefix, question));
    state.watched(vec![event(false, b"/s/app/other", 21)]);
    assert_eq!(state.ask(&prefix), None);
}

#[test]
fn entries_of_each_life_have_a_lease_of_their_own() {
    let (mut state, known): (State, &[u8]) = (registered(), b"/known/me");
    state.want(vec![entry(MINE, 10), entry(known, 600)]);
    assert_eq!(state.next(), Some(Job::Grant(600)));
    state.leases.insert(600, lease(9));
    assert_eq!(state.next(), Some(Job::Write(2, vec![(entry(MINE, 10), 7), (entry(known, 600), 9)])));
    state.wrote(2, 12);
    assert!(state.is_registered());
    state.lost_lease(7);
    assert_eq!(state.next(), Some(Job::Grant(10)));
    state.leases.insert(10, lease(8));
    state.want(Vec::new());
    assert_eq!(state.next(), Some(Job::Revoke(9)), "while it is known, another may ask whether it lives");
    state.lost_lease(9);
    assert_eq!(state.next(), Some(Job::Revoke(8)));
    assert!(!state.is_done());
    state.lost_lease(8);
    assert!(state.is_done());
}

#[test]
fn the_lease_of_another_session_is_dropped_once_and_never_the_own() {
    let (mut state, prefix) = (registered(), Bytes::from_static(PREFIX));
    let theirs = pb::KeyValue { lease: 5, ..kv(b"/s/app/other", 14) };
    let unbound = kv(b"/s/app/unbound", 14);
    state.read(&prefix, 0, 14, vec![pb::KeyValue { lease: 7, ..kv(MINE, 10) }, theirs, unbound]);
    for key in [MINE, b"/s/app/unbound", b"/s/app/nobody"] {
        state.drop_key(&Bytes::from_static(key));
    }
    assert_eq!(state.next(), None);
    state.drop_key(&Bytes::from_static(b"/s/app/other"));
    assert_eq!(state.next(), Some(Job::Drop(5)));
    state.dropping(5);
    assert_eq!(state.next(), None);
}
