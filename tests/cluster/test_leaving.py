"""A graceful leave of a member: its keys move once, back once when it returns, and others keep what they have."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from kamacache import Node
from kamacache.cluster.routes import Route
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed
from kamacache.testing import Network
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import free_ports

KEYS = [f"key{number}" for number in range(100)]


class Watched:
    """A node of a fixed list that counts its rounds and the changes of its table."""

    def __init__(self, address: str, registry: str, loads: Counter[str]) -> None:
        self.node = Node(address, registry=registry)
        self.loads = loads
        self.group = self.node.group("g", self.load, near_ttl="1h", ttl="1h")
        self.node.start()
        self.rounds = 0
        self.changes: list[set[str]] = []
        membership: Any = self.node._membership
        tick, placed = membership.tick, membership._routes._placed

        def counted() -> None:
            tick()
            self.rounds += 1

        def noted(name: str, route: Route) -> None:
            self.changes.append({address for address, *_ in route.owners})
            placed(name, route)

        membership.tick, membership._routes._placed = counted, noted

    def load(self, key: str) -> bytes:
        self.loads[key] += 1
        return key.encode()

    def owners(self) -> list[str]:
        return [str(self.node.owner("g", key)) for key in KEYS]

    def pass_rounds(self, count: int) -> None:
        """Let the thread of the members read the list and probe so many times more."""
        for _ in range(count):
            before = self.rounds
            self.node._membership._exchange.again()
            self.node._membership.refresh()
            wait_until(lambda before=before: self.rounds > before)  # type: ignore[misc]


def test_a_node_without_entries_says_that_it_leaves() -> None:
    """Have the others hand over nothing more to a node that leaves, which has nothing to hand over itself.

    What another that leaves at the same time sent to it before its end was lost with it.
    """
    network = Network()
    leaver, other = (Node(lane=network.lane(), registry=network.registry()) for _ in range(2))
    groups = [node.group("g", codec="json") for node in (leaver, other)]
    with other, leaver:
        wait_until(
            lambda: all(
                {str(node.owner("g", key).id) for key in KEYS} == {leaver.id, other.id} for node in (leaver, other)
            )
        )
        leaver._membership.hand_over(Deadline.after(10), bool)
        wait_until(lambda: {str(other.owner("g", key).id) for key in KEYS} == {other.id})
        assert groups[1].set("k", 1)
        leaver.close(drain=0)


def test_a_leave_from_a_fixed_list_moves_keys_once() -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    registry, loads = f"static://{','.join(addresses)}", Counter[str]()
    a, b, leaver = (Watched(address, registry, loads) for address in addresses)
    try:
        wait_until(lambda: a.owners() == b.owners() == leaver.owners())
        wait_until(lambda: set(a.owners()) == set(addresses))
        before = a.owners()
        a.group.get_many(KEYS)
        b.group.get_many(KEYS)
        assert loads.total() == len(KEYS)
        a.changes.clear()
        b.changes.clear()

        leaver.node.close()
        wait_until(lambda: addresses[2] not in a.owners() + b.owners())
        away = a.owners()
        assert away == b.owners()
        assert [owner for owner, was in zip(away, before, strict=True) if was != addresses[2]] == [
            was for was in before if was != addresses[2]
        ]
        for one in (a, b):
            one.pass_rounds(4)
            assert one.owners() == away
            assert one.changes == [set(addresses[:2])]  # it is no owner from then on, whatever the list says
            one.changes.clear()
        lost = before.count(addresses[2])
        for one in (a, b):
            assert one.group.get_many(KEYS) == {key: key.encode() for key in KEYS}
        assert loads.total() <= len(KEYS) + lost

        now = loads.total()
        leaver = Watched(addresses[2], registry, loads)
        wait_until(lambda: a.owners() == b.owners() == leaver.owners() == before)
        for one in (a, b):
            one.pass_rounds(4)
            assert one.changes == [set(addresses)] * len(one.changes)
            assert len(one.changes) <= 2
        for one in (a, b, leaver):
            one.group.get_many(KEYS)
        assert loads.total() == now  # those that stood in had the values
    finally:
        for one in (a, b, leaver):
            one.node.close(drain=0)


@pytest.mark.parametrize("real", [True, False], ids=["sockets", "memory"])
def test_member_that_leaves_before_its_writes_were_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, real: bool
) -> None:
    """Keep what is here: a member that ends says nothing against it, as one that is killed does not."""
    network = Network()
    made: list[dict[str, Any]] = [{"registry": f"local://{tmp_path}"}] * 2
    if not real:
        made = [{"registry": network.registry(), "lane": network.lane()} for _ in range(2)]
    stays, leaves = (Node(**options, client=client) for options, client in zip(made, (False, True), strict=True))
    group, other = stays.group("g", str.encode), leaves.group("g")
    lane, asked = stays._runtime.lane, threading.Event()
    fetch = type(lane).fetch_missed

    def late(self: Any, *arguments: Any) -> bool:
        if self is lane:
            other._core.store.close()  # the first step of its node.close()
        try:
            return fetch(self, *arguments)
        finally:
            if self is lane:
                asked.set()

    with stays, closing(leaves):
        assert group.get("key") == b"key"
        monkeypatch.setattr(type(lane), "fetch_missed", late)
        leaves.start()
        assert asked.wait(5)
        leaves.close()
        assert group.peek("key") == b"key"


def test_batch_of_a_node_that_closes_is_no_failure_of_the_library(caplog: pytest.LogCaptureFixture) -> None:
    """Ask for keys once the lane of a node that is closing is closed."""
    loads: Counter[str] = Counter()
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    registry = f"static://{','.join(addresses)}"
    first, second = (Watched(address, registry, loads) for address in addresses)
    with closing(first.node), closing(second.node):
        wait_until(lambda: len(first.node.members()) == len(second.node.members()) == 2)
        first.node._runtime.lane.close()
        with suppress(NodeClosed):  # unless it considers the other dead by now, and loads the keys itself
            first.group.get_many(KEYS)
    assert "inside the library" not in caplog.text
