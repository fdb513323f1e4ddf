"""Batches: the loaded keys in their errors, the loads that they wait for, and the time for which they keep the loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Group, LoadError, LoadTimeout, Node
from kamacache.deadline import Deadline
from kamacache.net.messages import LoadRequest
from kamacache.testing import MemoryLane, Network
from tests.promises.support import KINDS, in_tasks, isolated, make_group
from tests.unit.groups import Caller, Held, begun, until

WAYS = ("get_many", "aget_many")
STRETCH = 0.020  # seconds for which a batch may keep the event loop


# -- keys that were loaded beside one that timed out -------------------------------------------------------------------


class Slow:
    """A source that answers at once, except for the key "slow"."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, key: str) -> bytes:
        if key == "slow":
            self.begun.release()
            self.go.wait(50)
        return key.encode()

    async def load(self, key: str) -> bytes:
        if key == "slow":
            self.begun.release()
            while not self.go.is_set():  # noqa: ASYNC110 - a thread sets it
                await asyncio.sleep(0.001)
        return key.encode()

    def load_many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: self(key) for key in keys}

    async def aload_many(self, keys: list[str]) -> dict[str, bytes]:
        return {key: await self.load(key) for key in keys}

    def group(self, kind: str) -> Group[bytes]:
        if kind == "plain":
            return Node().group("g", self, load_timeout="2s")
        if kind == "async":
            return Node().group("g", self.load, load_timeout="2s")
        return Node().group("g", load_many=self.load_many if kind == "many" else self.aload_many, load_timeout="2s")


# In the other cases one call loads the whole batch, or the caller's own thread loads it, which nothing can stop.
BY_THE_BATCH = [
    ("by the batch", "get_many", "async"),
    ("by the batch", "aget_many", "async"),
    ("by the batch", "aget_many", "plain"),
]
BY_ANOTHER = [("by another caller", way, kind) for way in WAYS for kind in KINDS]


@pytest.mark.parametrize(("led", "way", "kind"), BY_THE_BATCH + BY_ANOTHER)
@isolated()
def test_loaded_keys_beside_one_that_timed_out(led: str, way: str, kind: str) -> None:
    slow = Slow()
    group = slow.group(kind)
    assert group.get("known") == b"known"
    if led == "by another caller":
        Caller(group.get, "slow")
        assert slow.begun.acquire(timeout=20)
    keys = ["slow", "one", "known", "two"]
    error = in_tasks(lambda: group.aget_many(keys))[0] if way == "aget_many" else Caller(group.get_many, keys).error()
    assert isinstance(error, LoadTimeout), repr(error)
    assert error.key == "slow"
    assert dict(error.loaded) == {key: key.encode() for key in ("one", "known", "two")}
    assert group.peek("one") == b"one"
    slow.go.set()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["plain", "async"])
@isolated()
def test_loaded_keys_beside_one_that_failed(way: str, kind: str) -> None:
    def answer(key: str) -> bytes:
        if key == "bad":
            raise OSError(key)
        return key.encode()

    group = make_group(Node(), kind, answer)
    keys = ["bad", "one", "two"]
    error = in_tasks(lambda: group.aget_many(keys))[0] if way == "aget_many" else Caller(group.get_many, keys).error()
    assert isinstance(error, LoadError), repr(error)
    assert dict(error.loaded) == {"one": b"one", "two": b"two"}


# -- a batch from a peer -----------------------------------------------------------------------------------------------


class WatchedLane(MemoryLane):
    """A lane that says when a peer's request has been taken."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.taken = threading.Semaphore(0)

    def start(self, listen: str | None, receive: Callable[[Any], None], deadline: Deadline) -> str | None:
        def watched(call: Any) -> None:
            receive(call)
            if isinstance(call.message, LoadRequest):
                self.taken.release()

        return super().start(listen, watched, deadline)


def asked_by_a_peer(ask: str, first: str) -> float:
    """Return how long a peer's request that met an async caller's load took after the pool was free."""
    network = Network()
    lane = WatchedLane(network)
    held = Held()
    owner = Node(registry=network.registry(), lane=lane, loader_threads=1)
    peer = Node(registry=network.registry(), lane=network.lane(), loader_threads=1)
    groups = [node.group("g", held, load_timeout="5s") for node in (owner, peer)]
    for node in (owner, peer):
        node.start()
    until(lambda: len(owner.members()) == len(peer.members()) == 2)
    names = (f"k{number}" for number in itertools.count())
    busy, other, key = itertools.islice((name for name in names if peer.owner("g", name).address == owner.address), 3)

    async def main() -> float:
        tasks = []
        if first == "the pool is busy":
            tasks = [asyncio.create_task(groups[0].aget(busy))]
            await begun(held)
        asked = Caller(groups[1].get, key) if ask == "get" else Caller(groups[1].get_many, [other, key])
        async with asyncio.timeout(20):
            while not lane.taken.acquire(blocking=False):  # noqa: ASYNC110 - a thread releases it
                await asyncio.sleep(0.001)
        if first == "the batch is loading":
            await begun(held)
        tasks.append(asyncio.create_task(groups[0].aget(key)))  # its job stands behind the peer's
        for _ in range(10):
            await asyncio.sleep(0)
        began = time.monotonic()
        held.go.set()
        async with asyncio.timeout(20):
            assert await asyncio.gather(*tasks) == [busy.encode(), key.encode()][-len(tasks) :]
            answer = await asyncio.wrap_future(asked.future)
        assert (answer if ask == "get" else answer[key]) == key.encode()
        return time.monotonic() - began

    return asyncio.run(main())


@pytest.mark.parametrize("ask", ["get", "get_many"])
@pytest.mark.parametrize("first", ["the pool is busy", "the batch is loading"])
@isolated()
def test_a_peer_that_joins_the_load_of_a_task_never_waits_for_later_loads(ask: str, first: str) -> None:
    took = best_of(3, lambda: asked_by_a_peer(ask, first), 0.5)
    assert took < 0.9, f"{took:.2f} s"  # the load_timeout is 5 s, a peer's patience 1 s


# -- the event loop stays free -----------------------------------------------------------------------------------------


def best_of(times: int, measure: Callable[[], float], enough: float) -> float:
    """Return the least of some measurements, as others use the machine too; stop at one that is good enough."""
    best = measure()
    for _ in range(times - 1):
        if best <= enough:
            break
        best = min(best, measure())
    return best


@pytest.mark.parametrize("kind", KINDS)
@isolated()
def test_ten_thousand_cold_keys_keep_the_event_loop_free(kind: str) -> None:
    group = make_group(Node(), kind, str.encode)
    number = itertools.count()

    async def main() -> float:
        await group.aget("warm")
        run = next(number)
        keys = [f"{run}-{each}" for each in range(10_000)]
        gaps: list[float] = []

        async def tick() -> None:
            last, used = time.perf_counter(), time.process_time()
            while True:
                await asyncio.sleep(0)
                gap = -last + (last := time.perf_counter())
                gaps.append(min(gap, -used + (used := time.process_time())))  # not what other processes take

        ticker = asyncio.create_task(tick())
        await asyncio.sleep(0.01)
        found = await group.aget_many(keys)
        await asyncio.sleep(0)
        ticker.cancel()
        assert list(found) == keys
        return max(gaps)

    gc.collect()
    gc.freeze()  # a full collection of what the test imports takes longer than all of this
    longest = best_of(12, lambda: asyncio.run(main()), STRETCH)
    assert longest <= STRETCH, f"{longest * 1000:.1f} ms"
