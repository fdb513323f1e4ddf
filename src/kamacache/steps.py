"""Requests written once for threads and for tasks.

The paths of a get and of a write are generators that yield *steps*: each is something to wait for, and knows how to do
that on a thread (`run`) and in a task (`arun`). `drive` and `adrive` carry a generator to its end in either world.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from concurrent.futures import Future

T = TypeVar("T")


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
    """Carry a path, a write's, to its end in a task of its own, even when its caller is cancelled half-way."""
    import asyncio  # noqa: PLC0415 - it is running

    task = asyncio.get_running_loop().create_task(adrive(path))
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
    return await asyncio.shield(task)


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


class Wait:
    """Wait for a future until a time of time.monotonic() (None: for ever); TimeoutError then. Never cancels it."""

    __slots__ = ("_deadline", "_future")

    def __init__(self, future: Future[Any], deadline: float | None = None) -> None:
        self._future = future
        self._deadline = deadline

    def _left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def run(self) -> Any:
        try:
            return self._future.result(self._left())
        except TimeoutError:
            if self._future.done():  # it ended with a timeout of its own, or just now
                return self._future.result(0)
            raise

    async def arun(self) -> Any:
        import asyncio  # noqa: PLC0415 - only programs that use asyncio pay for its import

        if not self._future.done():
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def wake(_: Future[Any]) -> None:
                try:
                    loop.call_soon_threadsafe(lambda: None if done.done() else done.set_result(None))
                except RuntimeError:  # the loop was closed: nobody waits there any more
                    return

            self._future.add_done_callback(wake)
            left = self._left()
            await (done if left is None else asyncio.wait_for(done, left))
        return self._future.result(0)
