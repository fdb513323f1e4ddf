"""Cached functions in a cluster: they run once, where they are called, and are invalidated everywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import pytest

from kamacache import AsyncCachedFunction, CachedFunction, LoadError, LoadTimeout, Node, NotKey
from kamacache.testing import Network
from tests.cluster.cluster import in_thread, wait_until

NUMBERS = range(20)


class Web:
    """One process of a web application: a node, and functions that need a session of their own."""

    def __init__(self, network: Network) -> None:
        self.node = Node(registry=network.registry(), lane=network.lane())
        self.runs: list[tuple[int, str]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.go.set()
        self.error: Exception | None = None
        self.product: CachedFunction[..., str] = self.node.cached(name="product", ttl="1h")(self._product)
        self.aproduct: AsyncCachedFunction[..., str] = self.node.cached(name="aproduct", ttl="1h")(self._aproduct)
        self.node.start()

    def _product(self, number: int, *, session: Annotated[str, NotKey]) -> str:
        self.runs.append((number, session))
        self.begun.release()
        assert self.go.wait(10)
        if self.error is not None:
            raise self.error
        return f"{number} read by {session}"

    async def _aproduct(self, number: int, *, session: Annotated[str, NotKey]) -> str:
        self.runs.append((number, session))
        return f"{number} read by {session}"


@pytest.fixture
def webs() -> Iterator[list[Web]]:
    network = Network(hot=False)
    webs = [Web(network), Web(network)]
    addresses = {web.node.address for web in webs}
    keys = [str(number) for number in NUMBERS]
    wait_until(
        lambda: (
            all({web.node.owner("product", key).address for key in keys} == addresses for web in webs)
            and all({web.node.owner("aproduct", key).address for key in keys} == addresses for web in webs)
        )
    )
    yield webs
    for web in webs:
        web.node.close(drain=0)


def test_it_runs_once_in_the_cluster_where_it_was_called(webs: list[Web]) -> None:
    one, other = webs
    for number in NUMBERS:
        assert one.product(number, session="a") == other.product(number, session="b") == f"{number} read by a"
    assert one.runs == [(number, "a") for number in NUMBERS]
    assert other.runs == []


def test_it_is_invalidated_and_set_everywhere(webs: list[Web]) -> None:
    one, other = webs
    for number in NUMBERS:
        one.product(number, session="a")
        assert other.product.invalidate(number) is True
        assert one.product(number, session="c") == f"{number} read by c"
        assert other.product.refresh(number, session="d") == f"{number} read by d"
        assert one.product(number, session="e") == f"{number} read by d"
        assert one.product.set("mine", number) is True
        assert other.product(number, session="f") == "mine"
    assert one.product.clear() is True
    assert other.product(1, session="g") == "1 read by g"


def test_many(webs: list[Web]) -> None:
    one, other = webs
    calls = [(number,) for number in NUMBERS]
    one.product.many(calls[:10], session="a")
    expected = [f"{number} read by {'a' if number < 10 else 'b'}" for number in NUMBERS]
    assert other.product.many(calls, session="b") == expected
    assert one.product.many(calls, session="c") == expected
    assert sorted(one.runs + other.runs) == [(number, "a" if number < 10 else "b") for number in NUMBERS]


def test_async_functions(webs: list[Web]) -> None:
    async def main() -> None:
        one, other = webs
        for number in NUMBERS:
            both = await asyncio.gather(*(web.aproduct(number, session="a") for web in (one, other, one, other)))
            assert both == [f"{number} read by a"] * 4
            assert await other.aproduct.invalidate(number) is True
            assert await one.aproduct(number, session="c") == f"{number} read by c"
        assert len(one.runs) + len(other.runs) == 2 * len(NUMBERS)
        assert await other.aproduct.many([(number,) for number in NUMBERS], session="d") == [
            f"{number} read by c" for number in NUMBERS
        ]

    asyncio.run(main())


def test_a_function_that_takes_too_long_is_a_load_timeout_whoever_owns_the_key() -> None:
    """The time limit ends the task of the function: its caller sees that, and not the end of the task."""
    network = Network(hot=False)
    nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]

    def made(node: Node) -> Any:
        @node.cached(name="slow", load_timeout="100ms")
        async def slow(_: int) -> str:
            await asyncio.sleep(20)
            return ""

        return slow

    one, _ = [made(node) for node in nodes]

    async def main() -> None:
        async with nodes[0], nodes[1]:
            owners = {nodes[0].owner("slow", one.key(number)).id for number in NUMBERS}
            assert owners == {node.id for node in nodes}
            ends = await asyncio.gather(*(one(number) for number in NUMBERS), return_exceptions=True)
            ends += await asyncio.gather(one.many([(1,), (2,)]), return_exceptions=True)
            assert {type(end) for end in ends} == {LoadTimeout}

    asyncio.run(main())


@pytest.mark.parametrize("number", NUMBERS[:6])
def test_its_failure_is_its_own_to_its_caller_and_a_load_error_to_the_others(webs: list[Web], number: int) -> None:
    one, other = webs
    one.error = LookupError("gone")
    one.go.clear()
    first = in_thread(lambda: one.product(number, session="a"))
    assert one.begun.acquire(timeout=10)
    second: Any = in_thread(lambda: other.product(number, session="b"))
    third: Any = in_thread(lambda: one.product(number, session="c"))
    wait_until(lambda: one.product.stats().gets + other.product.stats().gets >= 3)
    one.go.set()
    assert first.exception(10) is one.error
    for waited in (second, third):
        error = waited.exception(10)
        if isinstance(error, LoadError):
            assert error.cause_type == "LookupError"
        elif waited is third:
            assert error is one.error  # it came too late to wait, and its own call ran
        else:
            assert waited.result() == f"{number} read by b"


def test_a_loader_on_another_node_gets_the_key_itself() -> None:
    network, loaded = Network(hot=False), []
    keys = [key for number in NUMBERS for key in (number, str(number), (number, "a"))]

    def load(key: Any) -> str:
        loaded.append(key)
        return repr(key)

    nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]
    one, other = (node.group("g", load, key_codec="auto", codec="text") for node in nodes)
    try:
        for node in nodes:
            node.start()
        addresses = {node.address for node in nodes}
        wait_until(lambda: all({node.owner("g", key).address for key in keys} == addresses for node in nodes))
        assert one.get_many(keys) == {key: repr(key) for key in keys}
        assert [other.get(key) for key in keys] == [repr(key) for key in keys]
        assert sorted(map(repr, loaded)) == sorted(map(repr, keys))
        assert all(other.delete(key) for key in keys)
        assert [one.get(key) for key in keys] == [repr(key) for key in keys]
        assert len(loaded) == 2 * len(keys)
    finally:
        for node in nodes:
            node.close(drain=0)


def test_functions_that_call_themselves(webs: list[Web]) -> None:
    """Each level is loaded once, under a lease of its own from either member. Only this thread waits for it."""
    runs: list[int] = []

    def plain(number: int) -> int:
        runs.append(number)
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    async def task(number: int) -> int:
        runs.append(number)
        return 0 if number == 0 else 1 + await depth(number - 1)

    fibonacci, depth = webs[0].node.cached(name="fibonacci")(plain), webs[0].node.cached(name="depth")(task)
    webs[1].node.cached(name="fibonacci")(plain)
    webs[1].node.cached(name="depth")(task)
    wait_until(lambda: len({webs[0].node.owner("depth", str(key)).address for key in NUMBERS}) == 2)
    assert fibonacci(30) == 832_040
    assert sorted(runs) == list(range(31))
    runs.clear()
    assert asyncio.run(depth(100)) == 100
    assert sorted(runs) == list(range(101))
