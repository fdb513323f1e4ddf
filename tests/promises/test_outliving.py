"""Work that a loader starts and leaves behind may ask for its key later; a load that waits for itself may not."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from kamacache import Group, LoadCycle, Node
from tests.promises.support import came_from, in_tasks, isolated
from tests.unit.groups import Caller


class Later:
    """Work that starts in a load, waits until the load has ended, and then asks."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.ask = ask
        self.go = threading.Event()
        self.answer: Future[Any] = Future()
        self.started = False

    def in_thread(self) -> None:
        assert self.go.wait(20)
        try:
            self.answer.set_result(self.ask())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.answer.set_exception(error)

    async def in_task(self) -> None:
        while not self.go.is_set():  # noqa: ASYNC110 - a thread may set it
            await asyncio.sleep(0.001)
        try:
            self.answer.set_result(await self.ask())
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.answer.set_exception(error)

    def start(self, how: str) -> None:
        """Begin once, as work that is left behind."""
        if self.started:
            return
        self.started = True
        if how == "thread":
            threading.Thread(target=contextvars.copy_context().run, args=(self.in_thread,), daemon=True).start()
            return
        if how == "task":
            kept.append(asyncio.ensure_future(self.in_task()))
        else:
            begin = lambda: kept.append(asyncio.ensure_future(self.in_task()))  # noqa: E731 - for both
            loop = asyncio.get_running_loop()
            loop.call_soon(begin) if how == "callback" else loop.call_later(0.01, begin)


kept: list[Any] = []  # asyncio itself keeps no task alive


def finish(later: Later, group: Group[Any]) -> None:
    """Let the work ask, now that the load has ended, for a key that has to be loaded again."""
    assert later.started
    group.delete("k")
    later.go.set()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("how", ["task", "callback", "timer"])
@pytest.mark.parametrize("through", ["directly", "through another group"])
@pytest.mark.parametrize("caller", ["task", "thread"])
@isolated()
def test_work_that_an_async_loader_leaves_behind(batch: bool, how: str, through: str, caller: str) -> None:
    node = Node()
    later = Later(lambda: group.aget_many(["k"]) if batch else group.aget("k"))

    async def load(key: str) -> bytes:
        if through == "directly":
            later.start(how)
        else:
            await other.aget(f"{key}{len(kept)}")
        return key.encode()

    async def load_other(key: str) -> bytes:
        later.start(how)
        return key.encode()

    group: Group[bytes] = node.group("g", load, load_timeout=None)
    other: Group[bytes] = node.group("other", load_other, load_timeout=None)

    async def main() -> Any:
        assert await group.aget("k") == b"k"
        await asyncio.to_thread(finish, later, group)
        return await asyncio.wait_for(asyncio.wrap_future(later.answer), 20)

    if caller == "task":
        answer = asyncio.run(main())
    else:
        assert group.get("k") == b"k"
        finish(later, group)
        answer = later.answer.result(20)
    assert answer == ({"k": b"k"} if batch else b"k")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("through", ["directly", "through another group"])
@pytest.mark.parametrize("caller", ["task", "thread"])
@isolated()
def test_a_thread_with_a_copied_context(batch: bool, through: str, caller: str) -> None:
    node = Node()
    later = Later(lambda: group.get_many(["k"]) if batch else group.get("k"))

    def load(key: str) -> bytes:
        if through == "directly":
            later.start("thread")
        else:
            other.get(f"{key}{len(asked)}")
        asked.append(key)
        return key.encode()

    def load_other(key: str) -> bytes:
        later.start("thread")
        return key.encode()

    asked: list[str] = []
    group: Group[bytes] = node.group("g", load, load_timeout=None)
    other: Group[bytes] = node.group("other", load_other, load_timeout=None)
    found = in_tasks(lambda: group.aget("k")) if caller == "task" else [Caller(group.get, "k").result()]
    assert found == [b"k"]
    finish(later, group)
    assert later.answer.result(20) == ({"k": b"k"} if batch else b"k")


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("through", ["directly", "through another group"])
@pytest.mark.parametrize("caller", ["task", "thread"])
@pytest.mark.parametrize("kind", ["plain", "async"])
@isolated()
def test_a_true_cycle(batch: bool, through: str, caller: str, kind: str) -> None:
    node = Node()

    def load(key: str) -> bytes | None:
        asked: Group[bytes] = group if through == "directly" else other
        return asked.get_many([key])[key] if batch else asked.get(key)

    async def aload(key: str) -> bytes | None:
        asked: Group[bytes] = group if through == "directly" else other
        return (await asked.aget_many([key]))[key] if batch else await asked.aget(key)

    def load_other(key: str) -> bytes | None:
        return group.get(key)

    async def aload_other(key: str) -> bytes | None:
        return await group.aget(key)

    group: Group[bytes] = node.group("g", load if kind == "plain" else aload, load_timeout=None)
    other: Group[bytes] = node.group("other", load_other if kind == "plain" else aload_other, load_timeout=None)
    for _ in range(2):  # the second call finds nothing that the first has left
        error = in_tasks(lambda: group.aget("k"))[0] if caller == "task" else Caller(group.get, "k").error()
        assert came_from(error, LoadCycle), repr(error)
