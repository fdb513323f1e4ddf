"""Loaders run in the thread that asks, on the pool, or on the node's loop; a blocking call must not block that loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import threading
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Clock, KamaCacheError, LoadCycle, LoadError, Node, NodeClosed, Overloaded
from tests.unit.groups import WAYS, AsyncHeld, Caller, Held, begun, call, counts, settled, tasks_join, waiting

CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER", default="nobody")


def here(_: str) -> bytes:
    return threading.current_thread().name.encode()


async def ahere(_: str) -> bytes:
    return threading.current_thread().name.encode()


def test_a_plain_loader_runs_in_the_callers_thread(node: Node) -> None:
    name = threading.current_thread().name.encode()
    group = node.group("g", here)
    assert group.get("k") == name
    assert group.get_many(["a", "b"]) == {"a": name, "b": name}


def test_for_tasks_it_runs_on_the_pool(node: Node) -> None:
    group = node.group("g", here)
    assert asyncio.run(group.aget("k")) != threading.current_thread().name.encode()


def test_the_queue_of_the_pool_is_bounded() -> None:
    with Node(loader_threads=1, loader_queue=32) as node:
        held = Held()
        group = node.group("g", held)

        async def main() -> None:
            first = asyncio.create_task(group.aget("first"))
            await begun(held)
            queued = [asyncio.create_task(group.aget(str(number))) for number in range(32)]
            await settled()
            with pytest.raises(Overloaded):
                await group.aget("one too many")
            held.go.set()
            assert await first == b"first"
            assert len(await asyncio.gather(*queued)) == 32

        asyncio.run(main())
        assert counts(group)["loads"] == 34


def test_aget_returns_a_coroutine(node: Node) -> None:
    coroutine = node.group("g", str.encode).aget("k")
    assert inspect.iscoroutine(coroutine)
    assert asyncio.run(coroutine) == b"k"


def test_the_loop_that_ran_at_start_is_home(clock: Clock) -> None:
    async def main() -> None:
        async with Node(clock=clock) as node:
            group = node.group("g", ahere)
            name = threading.current_thread().name.encode()
            assert await group.aget("task") == name
            assert await asyncio.to_thread(group.get, "thread") == name

    asyncio.run(main())


def test_started_without_a_loop_the_node_has_a_thread_of_its_own(node: Node) -> None:
    group = node.group("g", ahere)
    node.start()
    name = group.get("thread")
    assert name != threading.current_thread().name.encode()
    assert asyncio.run(group.aget("task")) == name


def test_even_when_a_task_asks_first(node: Node) -> None:
    group = node.group("g", ahere)
    node.start()
    name = asyncio.run(group.aget("task"))
    assert name != threading.current_thread().name.encode()
    assert group.get("thread") == name


def test_a_closed_loop_is_replaced_by_the_next_that_awaits(node: Node) -> None:
    loops: list[Any] = []

    async def load(key: str) -> bytes:
        loops.append(asyncio.get_running_loop())
        return key.encode()

    group = node.group("g", load)

    async def main(key: str) -> None:
        loops.append(asyncio.get_running_loop())
        await group.aget(key)

    for key in ("a", "b", "c"):
        asyncio.run(main(key))
    assert loops[0] is loops[1]
    assert loops[2] is loops[3]
    assert loops[4] is loops[5]
    assert group.get("d") == b"d"
    assert loops[6] not in loops[:6]


@pytest.mark.parametrize("way", WAYS)
def test_an_async_loader_has_a_copy_of_the_context(node: Node, way: str) -> None:
    async def load(key: str) -> bytes:
        found = CALLER.get().encode()
        CALLER.set("the loader")
        return found

    group = node.group("g", load)
    token = CALLER.set("me")
    try:
        assert call(way, group, "get", "k") == b"me"
        assert call(way, group, "get_many", ["a", "b"]) == {"a": b"me", "b": b"me"}
        assert CALLER.get() == "me"
    finally:
        CALLER.reset(token)


def test_a_plain_loader_on_the_pool_has_it_too(node: Node) -> None:
    group = node.group("g", lambda _: CALLER.get().encode())
    token = CALLER.set("me")
    try:
        assert asyncio.run(group.aget("k")) == b"me"
    finally:
        CALLER.reset(token)


@pytest.mark.parametrize("ask", [lambda group: group.get("k"), lambda group: group.get_many(["k"])])
def test_a_blocking_get_on_the_home_loop_raises_at_once(node: Node, ask: Callable[[Any], Any]) -> None:
    held = AsyncHeld()
    group = node.group("g", held)

    async def main() -> None:
        await node.astart()
        with pytest.raises(LoadCycle, match="use aget"):  # it would have to load
            ask(group)
        assert held.calls == {}
        task = asyncio.create_task(group.aget("k"))
        await begun(held)
        with pytest.raises(LoadCycle, match="use aget"):  # it would have to wait
            ask(group)
        held.go.set()
        assert await task == b"k"
        assert group.get("k") == b"k"  # a hit is fine

    asyncio.run(main())
    assert held.calls == {"k": 1}


def test_a_blocking_get_of_a_key_that_a_task_of_this_loop_loads_raises_at_once(node: Node) -> None:
    held = AsyncHeld()
    group = node.group("g", held)

    async def main() -> None:
        task = asyncio.create_task(group.aget("k"))
        await begun(held)
        with pytest.raises(KamaCacheError, match="use aget"):
            group.get("k")
        held.go.set()
        assert await task == b"k"

    asyncio.run(main())


def test_a_blocking_get_waits_for_the_pool_also_on_the_thread_of_a_loop(node: Node) -> None:
    held = Held()
    group = node.group("g", held)

    async def main() -> None:
        task = asyncio.create_task(group.aget("k"))
        await begun(held)
        threading.Timer(0.05, held.go.set).start()
        assert group.get("k") == b"k"
        assert await task == b"k"

    asyncio.run(main())
    assert held.calls == {"k": 1}


def test_blocking_calls_in_other_threads_use_the_home_loop(node: Node) -> None:
    held = AsyncHeld()
    group = node.group("g", held)

    async def main() -> None:
        await node.astart()
        caller = await asyncio.to_thread(waiting, group.get, "k")
        await begun(held)
        held.go.set()
        assert await asyncio.to_thread(caller.result) == b"k"

    asyncio.run(main())
    assert held.calls == {"k": 1}


def test_callers_that_wait_for_a_loop_that_ends_load_again(node: Node) -> None:
    held = AsyncHeld()
    group = node.group("g", held)
    callers: list[Caller] = []

    async def main() -> None:
        task = asyncio.create_task(group.aget("k"))
        await begun(held)
        callers.append(await asyncio.to_thread(waiting, group.get, "k"))
        assert not task.done()  # asyncio.run cancels it, and the load with it

    asyncio.run(main())
    held.wait_begun()
    held.go.set()
    assert callers[0].result() == b"k"
    assert held.calls == {"k": 2}


@pytest.mark.parametrize("kind", [Held, AsyncHeld])
def test_tasks_of_two_loops_share_a_load(node: Node, kind: type[Held]) -> None:
    held = kind()
    group = node.group("g", held)
    leader = Caller(lambda: asyncio.run(group.aget("k")))
    held.wait_begun()
    tasks_join(group, held, leader)


def test_a_load_cancelled_before_it_began_is_run_by_waiting_callers(node: Node) -> None:
    held = Held()
    held.go.set()
    group = node.group("g", held)

    async def main() -> None:
        await asyncio.create_task(group.aget("other"))
        task = asyncio.create_task(group.aget("k"))
        await asyncio.sleep(0)  # the task has made another that is to load
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()  # as asyncio.run does in the end
        await asyncio.wait([task])

    asyncio.run(main())
    assert Caller(group.get, "k").result() == b"k"
    assert held.calls == {"other": 1, "k": 1}


def test_an_interrupt_raised_by_a_loader_does_not_end_the_own_loop(node: Node) -> None:
    """Check that its callers get an error after some tries, and that other loads go on."""

    async def leaves(key: str) -> bytes:
        if key == "bad":
            raise SystemExit(3)
        return key.encode()

    group = node.group("g", leaves)
    assert isinstance(Caller(group.get, "bad").error(), LoadError)
    assert Caller(group.get, "good").result() == b"good"


def test_closing_lets_tasks_of_the_own_loop_end(caplog: pytest.LogCaptureFixture) -> None:
    """Let a cancelled async loader tidy up, so that asyncio has nothing to complain of."""
    node = Node()
    began, tidy = threading.Event(), threading.Event()

    async def slow(_: str) -> bytes:
        try:
            began.set()
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            tidy.set()
        return b""

    caller = Caller(node.group("g", slow).get, "key")
    assert began.wait(5)
    node.close()
    assert isinstance(caller.error(), NodeClosed)
    gc.collect()
    assert tidy.is_set()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("batch", [False, True], ids=["one", "batch"])
def test_an_interrupt_raised_on_the_pool_ends_that_load_alone(
    node: Node, batch: bool, error: type[BaseException]
) -> None:
    loads: list[object] = []

    def load(key: Any) -> Any:
        loads.append(key)
        raise error(3)

    group = node.group("g", None, load_many=load) if batch else node.group("g", load)

    async def main() -> list[Any]:
        return list(await asyncio.gather(group.aget("k"), group.aget("k"), return_exceptions=True))

    ends = asyncio.run(main())
    assert [type(end) for end in ends] == [LoadError, LoadError]
    assert [type(end.__cause__) for end in ends] == [error, error]
    assert ends[0].cause_type == error.__name__
    assert len(loads) == 1
    counted = group.stats()
    assert (counted.gets, counted.loads, counted.joined, counted.load_errors) == (2, 1, 1, 1)
