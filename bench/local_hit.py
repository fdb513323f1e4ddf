"""Measure a hit in the memory of the process, beside caches that keep Python objects in one process.

Each round times every cache in turn over the same slice of shuffled keys, short enough that a busy neighbour slows
all of them alike. Only ratios within a run carry over to other machines.
Each cache has a loop of its own, as in a program, where the interpreter adapts each call to what it meets there.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from cachebox import LRUCache, TTLCache

from bench.common import copied
from kamacache import Group, Node

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE = 5_000


class Cached:
    """A function of functools.lru_cache with the interface of the others."""

    __slots__ = ("get",)

    def __init__(self, get: Callable[[str], Any]) -> None:
        self.get = get


def group(node: Node, name: str, pairs: dict[str, bytes], ttl: float | None) -> Group[bytes]:
    made: Group[bytes] = node.group(name, None, max_bytes=1 << 30)
    store = made._core.store  # noqa: SLF001 - filled at once, with no cost of a write
    for key, value in pairs.items():
        store.put(key, value, 0, ttl, store.MAIN)
    return made


def caches(pairs: dict[str, bytes]) -> dict[str, Any]:
    @functools.lru_cache(maxsize=1 << 20)
    def cached(key: str) -> bytes:
        return pairs[key]

    for key in pairs:
        cached(key)
    ttl: Any = TTLCache(len(pairs) * 2, global_ttl=3600)
    lru: Any = LRUCache(len(pairs) * 2)
    for key, value in pairs.items():
        ttl[key] = value
        lru[key] = value
    node = Node()
    return {
        "kamacache": group(node, "ever", pairs, None),
        "kamacache, ttl": group(node, "ttl", pairs, 3600.0),
        "cachebox TTL": ttl,
        "cachebox LRU": lru,
        "dict": pairs,
        "lru_cache": Cached(cached),
    }


def timed(cache: Any, keys: list[str]) -> float:
    """Return the nanoseconds of CPU time of this thread for each get, the loop included."""
    start = time.thread_time_ns()
    for key in keys:
        cache.get(key)
    return (time.thread_time_ns() - start) / len(keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--keys", type=int, nargs="*", default=[500, 10_000, 100_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told: dict[int, dict[str, dict[str, float]]] = {}
    for count in options.keys:
        shuffle = random.Random(count)
        names = [f"{shuffle.getrandbits(80):020x}" for _ in range(count)]
        made = caches({name: bytes(100) for name in names})
        keys = names * max(1, 100_000 // count)
        shuffle.shuffle(keys)
        rounds: dict[str, list[float]] = {name: [] for name in made}
        loops = {name: copied(timed) for name in made}
        slices = [keys[at : at + SLICE] for at in range(0, len(keys), SLICE)]
        order = list(made)
        for part in slices * options.rounds:
            for name in order:
                rounds[name].append(loops[name](made[name], part))
            order.append(order.pop(0))  # the first finds the keys and values of a part cold, so each is first in turn
        told[count] = {name: summary(times, rounds["cachebox TTL"]) for name, times in rounds.items()}
    if options.json:
        print(json.dumps(told))
        return
    for count, rows in told.items():
        print(f"\n{count} keys{'':12} median   p10   p90   / cachebox TTL (of each round: median, p10, p90)")
        for name, row in rows.items():
            line = f"{row['ns']:8.1f} {row['p10']:5.0f} {row['p90']:5.0f}"
            print(f"{name:20} {line}   {row['ratio']:.2f} {row['ratio_p10']:.2f} {row['ratio_p90']:.2f}")


def summary(times: list[float], yardstick: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(times, yardstick, strict=True)]
    low, *_, high = statistics.quantiles(times, n=10)
    ratio_low, *_, ratio_high = statistics.quantiles(ratios, n=10)
    return {
        "ns": statistics.median(times),
        "p10": low,
        "p90": high,
        "ratio": statistics.median(ratios),
        "ratio_p10": ratio_low,
        "ratio_p90": ratio_high,
    }


if __name__ == "__main__":
    main()
