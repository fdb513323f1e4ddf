"""A hit in the process's own memory, against caches that keep Python objects in one process.

Each round times every cache in turn over the same slice of shuffled keys, short enough that a busy neighbour hits all
of them alike; only ratios within a run carry over to other machines.
The getter is called as users of a group call it: through an instance attribute bound to the native method.
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

from kamacache._engine import Clock, Store

if TYPE_CHECKING:
    from collections.abc import Callable

SLICE = 5_000


class Group:
    """As kamacache.Group: a class with slots whose get is the store's."""

    __slots__ = ("get",)

    def __init__(self, get: Callable[[str], Any]) -> None:
        """With the bound native method."""
        self.get = get


def store(pairs: dict[str, bytes], ttl: float | None) -> Group:
    made = Store(
        "bench",
        max_bytes=1 << 30,
        policy="s3fifo",
        clock=Clock(),
        near_ttl=5.0,
        remember=30.0,
        decode=None,
        shareable=False,
        keep_evicted=False,
    )
    for key, value in pairs.items():
        made.put(key, value, 0, ttl, made.MAIN)
    return Group(made.get)


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
    return {
        "kamacache": store(pairs, None),
        "kamacache, ttl": store(pairs, 3600.0),
        "cachebox TTL": ttl,
        "cachebox LRU": lru,
        "dict": pairs,
        "lru_cache": Group(cached),
    }


def timed(cache: Any, keys: list[str]) -> float:
    """Nanoseconds of this thread's CPU for each get, the loop included."""
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
        slices = [keys[at : at + SLICE] for at in range(0, len(keys), SLICE)]
        for part in slices * options.rounds:
            for name, cache in made.items():
                rounds[name].append(timed(cache, part))
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
