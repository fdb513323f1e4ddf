"""Members that the registry has lost: which of them a node goes on with, and which it drops."""

from __future__ import annotations

import pytest

from kamacache import Member
from kamacache._engine import Contacts
from kamacache.cluster.peers import Peers

ADDRESS = "10.0.0.2:8001"


class Lost:
    """A node that knows one member, which its registry has lost."""

    def __init__(self) -> None:
        self.peers = Peers(Contacts())
        self.member = Member("id1", ADDRESS)
        self.dropped: list[str] = []
        self.peers.listed([self.member])
        (self.peer,) = self.peers.all()

    def remaining(self, *lost: Member) -> list[str]:
        left = self.peers.remaining(lost or (self.member,), lambda member: self.dropped.append(member.id))
        return [member.id for member in left]


@pytest.fixture
def lost() -> Lost:
    return Lost()


def test_it_remains_until_it_is_dead(lost: Lost) -> None:
    assert (lost.remaining(), lost.dropped) == (["id1"], [])
    lost.peers.died(lost.peer, ConnectionError())
    assert (lost.remaining(), lost.dropped) == ([], ["id1"])


def test_one_that_nobody_has_met_remains(lost: Lost) -> None:
    assert lost.remaining(Member("id9", "10.0.0.9:8001")) == ["id9"]


def test_one_that_said_goodbye_is_gone_for_ever(lost: Lost) -> None:
    """Remember that after the peer was forgotten: its lease may last for a day."""
    lost.peers.heard(lost.member, leaving=True, answered=False)
    assert (lost.remaining(), lost.dropped) == ([], ["id1"])
    lost.peers.listed([])
    assert lost.peers.forget(1) == [lost.peer]
    assert (lost.remaining(), lost.dropped) == ([], ["id1", "id1"])


def test_another_one_answers_at_its_address(lost: Lost) -> None:
    """Wait until that one has said who it is."""
    lost.peers.taken_over(lost.peer)
    assert (lost.remaining(), lost.remaining(Member("id2", ADDRESS)), lost.dropped) == ([], [], [])
    lost.peers.heard(Member("id2", ADDRESS), leaving=False, answered=True)
    assert lost.remaining(Member("id2", ADDRESS)) == ["id2"]
    assert (lost.remaining(), lost.dropped) == ([], ["id1"])


def test_a_dead_one_at_its_address_says_nothing_of_it(lost: Lost) -> None:
    lost.peers.died(lost.peer, ConnectionError())
    assert (lost.remaining(Member("id2", ADDRESS)), lost.dropped) == (["id2"], [])
