"""get_or_load and its like on a node alone: where the function runs, with which context, and what its caller gets."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Group, InvalidKey, LoadCycle, LoadError, LoadTimeout, Node, NoEventLoop, Value
from tests.cluster.cluster import in_thread, wait_until

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
LOCAL = threading.local()


@pytest.fixture
def group() -> Iterator[Group[Any]]:
    with Node() as node:
        yield node.group("users", codec="json", ttl="1h")


def no_load(key: str) -> Any:
    raise AssertionError(f"{key} was loaded again")


def no_load_many(keys: list[str]) -> dict[str, Any]:
    raise AssertionError(f"{keys} were loaded again")


def test_a_miss_loads_and_a_hit_does_not(group: Group[Any]) -> None:
    assert group.get_or_load("a", lambda key: [key]) == ["a"]
    assert group.get_or_load("a", no_load) == ["a"]
    assert group.get("a") == ["a"]
    stats = group.stats()
    assert (stats.gets, stats.hits, stats.loads) == (3, 2, 1)


def test_the_value_of_a_miss_is_a_copy_as_that_of_a_hit(group: Group[Any]) -> None:
    mine = ["a"]
    assert group.get_or_load("a", lambda _: mine) is not mine
    mine.append("b")
    assert group.get("a") == ["a"]


def test_a_plain_function_runs_on_the_calling_thread_in_its_context(group: Group[Any]) -> None:
    def load(_: str) -> Any:
        seen = (REQUEST.get(), getattr(LOCAL, "session", None), threading.get_ident())
        REQUEST.set("from inside")
        return list(seen)

    LOCAL.session = "mine"
    token = REQUEST.set("7")
    try:
        assert group.get_or_load("a", load) == ["7", "mine", threading.get_ident()]
        assert REQUEST.get() == "from inside"
        seen = group.get_many_or_load(["b"], lambda keys: {key: load(key) for key in keys})
        assert seen == {"b": ["from inside", "mine", threading.get_ident()]}
    finally:
        REQUEST.reset(token)
        del LOCAL.session


def test_an_async_function_is_a_task_of_the_callers_loop_with_a_copy_of_its_context(group: Group[Any]) -> None:
    main_loop: Any = None
    main_task: Any = None

    async def load(_: str) -> Any:
        seen = [REQUEST.get(), asyncio.get_running_loop() is main_loop, asyncio.current_task() is not main_task]
        REQUEST.set("from inside")
        await asyncio.sleep(0)
        return seen

    async def load_many(keys: list[str]) -> Any:
        return {key: await load(key) for key in keys}

    async def main() -> None:
        nonlocal main_loop, main_task
        main_loop, main_task = asyncio.get_running_loop(), asyncio.current_task()
        REQUEST.set("7")
        assert await group.aget_or_load("a", load) == ["7", True, True]
        assert (await group.aget_many_or_load(["b", "c"], load_many))["b"] == ["7", True, True]
        assert REQUEST.get() == "7"

    asyncio.run(main())
    group.clear()
    asyncio.run(main())  # another loop of the same process


def test_a_plain_function_runs_on_the_pool_for_a_task_with_a_copy_of_its_context(group: Group[Any]) -> None:
    async def later(key: str) -> Any:
        return [key, threading.current_thread().name]

    async def main() -> None:
        REQUEST.set("7")
        seen = await group.aget_or_load("a", lambda _: [threading.current_thread().name, REQUEST.get()])
        assert seen is not None
        name, request = seen
        assert name.startswith("kamacache-loader-0")
        assert request == "7"
        seen = await group.aget_or_load("b", lambda key: later(key))  # noqa: PLW0108
        assert seen == ["b", "MainThread"], "its awaitable runs here"
        with pytest.raises(LoadError) as caught:
            await group.aget_or_load("c", exits)
        assert isinstance(caught.value.__cause__, SystemExit)

    def exits(_: str) -> Any:
        raise SystemExit

    asyncio.run(main())


def test_an_async_function_on_a_thread_is_a_type_error(group: Group[Any]) -> None:
    async def load(_: str) -> Any:
        made.append(1)

    async def load_many(_: list[str]) -> Any:
        made.append(1)

    made: list[int] = []
    functions: list[Any] = [load, lambda key: load(key)]  # noqa: PLW0108 - the second does not look async
    for wrong in functions:
        with pytest.raises(TypeError, match="use aget_or_load") as caught:
            group.get_or_load("a", wrong)
        assert caught.value.__cause__ is None
    wrongs: list[Any] = [load_many, lambda keys: load_many(keys)]  # noqa: PLW0108 - the same
    for wrong_many in wrongs:
        with pytest.raises(TypeError, match="use aget_many_or_load"):
            group.get_many_or_load(["a"], wrong_many)
    with pytest.raises(TypeError, match="load must be a function, not int"):
        group.get_or_load("a", 7)  # type: ignore[arg-type]
    with pytest.raises(LoadError, match="load_many must return a mapping"):
        group.get_many_or_load(["a"], lambda _: [1])  # type: ignore[arg-type, return-value]
    assert not made
    assert group.get_or_load("a", lambda key: key) == "a"
    stats = group.stats()
    assert stats.gets == stats.hits + stats.joined + stats.loads + stats.absent


def test_what_a_function_returns(group: Group[Any]) -> None:
    assert group.get_or_load("none", lambda _: None) is None
    assert group.get_or_load("none", no_load) is None  # for negative_ttl
    assert group.get_or_load("short", lambda _: Value(1, ttl="1ms")) == 1
    wait_until(lambda: group.peek("short") is None)
    assert group.get_many_or_load(["x", "short", "y", "y"], lambda keys: {"x": 1, "short": Value(2)}) == {
        "x": 1,
        "short": 2,
    }
    with pytest.raises(LoadError) as caught:
        group.get_or_load("object", lambda _: object())
    assert caught.value.key == "object"
    with pytest.raises(InvalidKey):
        group.get_or_load("", no_load)
    with pytest.raises(TypeError):
        group.get_many_or_load("abc", no_load_many)
    assert group.get_many_or_load([], no_load_many) == {}
    assert group.get_many_or_load(["z", "x"], lambda keys: dict.fromkeys(keys, 3)) == {"z": 3, "x": 1}


def test_a_failure_reaches_its_caller_with_its_cause_and_the_next_call_loads(group: Group[Any]) -> None:
    def load(_: str) -> Any:
        raise error

    async def aload(_: str) -> Any:
        raise error

    error = ValueError("no")
    with pytest.raises(LoadError, match=r"users\['a'\]: ValueError: no") as caught:
        group.get_or_load("a", load)
    assert caught.value.__cause__ is error
    for function in (load, aload):
        with pytest.raises(LoadError) as caught:
            asyncio.run(group.aget_or_load("a", function))
        assert caught.value.__cause__ is error
    with pytest.raises(LoadError) as caught:
        group.get_many_or_load(["a"], lambda _: load(""))
    assert caught.value.__cause__ is error
    assert group.get_or_load("a", lambda _: 1) == 1
    assert group.stats().load_errors == 4


def test_an_interrupt_is_the_callers_and_those_who_wait_load(group: Group[Any]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def interrupted(_: str) -> Any:
        begun.set()
        assert go_on.wait(10)
        raise KeyboardInterrupt

    first = in_thread(group.get_or_load, "a", interrupted)
    assert begun.wait(10)
    second = in_thread(group.get_or_load, "a", lambda _: "second")
    time.sleep(0.05)
    go_on.set()
    with pytest.raises(KeyboardInterrupt):
        first.result(10)
    assert second.result(10) == "second"


def test_a_cancelled_caller_leaves_the_load_to_those_who_wait(group: Group[Any]) -> None:
    loads = 0

    async def load(_: str) -> Any:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0.05)
        return "value"

    async def main() -> None:
        first = asyncio.create_task(group.aget_or_load("a", load))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(group.aget_or_load("a", load))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == "value"
        assert first.cancelled()

    asyncio.run(main())
    assert loads == 1


def test_a_loop_that_ends_leaves_the_key_to_another(group: Group[Any]) -> None:
    async def load(_: str) -> Any:
        await asyncio.sleep(60)

    async def begin() -> None:
        task = asyncio.create_task(group.aget_or_load("a", load))
        await asyncio.sleep(0.01)
        del task

    asyncio.run(begin())
    assert group.get_or_load("a", lambda _: "other") == "other"


def test_a_function_that_asks_for_its_own_key(group: Group[Any]) -> None:
    def load(key: str) -> Any:
        return group.get_or_load(key, load)

    with pytest.raises(LoadError) as caught:
        group.get_or_load("a", load)
    assert isinstance(caught.value.__cause__, LoadCycle)
    assert group.get_or_load("a", lambda key: group.get_or_load("b", lambda inner: [key, inner])) == ["a", "b"]


def test_a_function_that_takes_too_long() -> None:
    async def load(_: str) -> Any:
        await asyncio.sleep(60)

    with Node() as node:
        group = node.group("users", load_timeout="50ms")
        with pytest.raises(LoadTimeout):
            asyncio.run(group.aget_or_load("a", load))

        def slow(_: str) -> bytes:
            time.sleep(0.1)
            return b"late"

        assert group.get_or_load("a", slow) == b"late", "a thread cannot be stopped, so its caller gets the value"
        assert group.get_or_load("a", lambda _: b"next") == b"next", "it was too late to be kept"


def test_plain_gets_wait_for_it_and_take_their_own_want_for_no_answer(group: Group[Any]) -> None:
    """Answer a get without a loader from the function that runs, and never a get_or_load from a get that found none."""
    begun, go_on = threading.Event(), threading.Event()

    def load(key: str) -> Any:
        begun.set()
        assert go_on.wait(10)
        return key

    assert group.get("a") is None
    first = in_thread(group.get_or_load, "a", load)
    assert begun.wait(10)
    others = [in_thread(group.get, "a"), in_thread(group.get_or_load, "a", no_load)]
    wait_until(lambda: group.stats().gets == 4)
    time.sleep(0.05)
    go_on.set()
    assert [call.result(10) for call in (first, *others)] == ["a", "a", "a"]


def test_the_groups_own_loader_and_a_given_one_share_their_flights() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def load(key: str) -> bytes:
        begun.set()
        assert go_on.wait(10)
        return b"the group's"

    with Node() as node:
        group = node.group("users", load)
        first = in_thread(group.get, "a")
        assert begun.wait(10)
        second = in_thread(group.get_or_load, "a", no_load)
        wait_until(lambda: group.stats().gets == 2)
        go_on.set()
        assert (first.result(10), second.result(10)) == (b"the group's", b"the group's")
        assert group.get_or_load("b", lambda _: b"mine") == b"mine"


def test_tasks_need_a_loop(group: Group[Any]) -> None:
    call = group.aget_or_load("a", no_load)
    with pytest.raises(NoEventLoop):
        call.send(None)
    wait_until(lambda: group.stats().gets == 1)
