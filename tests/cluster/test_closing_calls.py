"""Calls that find the connections of their own node closed: they raise NodeClosed, and blame no other member."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kamacache import Group, Node
from kamacache.errors import NodeClosed
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import free_ports

CALLS: dict[str, Callable[[Group[Any], str], Any]] = {
    "get": lambda group, key: group.get(key),
    "get_many": lambda group, key: group.get_many([key]),
    "get_entry": lambda group, key: group.get_entry(key),
    "get_or_load": lambda group, key: group.get_or_load(key, str.encode),
    "contains": lambda group, key: group.contains(key),
    "incr": lambda group, key: group.incr(key, initial=0),
    "add": lambda group, key: group.add(key, b"1"),
    "pop": lambda group, key: group.pop(key, None),
    "remove": lambda group, key: group.remove(key),
    "touch": lambda group, key: group.touch(key, 60),
    "set": lambda group, key: group.set(key, b"1"),
    "set_many": lambda group, key: group.set_many({key: b"1", f"{key}x": b"2"}),
    "set if_present": lambda group, key: group.set(key, b"1", if_present=True),
    "delete": lambda group, key: group.delete(key),
    "clear": lambda group, _: group.clear(),
    "delete_prefix": lambda group, key: group.delete_prefix(key),
    "lock": lambda group, key: group.lock(key, lease=5).__enter__(),
}
ACALLS: dict[str, Callable[[Group[Any], str], Any]] = {
    "aget": lambda group, key: group.aget(key),
    "aget_many": lambda group, key: group.aget_many([key]),
    "aget_entry": lambda group, key: group.aget_entry(key),
    "aincr": lambda group, key: group.aincr(key, initial=0),
    "aset": lambda group, key: group.aset(key, b"1"),
    "aclear": lambda group, _: group.aclear(),
}


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    """Yield two members of one cluster, each of which knows the other."""
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    pair = [Node(address, registry=f"static://{first},{second}") for address in (first, second)]
    for node in pair:
        node.group("g")
        node.start()
    wait_until(lambda: all(len(node.members()) == 2 for node in pair))
    yield pair[0], pair[1]
    for node in pair:
        node.close(drain=0)  # else the last waits for one that takes over


def cut_off(node: Node, other: Node) -> tuple[Group[Any], str]:
    """Close the connections of a node, as its close does under the calls that have begun. Return what they ask for."""
    group = node.groups["g"]
    key = next(key for key in map(str, range(1000)) if node.owner("g", key).id == other.id)
    node._membership.stop()  # its pings would find out
    assert node._membership._thread is not None
    node._membership._thread.join()
    node._runtime.lane.close()
    return group, key


def assert_not_blamed(node: Node) -> None:
    assert not any(peer.dead or peer.down for peer in node._membership.peers.all())


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_calls_of_a_thread(nodes: tuple[Node, Node], call: Callable[[Group[Any], str], Any]) -> None:
    group, key = cut_off(*nodes)
    with pytest.raises(NodeClosed):
        call(group, key)
    assert_not_blamed(nodes[0])


def test_a_write_on_terms_says_that_it_may_have_been_applied(nodes: tuple[Node, Node]) -> None:
    group, key = cut_off(*nodes)
    with pytest.raises(NodeClosed, match="whether the write was applied is not known"):
        group.incr(key, initial=0)


@pytest.mark.parametrize("call", ACALLS.values(), ids=ACALLS)
def test_calls_of_a_task(nodes: tuple[Node, Node], call: Callable[[Group[Any], str], Any]) -> None:
    group, key = cut_off(*nodes)

    async def run() -> None:
        with pytest.raises(NodeClosed):
            await call(group, key)

    asyncio.run(run())
    assert_not_blamed(nodes[0])
