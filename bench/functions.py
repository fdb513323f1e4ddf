"""Measure a hit of a cached function beside the decorators of other caches that keep values in the process.

Async functions stand beside cashews (its backend in memory) and async-lru, plain ones beside cachetools and
functools.lru_cache, which makes no text of its arguments. Each round calls every function in turn, over one slice of
arguments. Only ratios within a run carry over to other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import cachetools
from async_lru import alru_cache
from cashews import Cache

from bench.common import copied
from kamacache import Node

KEYS = 1_000
# How a function is called: with an int; with an int and two defaults, one by name; with a str.
CALLS: dict[str, Callable[[Any, int], Any]] = {
    "f(7)": lambda function, number: function(number),
    "f(7, lang='de')": lambda function, number: function(number, lang="de"),
    "f('user-7')": lambda function, number: function(f"user-{number}"),
}


def body(product_id: Any, lang: str = "en", *, region: str = "eu") -> bytes:
    return f"{product_id}{lang}{region}".encode()


async def abody(product_id: Any, lang: str = "en", *, region: str = "eu") -> bytes:
    return body(product_id, lang, region=region)


def async_functions(node: Node) -> dict[str, Any]:
    cashews = Cache()
    cashews.setup("mem://", size=1 << 20, check_interval=60)
    return {
        "kamacache": node.cached(name="async", ttl="1h")(abody),
        "kamacache, key=": node.cached(name="template", ttl="1h", key="p:{product_id}:{lang}")(abody),
        "async-lru": alru_cache(maxsize=1 << 20, ttl=3600)(abody),
        "cashews": cashews(ttl=3600)(abody),
        "cashews, key=": cashews(ttl=3600, key="p:{product_id}:{lang}")(abody),
    }


def plain_functions(node: Node) -> dict[str, Any]:
    return {
        "kamacache": node.cached(name="plain", ttl="1h")(body),
        "cachetools": cachetools.cached(cachetools.TTLCache(1 << 20, 3600))(body),
        "lru_cache": functools.lru_cache(1 << 20)(body),
    }


async def atimed(function: Any, call: Callable[[Any, int], Any], numbers: range) -> float:
    """Return the nanoseconds of CPU time of this thread for each call, the loop included."""
    start = time.thread_time_ns()
    for number in numbers:
        await call(function, number)
    return (time.thread_time_ns() - start) / len(numbers)


def timed(function: Any, call: Callable[[Any, int], Any], numbers: range) -> float:
    start = time.thread_time_ns()
    for number in numbers:
        call(function, number)
    return (time.thread_time_ns() - start) / len(numbers)


async def measure(functions: dict[str, Any], rounds: int, *, is_async: bool) -> dict[str, dict[str, dict[str, float]]]:
    """Return the median nanoseconds of each function for each way to call it, the functions taking turns."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for what, call in CALLS.items():
        loops: dict[str, Any] = {name: copied(atimed) if is_async else copied(timed) for name in functions}
        calls = {name: copied(call) for name in functions}
        times: dict[str, list[float]] = {name: [] for name in functions}
        numbers, order = range(KEYS), list(functions)
        for turn in range(rounds + 1):
            for name in order:
                running: Any = loops[name](functions[name], calls[name], numbers)
                took = await running if is_async else running
                if turn:  # the first loads
                    times[name].append(took)
            order.append(order.pop(0))
        told[what] = {name: {"ns": round(statistics.median(each), 1)} for name, each in times.items()}
    return told


async def both(rounds: int) -> dict[str, Any]:
    async with Node() as node:
        return {
            "async": await measure(async_functions(node), rounds, is_async=True),
            "plain": await measure(plain_functions(node), rounds, is_async=False),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = asyncio.run(both(options.rounds))
    if options.json:
        print(json.dumps(told))
        return
    for kind, by_call in told.items():
        for what, rows in by_call.items():
            print(f"\n{kind}: {what}")
            for name, row in rows.items():
                print(f"    {name:20} {row['ns']:8.0f} ns")


if __name__ == "__main__":
    main()
