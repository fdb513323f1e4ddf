"""The event loop on which a node runs async loaders, and one like it for its clients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import Promise, monotonic
from kamacache.errors import NodeClosed
from kamacache.steps import running_loop

if TYPE_CHECKING:
    import asyncio

_STOP_WAIT = 1.0  # seconds
_START_WAIT = 1.0


class HomeLoop:
    """The event loop that ran when the node was started, else one on a thread of its own.

    A loop that is closed or does not run any more is replaced.

    Invariant, under `_lock`: `_loop` is the home, `_thread` runs it exactly if it is our own.
    """

    def __init__(self, name: str = "kamacache-loop") -> None:
        self._name = name  # of the own thread
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[Any] = set()  # a loop holds its tasks weakly
        self._settled = False
        self._closed = False

    def settle(self) -> None:
        """Settle the home, as the node was started: if no loop ran then, the home gets a thread of its own."""
        self._settled = True

    def adopt_running(self) -> None:
        """Make the loop that runs on this thread the home, if no home is settled yet or the old one no longer runs."""
        loop = running_loop()
        if loop is None or loop is self._loop:
            return
        with self._lock:
            if not self._settled if self._loop is None else not self._loop.is_running():
                self._loop, self._thread = loop, None

    def is_here(self) -> bool:
        """Return whether the home loop runs on the calling thread."""
        return self._loop is not None and self._loop is running_loop()

    def is_own(self) -> bool:
        """Return whether the home loop runs on a thread of ours."""
        return self._thread is not None and not self._closed

    def running(self) -> asyncio.AbstractEventLoop:
        """Return the home loop, which runs; one of our own if there is no other. Raises NodeClosed, Overloaded."""
        loop = self._loop
        if loop is not None and loop.is_running() and not self._closed:
            return loop
        import asyncio  # noqa: PLC0415 - only groups with async loaders pay for its import

        with self._lock:
            if self._closed:
                raise NodeClosed("the node was closed")
            if self._loop is not None and self._loop.is_running():
                return self._loop
            loop, runs = asyncio.new_event_loop(), Promise()
            with suppress(AttributeError):  # a loop of another library
                loop.time = monotonic  # type: ignore[method-assign] # a test may freeze the clocks of Python
            loop.call_soon(runs.set_result, None)
            try:
                started = thread.start(self._name, _serve, loop)
            except BaseException:
                loop.close()
                raise
            self._loop, self._thread = loop, started
        gate = threading.Lock()
        gate.acquire()
        if runs.wake(gate.release):
            gate.acquire(timeout=_START_WAIT)
        return loop

    # -- work for it -------------------------------------------------------------------------------------------------

    def begin(self, make: Callable[[], Coroutine[Any, Any, Any]], ended: Callable[[], object]) -> None:
        """Run the coroutine of `make` as a task of its own on the home loop, whatever becomes of the caller.

        The task has a copy of this context. The coroutine is made when the task begins, so that a loop that closes
        earlier drops no coroutine that was never awaited. `ended` is called when the task has ended, even if it never
        began.
        """
        self._begin(make, None, ended)

    def spawn(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Promise:
        """Run the coroutine of `make` in the same way, and return a promise of its result."""
        promise = Promise()
        self._begin(make, promise)
        return promise

    def _begin(
        self,
        make: Callable[[], Coroutine[Any, Any, Any]],
        promise: Promise | None,
        ended: Callable[[], object] | None = None,
    ) -> None:
        context = copy_context()
        while True:
            loop = self.running()
            if self.is_here():
                self._start(loop, make, promise, ended, context)
                return
            try:
                loop.call_soon_threadsafe(self._start, loop, make, promise, ended, context)
            except RuntimeError:
                if not loop.is_closed():
                    raise
            else:
                return  # else it was closed in between: take the next one

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], Coroutine[Any, Any, Any]],
        promise: Promise | None,
        ended: Callable[[], object] | None,
        context: Context,
    ) -> None:
        if loop is not self._loop:  # it is about to end, and said so after it was chosen
            try:
                context.run(self._begin, make, promise, ended)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller that waits
                if promise is not None:
                    promise.set_exception(error)
            return
        # Not create_task(context=…): task factories of older tracing tools do not take it.
        task = context.run(self.task, loop, make(), ended)
        if promise is not None:
            task.add_done_callback(lambda task: _keep(promise, task))

    def task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        ended: Callable[[], object] | None = None,
    ) -> asyncio.Task[Any]:
        """Create a task on the running loop and keep a reference until it finishes. Then `ended` is called."""
        try:
            task = loop.create_task(coroutine)
        except BaseException:
            coroutine.close()
            raise
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if ended is not None:
            task.add_done_callback(lambda _: ended())
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the waiting callers get it from its flights
            return
        # Only a closing loop of the user cancels these tasks, so it is used no more.
        with self._lock:
            if self._loop is task.get_loop() and self._thread is None:
                self._loop, self._thread, self._settled = None, None, False

    def forget(self) -> None:
        """Let the next loop on which the node is used be the home, as if the node was new."""
        with self._lock:
            loop, own = self._loop, self._thread
            self._loop, self._thread, self._settled = None, None, False
        self._end(loop, own)

    def close(self) -> None:
        """Cancel the tasks and end the own thread; a loop of the user's goes on."""
        with self._lock:
            self._closed = True
            loop, own = self._loop, self._thread
        self._end(loop, own)

    def _end(self, loop: asyncio.AbstractEventLoop | None, own: threading.Thread | None) -> None:
        if loop is None or loop.is_closed():
            return

        def stop() -> None:
            for task in list(self._tasks):
                if task.get_loop() is loop:
                    task.cancel()
            if own is not None:
                loop.call_soon(loop.stop)

        try:
            loop.call_soon_threadsafe(stop)
        except RuntimeError:  # closed in between
            return
        if own is not None and own is not threading.current_thread():
            own.join(_STOP_WAIT)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop of our own until it is stopped."""
    import asyncio  # noqa: PLC0415 - it is running

    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):  # a loader raised it: its flights have ended, the others go on
            continue
        break
    try:
        if tasks := asyncio.all_tasks(loop):  # cancelled: they may tidy up
            loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_WAIT / 2))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _keep(promise: Promise, task: asyncio.Task[Any]) -> None:
    set_exception: Callable[[BaseException], object] = promise.set_exception
    if task.cancelled():
        import asyncio  # noqa: PLC0415 - it is running

        set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        set_exception(error)
    else:
        promise.set_result(task.result())
