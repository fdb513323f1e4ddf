"""Requests written once for threads and for tasks.

The paths of a get and of a write are generators that yield *steps*: each is something to wait for, and knows how to do
that on a thread (`run`) and in a task (`arun`). `drive` and `adrive` carry a generator to its end in either world.
"""

from __future__ import annotations

import _thread
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from kamacache._engine import Promise
    from kamacache.deadline import Deadline

from kamacache.errors import NoEventLoop

T = TypeVar("T")
_running: Callable[[], asyncio.AbstractEventLoop | None] | None = None  # of asyncio


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread; costs nothing if asyncio was never imported.

    While another thread imports asyncio, only a part of the module is there, and no loop can run.
    """
    global _running  # noqa: PLW0603 - looked up once
    if _running is None:
        _running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)  # documented, and does not raise
        if _running is None:
            return None
    return _running()


def needed_loop() -> asyncio.AbstractEventLoop:
    """Return the event loop that runs on this thread. Raises NoEventLoop if there is none."""
    loop = running_loop()
    if loop is None:
        raise NoEventLoop(
            "methods that begin with a need a running asyncio event loop; elsewhere call the method without the a "
            "on a thread, with trio for example trio.to_thread.run_sync(group.get, key)"
        )
    return loop


class Step(Protocol):
    """Something to wait for, on a thread or in a task."""

    def run(self) -> Any:
        """Wait on this thread."""

    def arun(self) -> Awaitable[Any]:
        """Wait in this task."""


Path = Generator[Step, Any, T]


def drive(path: Path[T]) -> T:
    """Carry a path to its end on this thread."""
    try:
        step = next(path)
        while True:
            try:
                result = step.run()
            except BaseException as error:  # noqa: BLE001 - the path decides, interrupts included
                step = path.throw(error)
            else:
                step = path.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        path.close()  # an interrupt between two steps must reach the path's own finally now, not with the traceback


async def adrive(path: Path[T]) -> T:
    """Carry a path to its end in this task."""
    try:
        step = next(path)
        while True:
            try:
                result = await step.arun()
            except BaseException as error:  # noqa: BLE001 - the path decides, cancellation included
                step = path.throw(error)
            else:
                step = path.send(result)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        path.close()


_UNDER_WAY: set[Any] = set()  # a loop holds its tasks weakly


async def whole(path: Path[T]) -> T:
    """Carry the path of a write to its end in a task of its own, even if its caller is cancelled half-way."""
    import asyncio  # noqa: PLC0415 - it is running

    task = asyncio.get_running_loop().create_task(adrive(path))
    _UNDER_WAY.add(task)
    task.add_done_callback(_ended)
    return await asyncio.shield(task)


def _ended(task: Any) -> None:
    _UNDER_WAY.discard(task)
    if not task.cancelled():
        task.exception()  # asyncio would print one for which a cancelled caller no longer waits


class Twofold:
    """A step made of a function and of a coroutine function with the same result."""

    __slots__ = ("_arun", "_run")

    def __init__(self, run: Callable[[], Any], arun: Callable[[], Awaitable[Any]]) -> None:
        self._run = run
        self._arun = arun

    def run(self) -> Any:
        return self._run()

    def arun(self) -> Awaitable[Any]:
        return self._arun()


async def _pause() -> None:
    import asyncio  # noqa: PLC0415 - it is running

    await asyncio.sleep(0)


PAUSE = Twofold(lambda: None, _pause)  # lets others use the event loop for a turn
_LOOK = 0.01  # seconds between two looks at what other nodes do
PAUSE_EVERY = 100  # keys of a batch between two pauses


def pause(seconds: float = _LOOK) -> Twofold:
    """Return a step that waits for a moment, before another look at what other nodes do."""

    async def apause() -> None:
        import asyncio  # noqa: PLC0415 - it is running

        await asyncio.sleep(seconds)

    return Twofold(lambda: time.sleep(seconds), apause)


def parts(items: Sequence[T], size: int = PAUSE_EVERY) -> Iterator[list[T]]:
    """Cut a batch into parts, by default into what is done between two pauses."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


class Wait:
    """Wait for a promise; TimeoutError if the deadline passes first. The promise goes on."""

    __slots__ = ("_deadline", "_promise")

    def __init__(self, promise: Promise, deadline: Deadline) -> None:
        self._promise = promise
        self._deadline = deadline

    def run(self) -> Any:
        gate = _thread.allocate_lock()
        gate.acquire()
        if self._promise.wake(gate.release):
            while not self._promise.ended and (left := self._deadline.left()) > 0:
                gate.acquire(timeout=min(left, TIMEOUT_MAX))
        if not self._promise.ended:
            raise TimeoutError
        return self._promise.result()

    async def arun(self) -> Any:
        import asyncio  # noqa: PLC0415 - only programs that use asyncio pay for its import

        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def end() -> None:
            if not done.done():
                done.set_result(None)

        if self._promise.wake(lambda: loop.call_soon_threadsafe(end)):
            left = self._deadline.left()
            timer = loop.call_later(left, end) if left < TIMEOUT_MAX else None
            try:  # not asyncio.wait_for, which on Python 3.11 swallows a cancellation in the turn of the result
                await done
            finally:
                if timer is not None:
                    timer.cancel()
        if not self._promise.ended:
            raise TimeoutError
        return self._promise.result()
