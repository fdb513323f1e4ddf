"""Writes with wait=False: dropped here at once, waited for by gets, in order, and sent before the node is closed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Group, Node
from kamacache.net.messages import LoadRequest, TellRequest, WriteRequest
from kamacache.testing import Gate, Network
from tests.unit.groups import WAYS, Caller, Held, call, settled, until, waiting


class Pair:
    """Two nodes in one network, and a group of each. The source has b"old" for every key."""

    def __init__(self) -> None:
        self.network = Network()
        self.nodes = [Node(registry=self.network.registry(), lane=self.network.lane()) for _ in range(2)]
        self.groups: list[Group[bytes]] = [node.group("g", lambda _: b"old") for node in self.nodes]
        for node in self.nodes:
            node.start()
        until(lambda: all(len(node.members()) == 2 for node in self.nodes))

    def keys(self, owner: int, number: int = 1) -> list[str]:
        """Return keys that this node owns."""
        address = self.nodes[owner].address
        found = (key for key in map(str, range(100_000)) if self.nodes[0].owner("g", key).address == address)
        return [next(found) for _ in range(number)]


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    for node in pair.nodes:
        node.close()


def quiet(pair: Pair) -> None:
    """Wait until nothing is pending on the first node."""
    until(lambda: not pair.groups[0]._core.behind._count())


@pytest.mark.parametrize("way", WAYS)
def test_alone(node: Node, way: str) -> None:
    group = node.group("g", str.encode)
    assert call(way, group, "set", "a", b"1", wait=False) is None
    assert call(way, group, "get", "a") == b"1"
    assert call(way, group, "set_many", {"a": b"2", "b": b"2"}, wait=False) is None
    assert call(way, group, "get_many", ["a", "b"]) == {"a": b"2", "b": b"2"}
    assert call(way, group, "delete", "a", wait=False) is None
    assert call(way, group, "get", "a") == b"a"
    assert call(way, group, "delete_many", ["a", "b"], wait=False) is None
    assert call(way, group, "get_many", ["a", "b"]) == {"a": b"a", "b": b"b"}
    group.set("a", b"3")
    assert call(way, group, "clear", wait=False) is None
    assert call(way, group, "get", "a") == b"a"
    assert call(way, group, "set_many", {}, wait=False) is None
    assert group.stats().writes == 8


@pytest.mark.parametrize("owner", [0, 1], ids=["own", "peer's"])
@pytest.mark.parametrize("way", WAYS)
def test_a_get_waits_for_the_write(pair: Pair, way: str, owner: int) -> None:
    here, there = pair.groups
    (key,) = pair.keys(owner)
    assert (here.get(key), there.get(key)) == (b"old", b"old")
    gate = pair.network.gate(TellRequest if owner == 0 else WriteRequest)
    assert here.set(key, b"new", wait=False) is None
    if owner == 1:
        assert here.peek(key) is None  # the own copy is gone
    gate.wait()
    single = waiting(call, way, here, "get", key) if way == "sync" else Caller(call, way, here, "get", key)
    batch = Caller(call, way, here, "get_many", [key])
    until(lambda: here.stats().gets == 3 or owner == 0)
    gate.open()
    assert single.result() == b"new"
    assert batch.result() == {key: b"new"}
    quiet(pair)
    assert there.get(key) == b"new"


def test_nothing_that_arrives_is_kept(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    reply = pair.network.gate(LoadRequest, stage="reply")
    fetch = waiting(here.get, key)
    reply.wait()  # the old value is on its way
    write = pair.network.gate(WriteRequest)
    here.set(key, b"new", wait=False)
    write.wait()
    reply.open()
    assert fetch.result() == b"old"  # asked for before the write
    assert here.peek(key) is None
    write.open()
    assert here.get(key) == b"new"
    assert there.get(key) == b"new"


def test_a_load_under_way_is_not_kept(node: Node) -> None:
    held = Held(lambda _: b"old")
    group = node.group("g", held)
    leader = Caller(group.get, "k")
    held.wait_begun()
    group.set("k", b"new", wait=False)
    assert group.get("k") == b"new"
    held.go.set()
    assert leader.result() in {b"old", b"new"}
    assert group.peek("k") == b"new"


@pytest.mark.parametrize("owner", [0, 1], ids=["own", "peer's"])
def test_writes_of_one_key_stay_in_order(pair: Pair, owner: int) -> None:
    here, there = pair.groups
    (key,) = pair.keys(owner)
    gate = pair.network.gate(TellRequest if owner == 0 else WriteRequest)
    here.set(key, b"first", wait=False)
    gate.wait()
    for number in range(50):
        here.set(key, str(number).encode(), wait=False)
    here.delete(key, wait=False)
    here.set(key, b"last", wait=False)
    gate.open()
    assert here.get(key) == b"last"
    quiet(pair)
    assert (here.get(key), there.get(key)) == (b"last", b"last")


def test_a_write_that_is_waited_for_comes_after_those_that_are_not(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    gate = pair.network.gate(WriteRequest)
    here.set(key, b"first", wait=False)
    gate.wait()
    second = waiting(here.set, key, b"second")
    gate.open()
    assert second.result() is True
    assert (here.get(key), there.get(key)) == (b"second", b"second")


@pytest.mark.parametrize("wait", [True, False])
def test_a_clear_comes_after_the_writes_before_it(pair: Pair, wait: bool) -> None:
    here, there = pair.groups
    keys = pair.keys(1, 3)
    gate = pair.network.gate(WriteRequest)
    here.set(keys[0], b"new", wait=False)
    gate.wait()
    here.set_many(dict.fromkeys(keys, b"newer"), wait=False)
    clear = waiting(lambda: here.clear(wait=wait))
    gate.open()
    assert clear.result() is (True if wait else None)
    assert here.get_many(keys) == dict.fromkeys(keys, b"old")
    quiet(pair)
    assert there.get_many(keys) == dict.fromkeys(keys, b"old")


def test_gets_wait_for_a_clear(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    there.set(key, b"set")
    gate = pair.network.gate(TellRequest)
    assert here.clear(wait=False) is None
    gate.wait()
    caller = waiting(here.get, key)
    assert not caller.future.done()
    gate.open()
    assert caller.result() == b"old"
    assert there.get(key) == b"old"


def test_a_set_after_a_clear_stays(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    gate = pair.network.gate(TellRequest)
    here.clear(wait=False)
    gate.wait()
    here.set(key, b"new", wait=False)
    gate.open()
    assert here.get(key) == b"new"
    quiet(pair)
    assert there.get(key) == b"new"


@pytest.mark.parametrize("whole", [False, True], ids=["group", "node"])
def test_close_sends_pending_writes(pair: Pair, whole: bool) -> None:
    here, there = pair.groups
    keys = pair.keys(1, 3)
    there.get_many(keys)
    gate = pair.network.gate(WriteRequest)
    here.set(keys[0], b"new", wait=False)
    gate.wait()
    here.set_many(dict.fromkeys(keys, b"new"), wait=False)
    closing = waiting(pair.nodes[0].close if whole else here.close)
    gate.open()
    closing.result()
    assert there.get_many(keys) == dict.fromkeys(keys, b"new")


def test_close_sends_a_pending_clear(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    there.set(key, b"set")
    gate = pair.network.gate(TellRequest)
    here.clear(wait=False)
    gate.wait()
    closing = waiting(pair.nodes[0].close)
    assert not closing.future.done()
    gate.open()
    closing.result()
    assert there.peek(key) is None


def fill(pair: Pair, keys: list[str]) -> Gate:
    """Leave ten thousand writes pending on the first node, and held."""
    gate = pair.network.gate(WriteRequest)
    pair.groups[0].set_many(dict.fromkeys(keys[:-1], b"new"), wait=False)
    gate.wait()
    pair.groups[0].set(keys[-1], b"new", wait=False)  # ten thousand are not too many
    return gate


def check_all_arrived(pair: Pair, keys: list[str]) -> None:
    quiet(pair)
    there = pair.groups[1]
    assert there.peek(keys[0]) == b"newest"
    assert all(there.peek(key) == b"new" for key in keys[1:])


def test_above_ten_thousand_a_thread_waits(pair: Pair) -> None:
    keys = pair.keys(1, 10_001)
    gate = fill(pair, keys)
    more = waiting(lambda: pair.groups[0].set(keys[0], b"newest", wait=False))
    assert not more.future.done()
    gate.open()
    assert more.result() is None
    check_all_arrived(pair, keys)


def test_above_ten_thousand_a_task_waits(pair: Pair) -> None:
    keys = pair.keys(1, 10_001)
    gate = fill(pair, keys)

    async def main() -> None:
        more = asyncio.create_task(pair.groups[0].aset(keys[0], b"newest", wait=False))
        await settled()
        assert not more.done()
        gate.open()
        assert await more is None

    asyncio.run(main())
    check_all_arrived(pair, keys)


def test_a_write_goes_on_when_its_caller_is_cancelled(pair: Pair) -> None:
    here, there = pair.groups
    (key,) = pair.keys(1)
    gate = pair.network.gate(WriteRequest)

    async def main() -> Any:
        task = asyncio.create_task(here.aset(key, b"new"))
        await asyncio.to_thread(gate.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.open()
        while there.peek(key) != b"new":  # noqa: ASYNC110 - a peer's memory has no event
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 10))


def test_its_thread_ends_with_the_group_and_the_node(node: Node) -> None:
    """Check that no thread that looks for more writes stays for seconds."""

    def writers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("kamacache-writes-ends")]

    for name in ("ends-1", "ends-2"):
        group = node.group(name)
        group.set("key", b"value", wait=False)
        assert writers()
        began = time.monotonic()
        (group if name == "ends-1" else node).close()
        until(lambda: not writers())
        assert time.monotonic() - began < 2
