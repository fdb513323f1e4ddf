"""An order that arrives after its writer gave up is refused, whatever the clocks of the members say."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from kamacache import Clock, Group, Member, Node
from kamacache.net.messages import WriteRequest
from kamacache.testing import Network
from tests.cluster.cluster import in_thread, wait_until
from tests.support.table import Table

HOUR = 3600.0


class Two:
    """Two nodes with a clock each; the first one writes, the second one owns the key."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.network = Network()
        self.clocks = [Clock(manual=True, unix=1e6 + ahead), Clock(manual=True, unix=1e6)]
        self.nodes = [Node(registry=self.network.registry(), lane=self.network.lane(), clock=c) for c in self.clocks]
        self.groups: list[Group[str]] = [node.group("g", lambda _: "loaded", codec="text") for node in self.nodes]
        for node in self.nodes:
            node.start()
        wait_until(lambda: all(len(node.members()) == 2 for node in self.nodes))
        keys = map(str, range(999))
        self.key = next(key for key in keys if self.nodes[0].owner("g", key).id == self.nodes[1].id)

    def advance(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.advance(seconds)

    def refused(self) -> list[bool]:
        """Return whether each order that was answered was refused."""
        sent = self.network.sent
        return [p.reply.refused for p in sent if p.stage == "reply" and isinstance(p.message, WriteRequest)]


@pytest.fixture
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    two = Two(getattr(request, "param", 0.0))
    yield two
    for node in two.nodes:
        node.close(drain=0)


@pytest.mark.parametrize("two", [0.0, HOUR, -HOUR], indirect=True, ids=["equal", "ahead", "behind"])
def test_a_late_order_is_refused_and_a_good_one_is_not(two: Two) -> None:
    """Let a write pass at once, and have the order of the next one come when its time is over.

    Its writer still waits here, as its time is the machine's: so it sends the order again.
    """
    assert two.groups[0].set(two.key, "first") is True
    assert two.refused() == [False]
    gate = two.network.gate(WriteRequest)
    write = in_thread(two.groups[0].set, two.key, "late")
    gate.wait()
    two.advance(2.0)
    gate.open()
    assert write.result(5) is True
    assert two.refused() == [False, True, False]


def test_a_late_decision_is_refused(two: Two) -> None:
    gate = two.network.gate(WriteRequest)
    write = in_thread(two.groups[0].add, two.key, "late")
    gate.wait()
    two.advance(2.0)
    gate.open()
    assert write.result(5) is True
    refused = two.refused()
    assert (refused[0], refused[-1]) == (True, False)


def test_a_node_writes_whose_clock_jumps(two: Two) -> None:
    """Members take the jump in with the next ping. A writer that has not heard of it yet sends its order again."""
    two.clocks[1].advance(HOUR)  # the owner's
    assert two.groups[0].set(two.key, "behind") is True
    assert two.refused() in ([True, False], [False])  # a ping may have come first
    two.clocks[0].advance(2 * HOUR)
    assert two.groups[0].set(two.key, "ahead") is True
    assert two.refused()[-1] is False
    for node in two.nodes:
        node._membership._exchange.again()
        node._membership.refresh()
    times = [node._runtime.hlc.now_ms for node in two.nodes]
    wait_until(lambda: times[0]() == times[1]())
    assert times[0]() == (1e6 + 3 * HOUR) * 1000  # this clock also says what has passed since the first jump


def test_orders_over_sockets_say_how_long_their_writers_wait() -> None:
    """Have the owner's clock jump, so that it refuses the orders of a writer that has not heard of it yet."""
    table: dict[str | None, Member] = {}
    clocks = [Clock(manual=True, unix=1e6) for _ in range(2)]
    nodes = [Node("127.0.0.1:0", registry=Table(table), clock=clock) for clock in clocks]
    groups: list[Group[str]] = [node.group("g", lambda _: "loaded", codec="text") for node in nodes]
    try:
        for node in nodes:
            node.start()
        wait_until(lambda: all(len(node.members()) == 2 for node in nodes))
        wait_until(lambda: groups[0].set("settled", "") is True)
        key = next(key for key in map(str, range(999)) if nodes[0].owner("g", key).id == nodes[1].id)
        membership = nodes[0]._membership
        with patch.object(membership, "learn", wraps=membership.learn) as learn:
            for _ in range(5):  # a ping may tell the writer first
                clocks[1].advance(HOUR)
                assert groups[0].set(key, "good") is True
                if learn.called:
                    break
        assert learn.call_args.args[0].now_ms >= (1e6 + HOUR) * 1000
    finally:
        for node in nodes:
            node.close(drain=0)
