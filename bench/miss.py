"""Measure a miss on a single node whose loader returns at once, beside caches that keep objects in one process.

    python -m bench.miss [--rounds 30] [--keys 1000] [--json]

Each round times every cache in turn, each over new keys of its own. A time is processor time of the whole process, so
that work given to another thread counts too. Each cache pays for the garbage it makes: the garbage of others is
collected before its turn. The run fails unless every key was loaded. Only ratios within a run carry over to other
machines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

from async_lru import alru_cache
from cachetools import LRUCache, cached

from bench.common import copied, spread
from kamacache import Node

BATCH = 100
ROOM = 1 << 20  # keys, more than are asked for: nothing is evicted
VALUE = bytes(100)
PEERS = {"get": "cachetools cached", "aget": "async-lru"}

Times = dict[str, list[float]]
Spread = dict[str, float]


class Way(NamedTuple):
    """A function under test, and how many keys were loaded for it so far."""

    call: Callable[[Any], Any]
    loads: Callable[[], int]


def load(_key: str) -> bytes:
    return VALUE


def load_object(key: str) -> dict[str, Any]:
    return {"id": 1, "name": key, "tags": ["a", "b"]}


def load_many(keys: list[str]) -> dict[str, bytes]:
    return dict.fromkeys(keys, VALUE)


async def aload(_key: str) -> bytes:
    return VALUE


# -- the loops that are timed ------------------------------------------------------------------------------------------


def one_by_one(get: Callable[[str], Any], keys: list[str]) -> float:
    """Return the microseconds for each key, the loop included."""
    begun = time.process_time_ns()
    for key in keys:
        get(key)
    return (time.process_time_ns() - begun) / len(keys) / 1000


async def aone_by_one(aget: Callable[[str], Awaitable[Any]], keys: list[str]) -> float:
    """Return the microseconds for each key, the loop included."""
    begun = time.process_time_ns()
    for key in keys:
        await aget(key)
    return (time.process_time_ns() - begun) / len(keys) / 1000


def in_batches(get_many: Callable[[list[str]], Any], keys: list[str]) -> float:
    """Return the microseconds for each key."""
    batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
    begun = time.process_time_ns()
    for batch in batches:
        get_many(batch)
    return (time.process_time_ns() - begun) / len(keys) / 1000


async def ain_batches(aget_many: Callable[[list[str]], Awaitable[Any]], keys: list[str]) -> float:
    """Return the microseconds for each key."""
    batches = [keys[at : at + BATCH] for at in range(0, len(keys), BATCH)]
    begun = time.process_time_ns()
    for batch in batches:
        await aget_many(batch)
    return (time.process_time_ns() - begun) / len(keys) / 1000


# -- rounds ------------------------------------------------------------------------------------------------------------


def turns(names: list[str], rounds: int, count: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the name whose turn it is, with new keys for it; all warm up in the first round, which is not counted."""
    seed = random.Random(count)
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            keys = [f"{seed.getrandbits(80):020x}" for _ in range(count)]
            gc.collect()
            yield name, keys


def measure(loop: Callable[..., float], ways: dict[str, Way], rounds: int, count: int) -> Times:
    loops = {name: copied(loop) for name in ways}
    times: Times = {name: [] for name in ways}
    for name, keys in turns(list(ways), rounds, count):
        times[name].append(loops[name](ways[name].call, keys))
    return counted(ways, times, count)


async def ameasure(loop: Callable[..., Awaitable[float]], ways: dict[str, Way], rounds: int, count: int) -> Times:
    loops = {name: copied(loop) for name in ways}
    times: Times = {name: [] for name in ways}
    for name, keys in turns(list(ways), rounds, count):
        times[name].append(await loops[name](ways[name].call, keys))
    return counted(ways, times, count)


def counted(ways: dict[str, Way], times: Times, count: int) -> Times:
    """Return the times without the first round, if every key was a miss."""
    for name, way in ways.items():
        if way.loads() != len(times[name]) * count:
            raise SystemExit(f"{name}: {way.loads()} loads for {len(times[name]) * count} new keys")
    return {name: found[1:] for name, found in times.items()}


# -- what is measured --------------------------------------------------------------------------------------------------


def group(node: Node, method: str, name: str, loader: Callable[[str], Any] | None, **options: Any) -> Way:
    made = node.group(name, loader, max_bytes="1 GiB", **options)
    return Way(getattr(made, method), lambda: made.stats().loads)


def of_cachetools() -> Way:
    cache: LRUCache[Any, bytes] = LRUCache(ROOM)
    lock = threading.Lock()
    get = cached(cache, lock=lock, condition=threading.Condition(lock))(load)
    return Way(get, lambda: len(cache))


def of_async_lru() -> Way:
    aget = alru_cache(maxsize=ROOM)(aload)
    return Way(aget, lambda: aget.cache_info().misses)


def on_this_thread(rounds: int, count: int) -> dict[str, Times]:
    with Node() as node:
        gets = {
            "kamacache": group(node, "get", "bytes", load),
            "kamacache, codec json": group(node, "get", "json", load_object, codec="json"),
            "cachetools cached": of_cachetools(),
        }
        many = {
            "get_many, loader": group(node, "get_many", "single", load),
            "get_many, load_many": group(node, "get_many", "many", None, load_many=load_many),
        }
        return {
            "get": measure(one_by_one, gets, rounds, count),
            "many": measure(in_batches, many, rounds, count),
        }


async def on_this_loop(rounds: int, count: int) -> dict[str, Times]:
    async with Node() as node:
        agets = {"kamacache": group(node, "aget", "single", aload), "async-lru": of_async_lru()}
        many = {"aget_many, async loader": group(node, "aget_many", "many", aload)}
        return {
            "aget": await ameasure(aone_by_one, agets, rounds, count),
            "many": await ameasure(ain_batches, many, rounds, count),
        }


def summary(times: list[float], yardstick: list[float] | None) -> dict[str, Spread]:
    told = {"us": spread(times, 2)}
    if yardstick is not None:
        told["ratio"] = spread([a / b for a, b in zip(times, yardstick, strict=True)], 2)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--keys", type=int, default=1000, help="of each cache in each round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = on_this_thread(options.rounds, options.keys)
    with_loop = asyncio.run(on_this_loop(options.rounds, options.keys))
    sections = {**found, **with_loop, "many": found["many"] | with_loop["many"]}
    told = {
        section: {name: summary(found, times.get(PEERS.get(section, ""))) for name, found in times.items()}
        for section, times in sections.items()
    }
    if options.json:
        print(json.dumps(told))
        return
    for section, rows in told.items():
        peer = f"   / {PEERS[section]} (of each round: median, min, max)" if section in PEERS else ""
        print(f"\n{section:24} median   min    max  us a key{peer}")
        for name, row in rows.items():
            ratio = "   {median:.2f} {min:.2f} {max:.2f}".format(**row["ratio"]) if "ratio" in row else ""
            print("{:24} {median:6.2f} {min:6.2f} {max:6.2f}{:11}{}".format(name, "", ratio, **row["us"]))


if __name__ == "__main__":
    main()
