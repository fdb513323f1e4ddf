"""The backend for aiocache. Its own acceptance tests are run by test_suites.py."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiocache import caches, multi_cached
from aiocache.lock import OptimisticLock, OptimisticLockError, RedLock

from kamacache import ConfigError
from kamacache.integrations.aiocache import KamaCache
from tests.integrations.pair import run_two


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_it_is_made_of_a_configuration() -> None:
    caches.set_config(
        {"default": {"cache": "kamacache.integrations.aiocache.KamaCache", "place": "none", "group": "made"}}
    )

    async def main() -> None:
        cache = caches.get("default")
        await cache.set("k", [1, None])
        assert await cache.get("k") == [1, None]
        assert await cache.raw("ttl", "k") == float("inf")

    run(main())


def test_none_and_values_that_are_too_large() -> None:
    async def main() -> None:
        cache = KamaCache("none", group="large", max_bytes="1 MiB")
        assert await cache.set("n", None)
        assert await cache.exists("n")
        await cache.set("k", "old")
        assert not await cache.set("k", "x" * 1_000_000)
        assert await cache.get("k", default="none") == "none"
        await cache.add("k", "x" * 1_000_000)
        assert not await cache.exists("k")
        await cache.multi_set([("a", 1), ("k", "x" * 1_000_000)])
        assert await cache.multi_get(["a", "k"]) == [1, None]

    run(main())


def test_keys_that_are_no_text() -> None:
    """Whatever a cache in memory takes is a key; an integer and its text are the same, as in Redis."""

    class Colour(enum.Enum):
        RED = "red"

    async def main() -> None:
        cache = KamaCache("none", group="keys")
        for key in (1, 2.5, b"raw", ("a", 1), Colour.RED):
            await cache.set(key, [repr(key)])
            assert await cache.get(key) == [repr(key)]
        assert await cache.multi_get(["1", Colour.RED, "red"]) == [["1"], *[[repr(Colour.RED)]] * 2]
        assert await KamaCache("none", group="keys", key_builder=lambda key, namespace: key).get(1) == ["1"]
        runs = []

        @multi_cached("ids", cache=KamaCache, place="none", group="keys", namespace="rows:")  # type: ignore[untyped-decorator]
        async def rows(ids: list[int]) -> dict[int, int]:
            runs.append(ids)
            return {number: number * 2 for number in ids}

        assert [await rows(ids=[1, 2]) for _ in range(2)] == [{1: 2, 2: 4}] * 2
        assert [await rows(ids=[2, 3]), runs] == [{2: 4, 3: 6}, [[1, 2], [3]]]

    run(main())


def test_of_two_optimistic_writers_one_wins() -> None:
    async def main() -> None:
        cache = KamaCache("none", group="optimistic")
        await cache.set("k", "first")
        async with OptimisticLock(cache, "k") as one, OptimisticLock(cache, "k") as two:
            await one.cas("one")
            with pytest.raises(OptimisticLockError):
                await two.cas("two")
        assert await cache.get("k") == "one"

    run(main())


def test_a_red_lock_has_one_holder() -> None:
    async def main() -> None:
        cache = KamaCache("none", group="red")
        runs = 0

        async def work() -> None:
            nonlocal runs
            async with RedLock(cache, "k", lease=2):
                if await cache.get("k") is None:
                    runs += 1
                    await asyncio.sleep(0.05)
                    await cache.set("k", "made")

        await asyncio.gather(*(work() for _ in range(8)))
        assert runs == 1

    run(main())


def test_two_processes_run_a_function_once(tmp_path: Path) -> None:
    """Eight tasks of each of two processes ask for the same keys: each is made once in all, by cached_stampede."""
    code = f"""
import asyncio
from aiocache import cached_stampede
from kamacache.integrations.aiocache import KamaCache
options = {{"place": "local://", "service": "stampede-{os.getpid()}"}}

async def main():
    for number in range(10):
        @cached_stampede(lease=20, cache=KamaCache, key_builder=lambda *_: f"k{{number}}", **options)
        async def made():
            with open({str(tmp_path / "runs")!r}, "a") as runs:
                runs.write(f"{{number}} ")
            await asyncio.sleep(0.1)
            return number
        assert await asyncio.gather(*(made() for _ in range(8))) == [number] * 8

asyncio.run(KamaCache(**options).get("warm"))
agree("aiocache", "k0")
asyncio.run(main())
print("done", flush=True)
sys.stdin.read()
"""
    assert run_two(code) == ["done\n"] * 2
    assert sorted((tmp_path / "runs").read_text().split()) == [str(number) for number in range(10)]


def test_unknown_options() -> None:
    with pytest.raises(ConfigError, match="max_byte"):
        KamaCache("none", max_byte=1)
