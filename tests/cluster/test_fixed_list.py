"""A fixed list, which never changes: a member that said goodbye is out of the tables until it is heard from again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Node, PeerError, Removed
from kamacache.net.messages import Hello
from kamacache.registry.static import StaticRegistry
from kamacache.testing import Network, Ping
from tests.cluster.cluster import wait_until

KEYS = [f"key{number}" for number in range(60)]
ADDRESSES = [f"127.0.0.1:{port}" for port in (7001, 7002, 7003)]


class Fixed(StaticRegistry):
    poll = 0.05


class Cluster:
    """Three nodes of a fixed list on a network in memory."""

    def __init__(self, started: int = 3, *, near_ttl: str = "50ms") -> None:
        self.network = Network(hot=False)
        self.near_ttl = near_ttl
        self.nodes: list[Node] = [self.start(number) for number in range(started)]
        self.wait_for(*range(started), tables={0, 1, 2})

    def start(self, number: int) -> Node:
        registry = Fixed(f"static://{','.join(ADDRESSES)}")
        node = Node(ADDRESSES[number], registry=registry, lane=self.network.lane())
        node.group("g", codec="json", near_ttl=self.near_ttl)
        node.start()
        return node

    def back(self, number: int) -> None:
        self.nodes[number] = self.start(number)

    def group(self, number: int) -> Any:
        return self.nodes[number].groups["g"]

    def owners(self, number: int) -> list[str]:
        """Return the owners by the table of a node: none that stands in for one."""
        route = self.nodes[number]._membership.route("g")
        return [ADDRESSES[number] if (peer := route.all_candidates(key)[0]) is None else peer.address for key in KEYS]

    def wait_for(self, *numbers: int, tables: set[int] | None = None) -> None:
        """Wait until these nodes have the same table, and these members own all by it."""
        expected = {ADDRESSES[number] for number in tables or numbers}

        def agree() -> bool:
            for number in numbers:
                self.nodes[number]._membership._exchange.again()
                self.nodes[number]._membership.refresh()
            seen = [self.owners(number) for number in numbers]
            return set(seen[0]) == expected and seen.count(seen[0]) == len(seen)

        wait_until(agree)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    for node in cluster.nodes:
        node.close(drain=0)


def test_the_keys_of_a_member_that_said_goodbye_have_another_owner(cluster: Cluster) -> None:
    b, c = cluster.group(1), cluster.group(2)
    assert [c.incr(key, initial=0) for key in KEYS] == [1] * len(KEYS)
    cluster.nodes[0].close()
    cluster.wait_for(1, 2)
    assert [c.incr(key) for key in KEYS] == [2] * len(KEYS)
    assert [b.incr(key) for key in KEYS] == [3] * len(KEYS)
    assert not any(c.add(key, 0) for key in KEYS)
    for group in (b, c):
        assert all(key in group and group.ttl(key) is not None for key in KEYS)
        assert [group.get_entry(key).value for key in KEYS] == [3] * len(KEYS)
    assert {c.remove(key) for key in KEYS[:30]} == {Removed(existed=True, confirmed=True)}
    assert c.get_many(KEYS[:30]) == {}
    cluster.back(0)
    cluster.wait_for(0, 1, 2)
    assert [cluster.group(0).incr(key) for key in KEYS[30:]] == [4] * 30
    assert [b.incr(key) for key in KEYS[30:]] == [5] * 30


def test_writes_are_true_while_a_member_has_not_started() -> None:
    """Write beside an address that was never met and refuses connections. Its process learns of the writes.

    1. A and B run; nothing listens at C. Writes return True, also of keys that C would own.
    2. C begins to listen. Its hellos are held, as are pings to it: A and B know no process there. A sets all: True.
    3. The hellos arrive, and C joins: it knows these writes, and is notified of later ones.
    """
    cluster = Cluster(started=2, near_ttl="1m")
    try:
        a, b = cluster.group(0), cluster.group(1)
        assert ADDRESSES[2] in cluster.owners(0)
        assert [group.set(key, number) for number, group in enumerate((b, a)) for key in KEYS] == [True] * 2 * len(KEYS)
        hellos = cluster.network.gate(Hello, source=ADDRESSES[2])
        pings = [cluster.network.gate(Ping, source=source, target=ADDRESSES[2]) for source in ADDRESSES[:2]]
        for gate in pings:
            gate.wait()
        starting = threading.Thread(target=lambda: cluster.nodes.append(cluster.start(2)))
        starting.start()
        hellos.wait()
        assert [a.set(key, 2) for key in KEYS] == [True] * len(KEYS)
        for gate in (*pings, hellos):
            gate.open()
        starting.join()
        c = cluster.group(2)
        cluster.wait_for(0, 1, 2)
        assert [c.get(key) for key in KEYS] == [2] * len(KEYS)
        assert [a.set(key, 3) for key in KEYS] == [True] * len(KEYS)
        assert [c.get(key) for key in KEYS] == [3] * len(KEYS)
    finally:
        for node in cluster.nodes:
            node.close(drain=0)


def test_a_member_may_have_started_while_this_process_stood_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask an address anew that had refused connections: a member may be there that considers this one dead.

    1. A and B run; nothing listens at C. The thread of A does nothing from now on but what this test does.
    2. A goes on after it stood still. C does not answer its ping: writes of A are False. It refuses: they are True.
    """
    cluster = Cluster(started=2, near_ttl="1m")
    try:
        membership, group, ticked = cluster.nodes[0]._membership, cluster.group(0), threading.Event()
        assert group.set("key", 1) is True
        monkeypatch.setattr(membership, "tick", ticked.set)
        assert ticked.wait(10)
        silent = cluster.network.drop(Ping, source=ADDRESSES[0], target=ADDRESSES[2])
        assert membership._exchange.went_on(True, joins=False)
        assert group.set("key", 2) is False
        silent.end()
        assert membership._exchange.went_on(True, joins=False)
        assert group.set("key", 3) is True
    finally:
        for node in cluster.nodes:
            node.close(drain=0)


def test_members_that_close_one_after_the_other_hand_over_all(cluster: Cluster) -> None:
    c = cluster.group(2)
    assert [c.incr(key, initial=7) for key in KEYS] == [8] * len(KEYS)
    cluster.nodes[0].close()
    cluster.wait_for(1, 2)
    cluster.nodes[1].close()
    assert [c.get(key) for key in KEYS] == [8] * len(KEYS)
    assert [c.incr(key) for key in KEYS] == [9] * len(KEYS)


def test_a_member_that_starts_meanwhile_hears_of_the_goodbye(cluster: Cluster) -> None:
    """Agree on owners: the list alone does not say which of its members left."""
    cluster.nodes[0].close()
    cluster.nodes[1].close()
    cluster.wait_for(2)
    cluster.back(1)
    cluster.wait_for(1, 2)
    for group in (cluster.group(1), cluster.group(2)):
        assert all(isinstance(group.incr(key, initial=0), int) for key in KEYS)
    cluster.back(0)
    cluster.wait_for(0, 1, 2)
    assert [cluster.group(0).incr(key) for key in KEYS] == [3] * len(KEYS)


def test_a_member_that_missed_the_goodbye_decides_nothing(cluster: Cluster) -> None:
    """Raise PeerError for the keys that the table of one member alone gives to a member that has left.

    1. The goodbye of A does not reach C.
    2. B and C do not agree on the owners of what A had: none decides on what it does not own.
    3. C greets B, as it does when something here changes, and hears of the goodbye.
    """
    b, c = cluster.group(1), cluster.group(2)
    before = cluster.owners(2)
    lost = cluster.network.drop(Hello, source=ADDRESSES[0], target=ADDRESSES[2])
    told = cluster.network.drop(Hello, source=ADDRESSES[2], target=ADDRESSES[1])
    cluster.nodes[0].close()
    cluster.wait_for(1, tables={1, 2})
    assert cluster.owners(2) == before
    with pytest.raises(PeerError, match="out of reach"):
        c.incr(next(key for key, owner in zip(KEYS, before, strict=True) if owner == ADDRESSES[0]), initial=0)
    lost.end()
    told.end()
    cluster.nodes[2]._membership.peers.greet()
    cluster.wait_for(1, 2)
    assert [c.incr(key, initial=0) for key in KEYS] == [1] * len(KEYS)
    assert [b.incr(key) for key in KEYS] == [2] * len(KEYS)


def test_a_member_that_is_back_is_found_at_its_address(cluster: Cluster) -> None:
    """Ping the address of a member that has left: the hello of its new life may be lost."""
    cluster.nodes[0].close()
    cluster.wait_for(1, 2)
    lost = cluster.network.drop(Hello, source=ADDRESSES[0], target=ADDRESSES[2])
    pings = cluster.network.drop(Ping, source=ADDRESSES[0], target=ADDRESSES[2])
    cluster.back(0)  # it considers C dead
    cluster.wait_for(0, 1, 2)
    assert lost.parcels
    pings.end()
    lost.end()
    assert [cluster.group(2).incr(key, initial=0) for key in KEYS] == [1] * len(KEYS)
    assert [cluster.group(0).incr(key) for key in KEYS] == [2] * len(KEYS)
