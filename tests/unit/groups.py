"""Helpers for tests of groups: threads and tasks by one name, callers on threads, and loaders that can be held."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kamacache import Group, GroupStats
from kamacache.load.flight import Landing
from kamacache.steps import Wait

PATIENCE = 10.0
WAYS = ("sync", "async")
ANSWERS = ("hits", "near_hits", "absent", "peer_hits", "joined", "loads", "peer_loads")


def call(way: str, group: Group[Any], method: str, *args: Any, **options: Any) -> Any:
    """Call a method of a group, or its async twin on an event loop of its own."""
    if way == "sync":
        return getattr(group, method)(*args, **options)
    twin = getattr(group, f"a{method}")

    async def main() -> Any:
        return await twin(*args, **options)

    return asyncio.run(main())


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.001)


class Caller:
    """A function called on a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.future: Future[Any] = Future()
        self.thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self.thread.start()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            result = function(*args)
        except BaseException as error:  # noqa: BLE001 - the test asks for it
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def result(self) -> Any:
        return self.future.result(PATIENCE)

    def error(self) -> BaseException | None:
        return self.future.exception(PATIENCE)

    def waits(self) -> bool:
        """Return whether the thread waits for a flight or a promise, or in a lock of the threading module."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        if frame is None:
            return False
        if frame.f_code.co_name == "run":
            return frame.f_code in (Landing.run.__code__, Wait.run.__code__)
        return frame.f_code.co_name == "wait" and frame.f_code.co_filename == threading.__file__


def waiting(function: Callable[..., Any], *args: Any) -> Caller:
    """Return a caller that has come to wait for another."""
    caller = Caller(function, *args)
    until(lambda: caller.waits() or caller.future.done())
    return caller


class Held:
    """A plain loader whose loads wait for `go`, then return or raise what `answer` says. `calls` counts them by key."""

    def __init__(self, answer: Callable[[str], Any] = str.encode) -> None:
        self.answer = answer
        self.calls: Counter[str] = Counter()
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, key: str) -> Any:
        self.calls[key] += 1
        self.begun.release()
        assert self.go.wait(PATIENCE)
        return self.answer(key)

    def wait_begun(self) -> None:
        assert self.begun.acquire(timeout=PATIENCE)


class AsyncHeld(Held):
    """The same as an async loader; `cancelled` counts its tasks that were cancelled."""

    def __init__(self, answer: Callable[[str], Any] = str.encode) -> None:
        super().__init__(answer)
        self.cancelled = threading.Semaphore(0)

    async def __call__(self, key: str) -> Any:
        self.calls[key] += 1
        self.begun.release()
        try:
            async with asyncio.timeout(PATIENCE):
                while not self.go.is_set():  # noqa: ASYNC110 - threads set it
                    await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        return self.answer(key)


async def begun(loader: Held) -> None:
    """Wait in a task until a load has begun."""
    async with asyncio.timeout(PATIENCE):
        while not loader.begun.acquire(blocking=False):  # noqa: ASYNC110 - threads release it
            await asyncio.sleep(0.001)


async def settled() -> None:
    """Let every task go on that can."""
    for _ in range(5):
        await asyncio.sleep(0)


def answered(stats: GroupStats) -> int:
    """Return the number of keys asked, as the sum of the ways in which they were answered."""
    found: list[int] = [getattr(stats, name) for name in ANSWERS]
    return sum(found)


def counts(group: Group[Any]) -> dict[str, int]:
    """Return how the keys asked were answered, without the zeros."""
    stats = group.stats()
    assert stats.gets == answered(stats)
    return {name: getattr(stats, name) for name in ANSWERS if getattr(stats, name)}


def tasks_join(group: Group[bytes], held: Held, leader: Caller) -> None:
    """Check that three tasks join the load that `leader` began for "k", all get its value, and it is loaded once."""

    async def main() -> None:
        others = [asyncio.create_task(group.aget("k")) for _ in range(3)]
        await settled()
        held.go.set()
        assert await asyncio.gather(*others) == [b"k"] * 3

    asyncio.run(main())
    assert leader.result() == b"k"
    assert held.calls == {"k": 1}
    assert counts(group) == {"loads": 1, "joined": 3}
