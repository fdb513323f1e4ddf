"""Async loaders run even if their event loop stands still, ends, or has a task factory of an older kind."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from kamacache import Group, LoadError, LoadTimeout, Node
from tests.promises.support import Source, came_from, in_tasks, isolated, make_group, right
from tests.unit.groups import Caller

kinds = pytest.mark.parametrize("kind", ["async", "async_many"])
batches = pytest.mark.parametrize("batch", [False, True])


def aget(group: Group[Any], key: str, batch: bool) -> Any:
    """Return a coroutine that asks for one key."""
    return one_of_many(group, key) if batch else group.aget(key)


async def one_of_many(group: Group[Any], key: str) -> Any:
    return (await group.aget_many([key])).get(key)


def get(group: Group[Any], key: str, batch: bool) -> Any:
    return group.get_many([key]).get(key) if batch else group.get(key)


@kinds
@batches
@pytest.mark.parametrize("started", ["by astart", "by the first aget"])
@isolated()
def test_a_home_loop_that_stands_still(kind: str, batch: bool, started: str) -> None:
    node = Node()
    group = make_group(node, kind, Source(), load_timeout=None)
    loop = asyncio.new_event_loop()
    if started == "by astart":
        loop.run_until_complete(node.astart())
    assert right("a", loop.run_until_complete(aget(group, "a", batch)))
    assert right("b", Caller(get, group, "b", batch).result())
    assert right("c", in_tasks(lambda: aget(group, "c", batch))[0])
    assert right("d", get(group, "d", batch))  # on the thread that the loop had run on
    assert right("e", loop.run_until_complete(asyncio.wait_for(aget(group, "e", batch), 20)))
    assert right("f", Caller(get, group, "f", batch).result())
    loop.close()
    assert right("g", get(group, "g", batch))


@batches
@isolated()
def test_a_home_loop_that_stops_before_it_has_run_a_load_of_a_thread(batch: bool) -> None:
    node = Node()
    group = make_group(node, "async", Source(), load_timeout=None)
    loop = asyncio.new_event_loop()

    async def stop_while_a_thread_asks() -> Caller:
        await node.astart()
        asked = Caller(get, group, "k", batch)
        for _ in range(3):
            time.sleep(0.005)  # noqa: ASYNC251 - the loop must not turn before it ends
        return asked

    for number in range(5):
        asked = loop.run_until_complete(stop_while_a_thread_asks())
        assert right("k", asked.result()), number
        group.delete("k")


@kinds
@batches
@isolated()
def test_a_home_loop_that_ends_while_threads_ask(kind: str, batch: bool) -> None:
    wrong: list[BaseException] = []

    def ask(group: Group[Any], name: str) -> None:
        for number in range(60):
            key = f"{name}-{number}"
            try:
                assert right(key, get(group, key, batch))
            except LoadError as error:
                # Only a load that was under way when its loop was ended may say so.
                if isinstance(error, LoadTimeout) or not came_from(error, asyncio.CancelledError):
                    wrong.append(error)
            except Exception as error:  # noqa: BLE001 - shown below
                wrong.append(error)

    async def main() -> list[Caller]:
        node = Node()
        group = make_group(node, kind, Source(), load_timeout=None)
        await node.astart()
        threads = [Caller(ask, group, f"thread{number}") for number in range(3)]
        for number in range(3):
            async with asyncio.timeout(20):
                assert right(f"main{number}", await aget(group, f"main{number}", batch))
        return threads

    for _ in range(40):
        for thread in asyncio.run(main()):
            thread.result()
    assert not wrong, wrong[:3]


@kinds
@batches
@pytest.mark.parametrize("caller", ["task", "thread"])
@isolated()
def test_a_task_factory_without_context(kind: str, batch: bool, caller: str) -> None:
    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=loop)

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(factory)  # type: ignore[arg-type, unused-ignore]
        node = Node()
        group = make_group(node, kind, Source(), load_timeout=None)
        await node.astart()
        async with asyncio.timeout(20):
            assert right("a", await aget(group, "a", batch))
            values = await asyncio.gather(*(aget(group, f"k{each}", batch) for each in range(5)))
            assert all(right(f"k{each}", value) for each, value in enumerate(values))
            if caller == "thread":
                assert right("b", await asyncio.to_thread(get, group, "b", batch))

    asyncio.run(main())
