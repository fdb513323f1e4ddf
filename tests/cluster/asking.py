"""Threads that ask for keys all the time, and one that notes how late this machine lets it wake."""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kamacache import Group
from kamacache.net.lane import PEEK_TIMEOUT

_NAP = 0.01  # seconds that the watching thread sleeps
_LATE = 0.02  # seconds of lateness that count: less is the usual turn of the interpreter
_COLD = 20  # new keys in a second
_KEPT = 10  # longest waits that each thread remembers

Answers = list[dict[str, Any]]


def footprint() -> dict[str, int]:
    """Return the resident KiB, the descriptors and the threads of this process."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * (os.sysconf("SC_PAGE_SIZE") >> 10)
    counts = {name: len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("fd", "task")}
    return {"resident": resident} | counts


class Stalls:
    """The times in which the machine, or another thread of this process, did not let a thread run."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._seen: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.is_set():
            due = time.monotonic() + _NAP
            time.sleep(_NAP)
            if (now := time.monotonic()) - due > _LATE:
                self._seen.append((due, now))

    def end(self) -> list[tuple[float, float]]:
        """Return when each began and ended, by the clock that all processes share."""
        self._ended.set()
        self._thread.join()
        return self._seen


class Asking:
    """Threads of this process that get random keys, each again and again, until `end`.

    Every tenth get is of a key that no process had asked for until a moment ago: the same in all of them.
    """

    def __init__(self, group: Group[Any], keys: list[str], threads: int, pause: float) -> None:
        self._group = group
        self._keys = keys
        self._pause = pause
        self._ended = threading.Event()
        self._gets = 0
        self._errors: list[str] = []
        self._waits: list[tuple[float, float, str]] = []  # seconds, when it began, key
        self._stalls = Stalls()
        self._threads = [threading.Thread(target=self._ask, args=(turn,), daemon=True) for turn in range(threads)]
        for thread in self._threads:
            thread.start()

    def _ask(self, turn: int) -> None:
        chance, gets = random.Random(turn), 0
        longest: list[tuple[float, float, str]] = []
        while not self._ended.is_set():
            key = chance.choice(self._keys) if gets % 10 else f"cold{int(time.time() * _COLD)}"
            began = time.monotonic()
            try:
                if self._group.get(key) != f"value of {key}":
                    self._errors.append(f"{key}: wrong value")
            except Exception as error:  # noqa: BLE001 - the test tells
                self._errors.append(f"{key}: {error!r}")
            wait = (time.monotonic() - began, began, key)
            (heapq.heappush if len(longest) < _KEPT else heapq.heappushpop)(longest, wait)
            gets += 1
            time.sleep(self._pause)
        self._gets += gets
        self._waits += longest

    def end(self, timeout: float = 30.0) -> dict[str, Any]:
        """Return the number of gets, the errors, the longest waits and the stalls."""
        self._ended.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        hanging = sum(thread.is_alive() for thread in self._threads)
        errors = self._errors[:20] + ["hangs"] * hanging
        return {"gets": self._gets, "errors": errors, "waits": self._waits, "stalls": self._stalls.end()}


async def ask_in_task(group: Group[Any], keys: list[str]) -> None:
    """Get keys until the process ends."""
    for number in itertools.count():
        await group.aget(keys[number % len(keys)] if number % 10 else f"cold{time.time()}")


def hit_times(group: Group[Any], keys: list[str], seconds: float) -> list[float]:
    """Return how long hits take: the median of each round, so that a stall of the machine is in few of them."""
    until = time.monotonic() + seconds
    medians = []
    while time.monotonic() < until:
        took = []
        for key in keys * 5:
            began = time.perf_counter()
            group.get(key)
            took.append(time.perf_counter() - began)
        medians.append(statistics.median(took))
        time.sleep(0.002)
    return medians


def pour(group: Group[Any], keys: list[str], threads: int, seconds: float) -> dict[str, Any]:
    """Get keys that nobody has, each once, from many threads. Return how the gets ended, and how long the longest took.

    Threads that do not end in time count as "hangs".
    """
    ends: Counter[str] = Counter()
    longest = [0.0]
    todo, until = iter(keys), time.monotonic() + seconds

    def work() -> None:
        for key in todo:  # each thread takes the next one
            began = time.monotonic()
            if began > until:
                return
            try:
                end = "value" if group.get(key) == f"value of {key}" else "wrong value"
            except Exception as error:  # noqa: BLE001 - the test tells
                end = type(error).__name__
            ends[end] += 1
            longest[0] = max(longest[0], time.monotonic() - began)
            time.sleep(0.01 if end == "Overloaded" else 0.0)

    running = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    until_all = until + 20
    for thread in running:
        thread.join(max(0.0, until_all - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in running)
    return {"ends": dict(ends + Counter(hangs=hanging)), "longest": longest[0]}


def check(answers: Answers, most: float = 1.0) -> bool:
    """Check that no get failed, and none took longer than it may by the library's own doing.

    What the machine took is not counted: stalls of any process that were seen, and one more as long as the longest.
    Return whether no member can have been passed over that lives, as each answered in time.
    """
    assert [error for answer in answers for error in answer["errors"]] == []
    assert all(answer["gets"] > 100 for answer in answers)
    stalls = union(stall for answer in answers for stall in answer["stalls"])
    longest = max((ended - began for began, ended in stalls), default=0.0)
    waits = [(took - within(stalls, began, took), took, key) for one in answers for took, began, key in one["waits"]]
    print(sum(one["gets"] for one in answers), "gets; longest", max(waits), "longest stall", longest)  # noqa: T201
    assert max(waits)[0] < most + longest
    return longest < 0.05 and max(took for _, took, _ in waits) < PEEK_TIMEOUT


def union(stalls: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return stalls of several processes without overlaps."""
    made: list[tuple[float, float]] = []
    for began, ended in sorted(map(tuple, stalls)):
        if made and began <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], ended)
        else:
            made.append((began, ended))
    return made


def within(stalls: list[tuple[float, float]], began: float, took: float) -> float:
    """Return how many seconds of a wait were stalls."""
    return sum(max(0.0, min(ended, began + took) - max(start, began)) for start, ended in stalls)
