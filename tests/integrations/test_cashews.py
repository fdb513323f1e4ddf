"""The backend for cashews. Its own tests are run by test_suites.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any
from unittest import mock

import pytest
from cashews import Cache, CacheBackendInteractionError
from cashews.exceptions import UnSecureDataError

from kamacache import ConfigError, Group, PeerError
from kamacache.integrations.cashews import KamaCache
from tests.integrations.pair import run_two


def made(group: str, **options: Any) -> Cache:
    cache = Cache()
    cache.setup("kamacache://?place=none", group=group, **options)
    return cache


def test_integers_below_zero_and_values_that_are_too_large() -> None:
    async def main() -> None:
        cache = made("kinds", max_bytes="1 MiB")
        await cache.set("n", -5)
        assert [await cache.get("n"), await cache.incr("n", 2), await cache.get("n")] == [-5, -3, -3]
        await cache.set("k", "old")
        assert not await cache.set("k", b"x" * 1_000_000)
        assert not await cache.set("j", b"x" * 1_000_000, exist=False)
        await cache.set_many({"a": None, "k": b"x" * 1_000_000})
        assert await cache.get_many("a", "k", "j", default="none") == (None, "none", "none")

    asyncio.run(main())


def test_a_value_with_a_wrong_signature_is_not_unpickled() -> None:
    async def main() -> None:
        await made("signed").set("k", mock.sentinel)  # pickled, without a signature that begins it
        await made("signed").set_raw("j", b"md5:0_" + b"cos\nabort\n(tR.")
        signed = made("signed", secret="of the test")  # noqa: S106 - no secret
        assert await signed.get("k", "none") == "none"
        with pytest.raises(UnSecureDataError):
            await signed.get("j")

    asyncio.run(main())


def test_patterns() -> None:
    async def main() -> None:
        cache = made("patterns")
        gone: list[str] = []

        async def note(keys: Iterable[str], backend: Any) -> None:
            gone.extend(keys)

        backend = cache._get_backend("")
        backend.on_remove_callback(note)
        await cache.set_many({"a:1": 1, "a:2.x": 2, "a:2-x": 3, "b": 4})
        assert [key async for key in cache.scan("a:*.x")] == ["a:2.x"]
        await cache.delete_match("a:*.x")
        assert await cache.get_many("a:1", "a:2-x", "b") == (None, None, 4)
        assert sorted(gone) == ["a:1", "a:2-x", "a:2.x"]
        await cache.delete_match("*")
        assert await cache.get("b") is None

    asyncio.run(main())


def test_changes_of_one_key_at_once() -> None:
    async def main() -> None:
        cache = made("at-once")
        await asyncio.gather(*(cache.set_add("set", f"{number}", expire=60) for number in range(10)))
        await cache.set_remove("set", "3")
        popped = [one for part in await asyncio.gather(*(cache.set_pop("set", 4) for _ in range(4))) for one in part]
        assert sorted(popped) == sorted("012456789")
        assert 0 < await cache.get_expire("set") <= 60

    asyncio.run(main())


def test_the_owner_does_not_answer() -> None:
    async def main() -> None:
        with pytest.raises(CacheBackendInteractionError, match="the owner is gone"):
            await made("silent").set_add("k", "a")

    with mock.patch.object(Group, "aadd", side_effect=PeerError("the owner is gone")):
        asyncio.run(main())


def test_a_set_that_has_grown_too_large() -> None:
    async def main() -> None:
        cache = made("large-set", max_bytes="1 MiB")
        with pytest.raises(CacheBackendInteractionError, match="nothing more can be added to '_tag:t'"):
            await cache.set_add("_tag:t", "x" * 1_000_000)

    asyncio.run(main())


def test_a_change_that_always_loses() -> None:
    async def main() -> None:
        with pytest.raises(CacheBackendInteractionError, match="'k' was changed by others each time"):
            await made("loses").set_add("k", "a")

    lost = mock.patch.object(Group, "aadd", return_value=False)
    with lost, mock.patch("kamacache.integrations.cashews._PATIENCE", 0.05):
        asyncio.run(main())


def test_unknown_options() -> None:
    with pytest.raises(ConfigError, match="max_byte"):
        KamaCache("none", max_byte=1)


def test_two_processes_share_a_limit() -> None:
    """Each asks for ten of fifteen places, all at once: every place is given once."""
    code = f"""
import asyncio, sys
from kamacache.integrations.cashews import KamaCache
cache = KamaCache("local://", service="cashews-{os.getpid()}")
asyncio.run(cache.get("warm"))
agree("cashews", "rate")

async def main():
    return await asyncio.gather(*(cache.slice_incr("rate", 0, 1, 15, expire=60) for _ in range(10)))

print(*asyncio.run(main()), flush=True)
sys.stdin.read()
"""
    places = sorted(int(place) for line in run_two(code) for place in line.split())
    assert places == [*range(1, 15), *[15] * 6]
