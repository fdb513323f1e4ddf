"""Loads in bulk: how many keys a load_many gets, single gets that become one batch, and loads that run side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from kamacache import ConfigError, Group, LoadError, Node
from kamacache.net.messages import LoadRequest
from kamacache.testing import MakeCluster
from tests.unit.groups import PATIENCE, WAYS, call, counts, settled

LoadMany = Callable[[list[str]], Any]


class Batches:
    """A load_many, plain or async, that notes what it was asked for. Key "bad" fails its batch."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def plain(self, keys: list[str]) -> dict[str, bytes]:
        self.asked.append(keys[:])
        if "bad" in keys:
            raise OSError("bad")
        found = {key: key.encode() for key in keys}
        keys.clear()  # the list is its own
        return found

    async def asynchronous(self, keys: list[str]) -> dict[str, bytes]:
        await asyncio.sleep(0)
        return self.plain(keys)

    def of(self, kind: str) -> LoadMany:
        return self.plain if kind == "plain" else self.asynchronous

    @property
    def sizes(self) -> list[int]:
        return [len(keys) for keys in self.asked]


KINDS = pytest.mark.parametrize("kind", ["plain", "async"])


@pytest.mark.parametrize("way", WAYS)
@KINDS
def test_a_batch_is_cut(node: Node, way: str, kind: str) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.of(kind))
    keys = [str(number) for number in range(1200)]
    assert list(call(way, group, "get_many", keys)) == keys
    assert batches.sizes == [500, 500, 200]
    assert [key for part in batches.asked for key in part] == keys


@pytest.mark.parametrize("way", WAYS)
@KINDS
def test_a_part_that_fails_fails_alone(node: Node, way: str, kind: str) -> None:
    group = node.group("g", load_many=Batches().of(kind), max_batch=2)
    with pytest.raises(LoadError) as caught:
        call(way, group, "get_many", ["1", "2", "3", "bad", "5"])
    assert (caught.value.key, caught.value.loaded) == ("3", {"1": b"1", "2": b"2", "5": b"5"})


def together(group: Group[Any], *keys: str) -> list[Any]:
    """Return what single gets in tasks of one loop return."""

    async def main() -> list[Any]:
        return list(await asyncio.gather(*map(group.aget, keys), return_exceptions=True))

    return asyncio.run(main())


@pytest.mark.parametrize("window", [0, "20ms"])
@KINDS
def test_single_gets_of_tasks_become_one_batch(node: Node, kind: str, window: Any) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.of(kind), batch_window=window)
    node.start()
    assert together(group, "1", "2", "1", "3") == [b"1", b"2", b"1", b"3"]
    assert batches.asked == [["1", "2", "3"]]
    assert counts(group) == {"loads": 3, "joined": 1}
    assert together(group, "3", "4") == [b"3", b"4"]
    assert batches.asked[1:] == [["4"]]


def test_without_a_window_each_is_loaded_alone(node: Node) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.asynchronous)
    assert together(group, "1", "2") == [b"1", b"2"]
    assert batches.sizes == [1, 1]


def test_a_loader_for_single_keys_is_not_asked_in_a_window(node: Node) -> None:
    def alone(key: str) -> bytes:
        raise AssertionError(key)

    batches = Batches()
    group = node.group("g", alone, load_many=batches.plain, batch_window=0)
    assert together(group, "1", "2") == [b"1", b"2"]
    assert batches.sizes == [2]


def test_a_full_batch_does_not_wait(node: Node) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.asynchronous, batch_window="1h", max_batch=2)
    assert together(group, "1", "2", "3", "4") == [b"1", b"2", b"3", b"4"]
    assert batches.asked == [["1", "2"], ["3", "4"]]


def test_each_caller_of_a_batch_that_fails_gets_an_error(node: Node) -> None:
    group = node.group("g", load_many=Batches().asynchronous, batch_window=0)
    errors = together(group, "1", "bad", "bad")
    assert [(type(error), error.key) for error in errors] == [(LoadError, key) for key in ("1", "bad", "bad")]
    assert len(set(map(id, errors))) == 3


def test_a_cancelled_caller_leaves_the_others(node: Node) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.asynchronous, batch_window="20ms")

    async def main() -> None:
        gone, stays, other = (asyncio.create_task(group.aget(key)) for key in ("1", "1", "2"))
        await settled()
        gone.cancel()
        assert await stays == b"1"
        assert await other == b"2"
        assert gone.cancelled()

    node.start()
    asyncio.run(main())
    assert batches.asked == [["1", "2"]]


def test_a_loop_that_ends_before_its_window_leaves_nothing(node: Node) -> None:
    batches = Batches()
    group = node.group("g", load_many=batches.asynchronous, batch_window="20ms")
    node.start()

    async def leave() -> None:
        asyncio.create_task(group.aget("1"))  # noqa: RUF006 - left behind
        await settled()

    for _ in range(3):
        asyncio.run(leave())
    assert together(group, "1") == [b"1"]
    assert batches.asked == [["1"]]
    assert not group._core.misses._window._open


def test_a_get_inside_a_loader_does_not_wait_for_others(node: Node) -> None:
    inner = Batches()
    names = node.group("names", load_many=inner.asynchronous, batch_window="1h")

    async def load(key: str) -> bytes | None:
        return await names.aget(key)

    group = node.group("g", load)
    assert together(group, "1") == [b"1"]


def test_a_window_needs_load_many(node: Node) -> None:
    with pytest.raises(ConfigError, match="load_many"):
        node.group("g", str.encode, batch_window=0)


def test_members_are_asked_for_a_batch(kamacache_cluster: MakeCluster) -> None:
    made = [Batches(), Batches()]
    unused = iter(made)
    keys = [str(number) for number in range(20)]
    options: dict[str, Any] = {"batch_window": "1h", "max_batch": len(keys)}  # it begins when all have asked
    nodes = kamacache_cluster(2, lambda node: node.group("g", load_many=next(unused).asynchronous, **options))
    assert together(nodes[0].groups["g"], *keys) == [key.encode() for key in keys]
    assert sorted(batches.sizes for batches in made) == sorted(
        [sum(nodes[0].owner("g", key).id == node.id for key in keys)] for node in nodes
    )
    sent = [parcel for parcel in kamacache_cluster.network.sent if isinstance(parcel.message, LoadRequest)]
    assert len([parcel for parcel in sent if parcel.stage == "request"]) == 1


class Peak:
    """A loader that notes how many of its calls run at a time, and in which context; three wait for each other."""

    variable: ContextVar[str] = ContextVar("variable", default="")

    def __init__(self, at_once: int) -> None:
        self.met = threading.Barrier(at_once)
        self.lock = threading.Lock()
        self.running = self.peak = 0
        self.seen: set[str] = set()

    def _begin(self) -> None:
        with self.lock:
            self.running += 1
            self.peak = max(self.peak, self.running)
            self.seen.add(self.variable.get())

    def plain(self, key: str) -> bytes:
        self._begin()
        self.met.wait(PATIENCE)
        with self.lock:
            self.running -= 1
        return key.encode()

    async def asynchronous(self, key: str) -> bytes:
        self._begin()
        for _ in range(3):
            await asyncio.sleep(0)
        self.running -= 1
        return key.encode()

    def many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: self.plain(key) for key in keys}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("many", [False, True])
def test_plain_loaders_run_side_by_side(node: Node, way: str, *, many: bool) -> None:
    peak = Peak(3)
    loader: dict[str, Any] = {"load_many": peak.many, "max_batch": 1} if many else {"loader": peak.plain}
    group = node.group("g", **loader, concurrency=3)
    token = Peak.variable.set("of the caller")
    try:
        assert len(call(way, group, "get_many", [str(number) for number in range(9)])) == 9
    finally:
        Peak.variable.reset(token)
    assert peak.peak == 3
    assert peak.seen == {"of the caller"}


def test_the_function_of_a_call_stays_on_its_thread(node: Node) -> None:
    threads: list[str] = []
    batches = Batches()

    def load(keys: list[str]) -> dict[str, bytes]:
        threads.append(threading.current_thread().name)
        return batches.plain(keys)

    group = node.group("g", load_many=Batches().plain, concurrency=3, max_batch=2, batch_window=0)
    assert len(group.get_many_or_load(["1", "2", "3", "4", "5"], load)) == 5
    assert batches.sizes == [2, 2, 1]
    assert set(threads) == {threading.current_thread().name}


def test_plain_loaders_run_one_after_the_other(node: Node) -> None:
    peak = Peak(1)
    group = node.group("g", peak.plain)
    assert len(group.get_many([str(number) for number in range(5)])) == 5
    assert peak.peak == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("concurrency", "peak"), [(None, 9), (3, 3)])
def test_async_loaders_run_at_once_up_to_the_limit(node: Node, way: str, concurrency: int | None, peak: int) -> None:
    loader = Peak(1)
    group = node.group("g", loader.asynchronous, concurrency=concurrency)
    assert len(call(way, group, "get_many", [str(number) for number in range(9)])) == 9
    assert loader.peak == peak
