"""A coroutine of the cache that no asyncio loop runs raises an error, and leaves the key usable by others."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kamacache import Group, KamaCacheError, LoadCycle, LoadTimeout, Node
from tests.promises.support import KINDS, Source, in_tasks, isolated, make_group, right
from tests.unit.groups import Caller, Held

ASKS: dict[str, Callable[[Group[Any]], Coroutine[Any, Any, Any]]] = {
    "aget": lambda group: group.aget("k"),
    "aget_many": lambda group: group.aget_many(["j", "k"]),
}

kinds = pytest.mark.parametrize("kind", KINDS)
asks = pytest.mark.parametrize("ask", ASKS)
timeouts = pytest.mark.parametrize("load_timeout", [None, "30s"])


def driven(coroutine: Coroutine[Any, Any, Any]) -> BaseException | None:
    """Run a coroutine without an event loop, until it waits or ends; return its error."""
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        raise AssertionError(f"a value: {end.value!r}") from None
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error
    raise AssertionError(f"it waits for {waits_for!r}, which only asyncio understands")


def check_words(error: BaseException | None) -> None:
    """Check that the error names what is missing and what to call instead."""
    assert isinstance(error, KamaCacheError), repr(error)
    assert not isinstance(error, (LoadTimeout, LoadCycle)), repr(error)
    assert "asyncio" in str(error), str(error)
    assert re.search(r"\b(get|get_many|call|use|run)\b", str(error)), str(error)


def check_usable(group: Group[Any]) -> None:
    for key in ("k", "j"):
        assert right(key, Caller(group.get, key).result())
        group.delete(key)
        assert all(right(key, value) for value in in_tasks(lambda key=key: group.aget(key)))  # type: ignore[misc]
        group.delete(key)
        assert right(key, group.get(key))


@kinds
@asks
@timeouts
@isolated()
def test_a_bare_coroutine(kind: str, ask: str, load_timeout: str | None) -> None:
    group = make_group(Node(), kind, Source(), load_timeout=load_timeout)
    group.get("warm")  # the node has started
    error: list[BaseException | None] = []
    error.append(Caller(driven, ASKS[ask](group)).result())
    check_usable(group)
    error.append(driven(ASKS[ask](group)) if group.delete_many(["j", "k"]) else None)
    check_usable(group)
    for each in error:
        check_words(each)


@asks
@isolated()
def test_one_that_comes_while_a_thread_loads(ask: str) -> None:
    held = Held(Source())
    group = Node().group("g", held, load_timeout=None)
    leader = Caller(group.get, "k")
    held.wait_begun()
    error = Caller(driven, ASKS[ask](group)).result()
    held.go.set()
    assert right("k", leader.result())
    check_words(error)
    check_usable(group)


@kinds
@timeouts
@isolated()
def test_a_leader_that_is_closed_while_it_waits(kind: str, load_timeout: str | None) -> None:
    group = make_group(Node(), kind, Source(), load_timeout=load_timeout)

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        coroutine = group.aget("k")
        try:
            coroutine.send(None)
        except StopIteration:
            return
        coroutine.close()
        async with asyncio.timeout(20):
            assert right("k", await group.aget("k"))

    asyncio.run(main())
    check_usable(group)


@pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")
@kinds
@asks
@timeouts
@isolated()
def test_trio(kind: str, ask: str, load_timeout: str | None) -> None:
    import trio  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415 - it may be missing

    group = make_group(Node(), kind, Source(), load_timeout=load_timeout)
    error: list[BaseException | None] = []

    async def main() -> None:
        try:
            with trio.fail_after(20):
                await ASKS[ask](group)
        except BaseException as caught:  # noqa: BLE001 - the test looks at it
            error.append(caught)

    trio.run(main)
    check_usable(group)
    check_words(error[0])
