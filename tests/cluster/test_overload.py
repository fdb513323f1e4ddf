"""Ten times what the loaders can do: queues stay bounded, what is shed is Overloaded, and hits are as fast as ever."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from multiprocessing import get_context
from typing import Any

import pytest

from kamacache import Group, KamaCacheError, Member, Node, ValueTooLarge
from kamacache.load.pool import QUEUE_FACTOR
from tests.cluster.asking import footprint, hit_times
from tests.cluster.cluster import PATIENCE, in_thread, wait_until
from tests.cluster.conftest import Processes
from tests.support.table import Table

SOAK = "KAMACACHE_SOAK" in os.environ
SECONDS = 20.0 if SOAK else 1.0
THREADS, QUEUE = 4, 40
WARM = [f"warm{number}" for number in range(20)]


def check_unaffected(without: Iterable[float], meanwhile: Iterable[float]) -> None:
    assert statistics.median(meanwhile) < 5 * statistics.median(without) + 20e-6


@pytest.mark.parametrize("hangs", [False, True])
def test_ten_times_as_many_tasks(hangs: bool) -> None:
    """Let no more wait for the threads of a node than it says, also if its loader never returns."""
    go = threading.Event()

    def load(key: str) -> bytes:
        if not key.startswith("warm"):
            go.wait(None if hangs else 0.02)
        return key.encode()

    ends: Counter[str] = Counter()
    longest: list[float] = []

    async def one(group: Group[bytes], key: str) -> None:
        began = time.monotonic()
        try:
            ends["value" if await group.aget(key) == key.encode() else "wrong value"] += 1
        except KamaCacheError as error:
            ends[type(error).__name__] += 1
        longest.append(time.monotonic() - began)

    with closing(Node(loader_threads=THREADS, loader_queue=QUEUE)) as node:
        group = node.group("g", load, load_timeout="1s")
        group.get_many(WARM)
        without = hit_times(group, WARM, 0.3)
        waiting: list[int] = []

        async def pour() -> list[float]:
            meanwhile = in_thread(hit_times, group, WARM, SECONDS)
            tasks: list[asyncio.Task[None]] = []
            while not meanwhile.done():
                tasks += [asyncio.create_task(one(group, f"cold{len(tasks) + turn}")) for turn in range(20)]
                waiting.append(node._runtime.pool(0)._jobs.qsize())
                await asyncio.sleep(0.01)
            await asyncio.gather(*tasks)
            assert sum(ends.values()) == len(tasks)
            return list(meanwhile.result())

        check_unaffected(without, asyncio.run(pour()))
        assert QUEUE / 2 < max(waiting) <= QUEUE
        assert ends.pop("Overloaded") > sum(ends.values())
        assert set(ends) <= {"LoadTimeout"} if hangs else ends["value"] > 0 == ends["wrong value"]
        assert max(longest) < 1.0 + 4.0  # load_timeout, and a busy machine
        assert all(group.get(key) == key.encode() for key in WARM)
        assert threading.active_count() < THREADS + 20
        go.set()


@pytest.mark.parametrize("hangs", [False, True])
def test_ten_times_as_many_loads_of_peers(hangs: bool, local_processes: Processes) -> None:
    """Let no more loads of peers wait at their owner than it says, and find what is in memory there as fast as ever."""
    options: dict[str, Any] = {"slow": 0.05, "node": {"loader_threads": THREADS}}
    owner, other, asker = local_processes.make(3, group={"near_ttl": 0, "load_timeout": "1s"}, **options)
    prefixes = [f"{'hang' if hangs else 'cold'}{number}-" for number in range(120 if SOAK else 12)]
    cold = [key for prefix in prefixes for key in local_processes.keys_of(owner, prefix=prefix)]
    warm = local_processes.keys_of(owner, prefix="warm")[:20]
    owner.do("get_many", warm)
    without = [process.do("hit_times", warm, 0.3) for process in (owner, asker)]
    other.send("pour", cold, 200, SECONDS)
    waiting = []
    meanwhile: list[list[float]] = [[], []]
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        waiting.append(owner.do("waiting"))
        for process, times in zip((owner, asker), meanwhile, strict=True):
            times.extend(process.do("hit_times", warm, 0.1))
    poured = other.receive()
    for before, times in zip(without, meanwhile, strict=True):
        check_unaffected(before, times)
    assert THREADS * QUEUE_FACTOR / 2 < max(waiting) <= THREADS * QUEUE_FACTOR
    assert poured["ends"]["Overloaded"] > sum(poured["ends"].values()) / 2
    assert set(poured["ends"]) <= {"Overloaded", "LoadTimeout"} | (set() if hangs else {"value"})
    assert poured["longest"] < 1.0 + 4.0  # load_timeout, and a busy machine


ENTRY = 300  # bytes that an entry takes beside its key and value
SIZES = (0, 1, 100, 400, 511, 513, 4096, 65_536, 1 << 20, (4 << 20) - 1, 4 << 20, (4 << 20) + 1, 6 << 20)


def value(key: str) -> bytes:
    """Return the value of a key, which ends with its size."""
    size = int(key.rpartition(":")[2])
    return bytes([size % 251]) * size


def test_smallest_group_and_largest_values() -> None:
    """Return each value, keep what fits, and refuse to write what is larger than a node or a group takes.

    That has a process of its own: what other tests have left in this one would count as its memory.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(ask_and_write).result(timeout=3 * PATIENCE + 2 * SECONDS)


def ask_and_write() -> None:
    """Call three nodes with a group of 4 KiB each from eight threads."""
    table: dict[str | None, Member] = {}
    nodes = [Node("127.0.0.1:0", registry=Table(table)) for _ in range(3)]
    groups = [node.group("g", value, max_bytes="4 KiB", near_ttl="1s") for node in nodes]
    errors: list[BaseException] = []
    ends: Counter[str] = Counter()
    until = time.monotonic() + SECONDS

    def work(turn: int) -> None:
        chance = random.Random(turn)
        while time.monotonic() < until and not errors:
            group, size = chance.choice(groups), chance.choice(SIZES)
            keys = [f"{'k' * chance.choice((1, 10, 300))}{number}:{size}" for number in range(3)]
            try:
                match chance.choice(("get", "get", "get_many", "set", "set_many", "delete")):
                    case "get":
                        assert group.get(keys[0]) == value(keys[0])
                    case "get_many":
                        assert group.get_many(keys) == {key: value(key) for key in keys}
                    case "set":
                        group.set(keys[0], value(keys[0]))
                    case "set_many":
                        group.set_many({key: value(key) for key in keys})
                    case "delete":
                        group.delete(keys[0])
                ends["done"] += 1
                assert all(one.stats().bytes <= 4096 for one in groups)
            except ValueTooLarge:
                ends["too large"] += 1
                assert size + max(map(len, keys)) + ENTRY > 4096 // 8
            except BaseException as error:  # noqa: BLE001 - sent to the test
                errors.append(error)

    with ExitStack() as stack:
        for node in nodes:
            stack.enter_context(closing(node))
            node.start()
        wait_until(lambda: all(len(node.members()) == 3 for node in nodes))
        work(0)  # what a process takes by itself
        before = footprint()["resident"]
        until = time.monotonic() + SECONDS
        threads = [threading.Thread(target=work, args=(turn,)) for turn in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert min(ends["done"], ends["too large"]) > 10
        assert footprint()["resident"] - before < 300 << 10  # eight threads with three values of 6 MiB, twice
