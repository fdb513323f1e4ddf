"""Loads that would wait for themselves fail at once; batches that wait for each other do not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kamacache import Group, LoadCycle, LoadError, Node
from tests.unit.groups import Caller, until


def test_a_plain_loader_asks_for_its_own_key(node: Node) -> None:
    group: Group[bytes] = node.group("g", lambda key: group.get(key))  # noqa: PLW0108 - it is made below
    with pytest.raises(LoadError) as caught:
        group.get("k")
    assert isinstance(caught.value.__cause__, LoadCycle)
    with pytest.raises(LoadError) as caught:
        asyncio.run(group.aget("k"))
    assert isinstance(caught.value.__cause__, LoadCycle)


@pytest.mark.parametrize("ask", [lambda group: group.aget("k"), lambda group: group.aget_many(["j", "k"])])
def test_an_async_loader_asks_for_its_own_key(node: Node, ask: Callable[[Any], Awaitable[Any]]) -> None:
    async def load(key: str) -> Any:
        return await ask(group)

    group = node.group("g", load)
    with pytest.raises(LoadError) as caught:
        group.get("k")
    assert isinstance(caught.value.__cause__, LoadCycle)


def test_a_key_asked_for_inside_by_another_group_is_no_ring(node: Node) -> None:
    inner = node.group("inner", str.encode)
    outer: Group[bytes] = node.group("outer", inner.get)
    assert outer.get("k") == b"k"


def test_loads_eight_deep(node: Node) -> None:
    def load(key: str) -> bytes | None:
        return group.get(f"{int(key) - 1}") if int(key) else b"bottom"

    group: Group[Any] = node.group("g", load)
    assert group.get("7") == b"bottom"  # eight loads inside each other
    group.clear()
    with pytest.raises(LoadError) as caught:
        group.get("8")
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, LoadCycle):
        error = error.__cause__
    assert isinstance(error, LoadCycle)


def test_two_batches_lead_each_others_keys(node: Node) -> None:
    both = threading.Barrier(2)

    def load_many(keys: list[str]) -> dict[str, bytes]:
        both.wait(10)  # each has begun the load that it leads
        return {key: key.encode() for key in keys}

    group: Group[bytes] = node.group("g", load_many=load_many)
    first = Caller(group.get_many, ["a", "c"])
    until(lambda: both.n_waiting == 1)
    second = Caller(group.get_many, ["a", "b"])  # leads b and waits for a, whose leader waits for b
    assert second.result() == {"a": b"a", "b": b"b"}
    assert first.result() == {"a": b"a", "c": b"c"}


def test_a_function_that_calls_itself_for_ever(node: Node) -> None:
    async def task(number: int) -> int:
        return await endless(number + 1)

    endless = node.cached(name="endless")(task)
    with pytest.raises(LoadError) as caught:
        asyncio.run(endless(0))
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, LoadCycle):
        error = error.__cause__
    assert isinstance(error, LoadCycle)


def test_seventy_levels_of_a_function_that_calls_itself_fit_into_the_stack_of_a_thread(node: Node) -> None:
    """Python allows 1,000 frames, C functions counted; a level takes about twelve."""

    @node.cached
    def height(number: int) -> int:
        return 0 if number == 0 else 1 + height(number - 1)

    assert Caller(height, 70).result() == 70
    assert height.stats().loads == 71
