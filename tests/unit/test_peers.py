"""Who must be told of a write, as one node sees the others."""

from __future__ import annotations

import pytest

from kamacache._engine import Contacts
from kamacache.cluster.contact import Listeners
from kamacache.cluster.peers import Peer, Peers
from kamacache.errors import PeerError
from kamacache.member import Member
from tests.support.sizes import store_of

SILENCE = 3
MEMBER = Member("id of a process", "10.0.0.1:8001")
LISTED = Member("10.0.0.1:8001", "10.0.0.1:8001", protocol=0)  # a list without more than addresses


def refusal() -> PeerError:
    error = PeerError("refused")
    error.refused = True
    return error


def known(member: Member, *, notices_deaths: bool = True) -> tuple[Peers, Peer]:
    peers = Peers(Contacts(), notices_deaths=notices_deaths)
    peers.listed([member])
    (peer,) = peers.all()
    return peers, peer


def test_a_refusal_counts_at_an_address_that_has_answered() -> None:
    peers, peer = known(MEMBER)
    peers.died(peer, refusal())
    assert peers.listeners(SILENCE) == (peer,)
    peers.answered(peer)
    peers.died(peer, refusal())
    assert peers.listeners(SILENCE) == ()
    peers.answered(peer)
    assert peers.listeners(SILENCE) == (peer,)


def test_a_refusal_counts_at_an_address_of_which_no_process_is_known() -> None:
    """Leave out an address that a list has while nothing listens there, until a process answers or says hello."""
    peers, peer = known(LISTED, notices_deaths=False)
    assert peers.listeners(SILENCE) == (peer,)
    peers.unanswered(peer, refusal())
    assert peers.listeners(SILENCE) == ()
    assert peers.gone() == []  # each node finds that out for itself
    peers.unanswered(peer, PeerError("silent"))  # a process may listen there by now, which did not reach this one
    assert peers.listeners(SILENCE) == (peer,)
    peers.unanswered(peer, refusal())
    assert peers.listeners(SILENCE) == ()
    peers.answered(peer)  # it may have joined, as while this process stood still
    assert peers.listeners(SILENCE) == (peer,)
    peers, peer = known(LISTED, notices_deaths=False)
    peers.unanswered(peer, refusal())
    peers.heard(MEMBER, leaving=False, answered=False)
    assert not peer.dead  # it joins, and is notified of writes from now on
    peers.unanswered(peer, refusal())  # that is not the address at which it answers others
    assert peers.listeners(SILENCE) == (peer,)


def test_a_refusal_counts_after_another_process_has_taken_the_address_over() -> None:
    """Leave out a process that answered a ping, as another one than before, and ended before its hello."""
    peers, peer = known(MEMBER)
    peers.taken_over(peer)
    (other,) = peers.listeners(SILENCE)
    peers.unanswered(other, refusal())
    assert peers.listeners(SILENCE) == ()


@pytest.mark.parametrize("sees_ends", [False, True])
def test_a_refusal_is_waited_out_if_the_registry_will_know_of_the_end(*, sees_ends: bool) -> None:
    """Have a write go on to notify a new member that refuses, for the moment in which its free lock is not seen yet."""
    peers = Peers(Contacts(), sees_ends=sees_ends)
    peers.listed([MEMBER])
    (peer,) = peers.all()
    peers.died(peer, refusal())
    assert peer.breaking is sees_ends
    peers.listed([], lambda _: True)
    assert peers.listeners(SILENCE) == ()


def test_silence_counts_once_the_registration_is_gone() -> None:
    peers, peer = known(MEMBER)
    for _ in range(SILENCE):
        peers.unanswered(peer, PeerError("silent"))
    assert peers.listeners(SILENCE) == (peer,)
    peers.listed([])
    for _ in range(3):  # a registry that lost its data lists it again by then
        assert peers.listeners(SILENCE) == (peer,)
        peers.unanswered(peer, PeerError("silent"))
        peers.listed([])
    assert peers.listeners(SILENCE) == ()
    peers.alive([peer.id])  # it has pinged this node
    assert peers.listeners(SILENCE) == (peer,)


def test_silence_counts_where_the_list_never_changes() -> None:
    peers, peer = known(LISTED, notices_deaths=False)
    for _ in range(SILENCE):
        assert peers.listeners(SILENCE) == (peer,)
        peers.unanswered(peer, PeerError("silent"))
    assert peers.listeners(SILENCE) == ()


def test_a_process_whose_lock_is_free_has_ended() -> None:
    peers, _ = known(MEMBER)
    peers.listed([], lambda member: member == MEMBER.id)
    assert peers.listeners(SILENCE) == ()


def test_one_node_learns_from_another_who_has_ended() -> None:
    """Learn it also of a member of which the own list says no more than the address, until it answers."""
    for listed in (MEMBER, LISTED):
        witness, seen = known(MEMBER)
        witness.answered(seen)
        witness.died(seen, refusal())
        peers, peer = known(listed)
        peers.ended(witness.gone())
        assert peers.listeners(SILENCE) == (peer,)  # it has not been silent here
        peers.died(peer, refusal())
        peers.ended(witness.gone())
        assert peers.listeners(SILENCE) == ()
        peers.heard(MEMBER, leaving=False, answered=True)
        assert [one.id for one in peers.listeners(SILENCE)] == [MEMBER.id]


def test_a_member_that_comes_back_is_behind_until_it_has_caught_up() -> None:
    peers, peer = known(MEMBER)
    peers.listed([])
    for _ in range(SILENCE):
        peers.unanswered(peer, PeerError("silent"))
    assert peers.forget(SILENCE) == [peer]
    peers.listed([MEMBER])
    (again,) = peers.all()
    assert again.skipped
    assert not again.dead
    peers.heard(MEMBER, leaving=False, answered=True, has=1_000_000_000)
    assert not again.skipped


def test_a_registry_may_list_a_member_after_its_goodbye() -> None:
    """Have a member say goodbye while its registration stays, as during an outage of the registry."""
    peers, peer = known(MEMBER)
    peers.heard(MEMBER, leaving=True, answered=False)
    peers.listed([MEMBER])
    assert peers.forget(SILENCE) == [peer]
    peers.listed([MEMBER])
    peers.introduced([MEMBER])  # by a member that has not heard the goodbye yet
    peers.heard(MEMBER, leaving=False, answered=False)  # sent before the goodbye
    assert (peers.known(), peers.listeners(SILENCE)) == ([], ())
    another = MEMBER._replace(id="id of another process")
    peers.heard(another, leaving=False, answered=False)
    peers.listed([MEMBER])
    assert [one.id for one in peers.listeners(SILENCE)] == [another.id]


def test_a_registry_may_list_a_member_after_its_end() -> None:
    peers, peer = known(MEMBER)
    peers.died(peer, PeerError("silent"))
    peers.ended([MEMBER.id])
    peers.listed([])
    assert peers.forget(SILENCE) == [peer]
    peers.listed([MEMBER])
    assert peers.listeners(SILENCE) == ()
    (again,) = peers.all()
    peers.answered(again)  # those who said that it has ended were wrong
    assert peers.listeners(SILENCE) == (again,)
    assert again.skipped
    peers.heard(MEMBER, leaving=False, answered=True)
    assert not again.skipped


def test_what_an_overtaken_answer_says_of_our_writes_changes_nothing() -> None:
    """Take in a hello of a member that has caught up, and then its answer to a hello, made before that."""
    peers, peer = known(MEMBER)
    peers.died(peer, PeerError("silent"))
    store = store_of("lru", 1 << 20)
    for version in (1, 2):
        store.note("key", version)  # it is told of none
    peers.heard(MEMBER, leaving=False, answered=True, has=1)
    assert (peer.dead, peer.behind) == (False, True)
    peers.heard(MEMBER, leaving=False, answered=False, has=1_000_000_000)
    peers.heard(MEMBER, leaving=False, answered=True, has=1)
    assert not peer.skipped


def test_listeners_are_looked_for_after_each_change_alone() -> None:
    peers, peer = known(MEMBER)
    found = peers.listeners(SILENCE)
    peers.all()
    assert peers.listeners(SILENCE) is found
    peers.introduced([Member("another", "10.0.0.2:8001")])
    assert len(peers.listeners(SILENCE)) == 2
    peer.silent += 1
    assert peers.listeners(SILENCE) is not found


def test_a_change_in_the_middle_of_the_search_for_listeners() -> None:
    """A search that began before a change, or between its two halves, is not the last one."""
    peer = Peer(MEMBER)
    searches: list[int] = []

    def find(silence: int) -> list[Peer]:
        searches.append(silence)
        if len(searches) == 1:
            peer.left = True
            return [peer]
        return []

    listeners = Listeners(find)
    assert [listeners.get(SILENCE), listeners.get(SILENCE), listeners.get(SILENCE)] == [(peer,), (), ()]
    assert len(searches) == 2
    listeners.get(SILENCE + 1)
    assert searches[2:] == [SILENCE + 1]


@pytest.mark.parametrize("late", ["an answer to a hello", "a list"])
def test_a_word_that_is_overtaken_changes_nothing(late: str) -> None:
    """Take in what a member said before its last hello, after it."""
    peers, peer = known(MEMBER)
    news = MEMBER._replace(groups=("new",), revision=1)
    peers.heard(news, leaving=False, answered=False)
    if late == "a list":
        peers.listed([MEMBER])
    else:
        peers.heard(MEMBER, leaving=False, answered=True)
    assert peer.member == news
    peers.listed([Member("id of another process", MEMBER.address)])  # whose count begins anew
    assert [one.member.revision for one in peers.all()] == [0]


def test_an_answer_to_an_older_hello_does_not_greet() -> None:
    """Let an answer come after another hello is due, which says more."""
    peers, peer = known(MEMBER)
    [(_, before)] = peers.ungreeted()
    peers.greet()
    assert not peers.greeted(peer, before)
    [(_, now)] = peers.ungreeted()
    assert peers.greeted(peer, now)
    assert peers.ungreeted() == []
