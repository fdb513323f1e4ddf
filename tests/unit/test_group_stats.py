"""Every key asked is counted once, in exactly one way; entries that leave memory are passed to on_evict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Clock, Group, KamaCacheError, Node, Value
from kamacache.net.messages import Member
from kamacache.testing import MemoryRegistry, Network
from tests.unit.groups import AsyncHeld, Held, answered, begun, counts, until

THREADS = 4
TASKS = 20
ROUNDS = 60


def load(key: str) -> Any:
    """Return values, None, values of the wrong type, and values that expire at once; be slow, or raise."""
    number = int(key)
    if number % 7 == 0:
        raise OSError(key)
    if number % 7 == 1:
        return None
    if number % 7 == 2:
        return "text"
    if number % 7 == 3:
        threading.Event().wait(0.02)
    return Value(key.encode(), ttl="1ms") if number % 7 == 4 else key.encode()


async def aload(key: str) -> Any:
    if int(key) % 7 == 3:
        await asyncio.sleep(0.02)
        return key.encode()
    return load(key)


class Crowd:
    """Threads and tasks that ask in every way, and count their keys."""

    def __init__(self, group: Group[Any], seed: int) -> None:
        self.group = group
        self.seed = seed
        self.asked: Counter[str] = Counter()

    def keys(self, rng: random.Random) -> list[str]:
        return [str(rng.randrange(40)) for _ in range(rng.choice([1, 1, 2, 10]))]

    def thread(self, number: int) -> None:
        rng = random.Random(f"{self.seed} {number}")
        for _ in range(ROUNDS):
            keys = self.keys(rng)
            self.asked[f"thread {number}"] += len(set(keys))
            with contextlib.suppress(KamaCacheError):
                self.group.get(keys[0]) if len(keys) == 1 else self.group.get_many(keys)
            if rng.random() < 0.1:
                self.group.delete(keys[0], wait=rng.random() < 0.5)
            elif rng.random() < 0.01:
                self.group.clear()

    async def one(self, keys: list[str]) -> None:
        self.asked["tasks"] += len(set(keys))
        with contextlib.suppress(KamaCacheError):
            await (self.group.aget(keys[0]) if len(keys) == 1 else self.group.aget_many(keys))

    async def task(self, number: int) -> None:
        rng = random.Random(f"{self.seed} task {number}")
        for _ in range(ROUNDS):
            task = asyncio.create_task(self.one(self.keys(rng)))
            await asyncio.sleep(0)
            if rng.random() < 0.2:
                task.cancel()
            await asyncio.wait([task])

    async def tasks(self) -> None:
        await asyncio.gather(*(self.task(number) for number in range(TASKS)))

    def run(self) -> None:
        threads = [threading.Thread(target=self.thread, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        asyncio.run(self.tasks())
        for thread in threads:
            thread.join()

    def check(self) -> None:
        stats = self.group.stats()
        assert stats.gets == self.asked.total()
        assert answered(stats) == stats.gets


@pytest.mark.parametrize("loader", [load, aload], ids=["plain", "async"])
def test_each_key_counts_once_alone(loader: Callable[[str], Any]) -> None:
    with Node() as node:
        crowd = Crowd(node.group("g", loader, load_timeout="10ms", negative_ttl="5ms"), seed=1)
        crowd.run()
        crowd.check()
        stats = crowd.group.stats()
        assert min(stats.hits, stats.absent, stats.joined, stats.loads, stats.load_errors, stats.writes) > 0
        assert (stats.near_hits, stats.peer_hits, stats.peer_loads, stats.served) == (0, 0, 0, 0)


def test_each_key_counts_once_on_each_of_two_nodes() -> None:
    network = Network()
    nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]
    groups = [node.group("g", load, load_timeout="50ms", negative_ttl="5ms", near_ttl="20ms") for node in nodes]
    for node in nodes:
        node.start()
    until(lambda: all(len(node.members()) == 2 for node in nodes))
    crowds = [Crowd(group, seed) for seed, group in enumerate(groups)]
    threads = [threading.Thread(target=crowd.run) for crowd in crowds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for crowd in crowds:
        crowd.check()
        stats = crowd.group.stats()
        assert min(stats.hits, stats.near_hits, stats.joined, stats.loads, stats.peer_loads, stats.served) > 0
    for node in nodes:
        node.close()


class Stuck(MemoryRegistry):
    """A registry that does not answer."""

    go = threading.Event()

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        assert self.go.wait(10)
        super().register(service, me, changed)


def test_a_caller_that_gives_up_while_the_node_starts_has_been_counted() -> None:
    network = Network()
    node = Node(registry=Stuck(network), lane=network.lane())
    group = node.group("g", str.encode)

    async def main() -> None:
        for asking in (group.aget("k"), group.aget_many(["a", "b"])):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await asking

    asyncio.run(main())
    assert counts(group) == {"joined": 3}
    Stuck.go.set()
    node.close()


def test_a_load_that_runs_out_of_time_is_a_load_error(node: Node) -> None:
    held = AsyncHeld()
    group = node.group("g", held, load_timeout="20ms")
    with pytest.raises(TimeoutError):
        group.get("k")
    until(lambda: group.stats().load_errors == 1)
    assert counts(group) == {"loads": 1}


def test_the_size_of_kept_entries(node: Node, clock: Clock) -> None:
    group = node.group("g", str.encode, max_bytes="1 MiB", ttl="10s", jitter=0)
    for number in range(100):
        group.get(f"{number:03}")
    stats = group.stats()
    assert (stats.entries, stats.max_bytes, stats.near_bytes) == (100, 2**20, 0)
    assert stats.bytes >= 600
    assert stats.hit_rate == 0.0
    clock.advance(11)
    until(lambda: group.stats().expirations == 100)
    assert (group.stats().entries, group.stats().bytes) == (0, 0)


def test_the_budget_is_kept(node: Node) -> None:
    group = node.group("g", lambda _: bytes(300), max_bytes="8 KiB")
    for number in range(200):
        group.get(str(number))
        assert group.stats().bytes <= 8192
    stats = group.stats()
    assert stats.evictions == 200 - stats.entries
    assert stats.entries > 5


# -- on_evict ----------------------------------------------------------------------------------------------------------


class Told:
    """An on_evict that notes its arguments and its thread."""

    def __init__(self) -> None:
        self.gone: list[tuple[str, Any, str]] = []
        self.threads: set[int] = set()

    def __call__(self, key: str, value: Any, reason: str) -> None:
        self.gone.append((key, value, reason))
        self.threads.add(threading.get_ident())


def test_evicted_entries_are_passed_to_on_evict(node: Node) -> None:
    told = Told()
    group: Group[Any] = node.group("g", lambda key: [key, "x" * 300], codec="json", max_bytes="8 KiB", on_evict=told)
    for begin in range(0, 60, 20):  # entries that wait for on_evict have the group's budget too
        group.get_many([str(number) for number in range(begin, begin + 20)])
        until(lambda: len(told.gone) == group.stats().evictions)
    assert len(told.gone) > 30
    assert all(value == [key, "x" * 300] and reason == "capacity" for key, value, reason in told.gone)
    assert threading.get_ident() not in told.threads


def test_expired_entries_are_passed_to_on_evict(node: Node, clock: Clock) -> None:
    told = Told()
    group = node.group("g", str.encode, ttl="10s", on_evict=told)
    group.get_many(["a", "b"])
    group.set("ever", b"v", ttl=None)
    clock.advance(11)
    until(lambda: len(told.gone) == 2)
    assert sorted(told.gone) == [("a", b"a", "expired"), ("b", b"b", "expired")]
    assert threading.get_ident() not in told.threads


def test_an_on_evict_that_fails_is_logged_once_in_a_while(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def failing(key: str, _value: bytes, _reason: str) -> None:
        told.append(key)
        raise LookupError(key)

    group = node.group("g", lambda _: b"x" * 300, max_bytes="8 KiB", on_evict=failing)
    for begin in range(0, 60, 10):
        group.get_many([str(number) for number in range(begin, begin + 10)])
        until(lambda: len(told) == group.stats().evictions)
    assert len(told) > 30
    (line,) = [record for record in caplog.records if "on_evict" in record.message]
    assert line.exc_info is not None
    assert line.levelno == logging.ERROR


def test_overwritten_entries_are_not_evicted(node: Node, clock: Clock) -> None:
    told = Told()
    group = node.group("g", str.encode, ttl="10s", on_evict=told)
    group.get_many(["a", "b", "c", "d"])
    group.set("a", b"new", ttl="1h")
    group.delete("b")
    clock.advance(11)
    until(lambda: len(told.gone) == 2)
    group.clear()
    group.get("late")
    clock.advance(11)
    until(lambda: len(told.gone) == 3)
    assert sorted(key for key, *_ in told.gone) == ["c", "d", "late"]


def test_it_may_use_the_group(node: Node, clock: Clock) -> None:
    done = threading.Event()

    def on_evict(key: str, value: bytes, reason: str) -> None:
        group.set(f"old {key}", value)  # no lock is held
        assert group.get("other") == b"other"
        done.set()

    group = node.group("g", str.encode, ttl="10s", on_evict=on_evict)
    group.get("k")
    clock.advance(11)
    assert done.wait(10)
    assert group.peek("old k") == b"k"


def test_its_errors_are_logged(node: Node, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []

    def on_evict(key: str, value: bytes, reason: str) -> None:
        told.append(key)
        raise OSError("the disk is full")

    group = node.group("users", str.encode, ttl="10s", on_evict=on_evict)
    group.get_many(["a", "b"])
    with caplog.at_level(logging.ERROR, "kamacache"):
        clock.advance(11)
        until(lambda: len(told) == 2)
    assert sorted(told) == ["a", "b"]
    assert len(caplog.records) == 1, "one line in a while, with the first"
    assert {record.name for record in caplog.records} == {"kamacache"}
    assert "users" in caplog.records[0].getMessage()
    assert "the disk is full" in caplog.text


class Torn:
    """A codec that cannot read everything it has written."""

    shareable = False

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        if data == b"torn":
            raise OSError("torn")
        return data


def test_a_value_that_cannot_be_shown_stops_no_other(
    node: Node, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    torn = node.group("torn", str.encode, ttl="10s", codec=Torn(), on_evict=told)
    other = node.group("other", str.encode, ttl="10s", on_evict=told)
    torn.set("k", b"torn")
    clock.advance(11)
    until(lambda: "torn" in caplog.text)
    other.get("a")
    torn.get("b")
    clock.advance(11)
    until(lambda: len(told.gone) == 2)
    assert sorted(told.gone) == [("a", b"a", "expired"), ("b", b"b", "expired")]


def test_a_cancelled_get_counts_as_joined_or_led(node: Node) -> None:
    held = Held()
    group = node.group("g", held)

    async def main() -> None:
        callers = [asyncio.create_task(group.aget("k")) for _ in range(3)]
        await begun(held)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        held.go.set()

    asyncio.run(main())
    assert counts(group).keys() <= {"joined", "loads"}
    assert group.stats().gets == 3
