"""The event loop on which a node runs async loaders, and one like it for its clients."""

from __future__ import annotations

import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from kamacache.errors import NodeClosed

if TYPE_CHECKING:
    import asyncio

_STOP_WAIT = 1.0


class HomeLoop:
    """The loop that ran when the node was started, else one on a thread of its own; a closed one is replaced.

    Invariant, under `_lock`: `_loop` is the home, `_thread` runs it exactly if it is our own.
    """

    def __init__(self, name: str = "kamacache-loop") -> None:
        self._name = name  # of the own thread
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ident: int | None = None
        self._tasks: set[Any] = set()  # a loop holds its tasks weakly
        self._settled = False
        self._closed = False

    def settle(self) -> None:
        """The node was started: where no loop ran there, a thread of its own is to be the home."""
        self._settled = True

    def adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        """Called on a running loop: it becomes the home until that is settled, or when the old one was closed."""
        if self._loop is loop:
            return
        with self._lock:
            if self._loop.is_closed() if self._loop is not None else not self._settled:
                self._loop, self._thread, self._ident = loop, None, threading.get_ident()

    def adopt_running(self) -> None:
        """The same where a loop may be running; costs nothing where asyncio was never imported."""
        asyncio = sys.modules.get("asyncio")
        loop = None if asyncio is None else asyncio._get_running_loop()  # noqa: SLF001 - documented, and does not raise
        if loop is not None:
            self.adopt(loop)

    def is_here(self) -> bool:
        """Whether the calling thread is the one the home loop runs on."""
        return self._ident == threading.get_ident() and self._loop is not None and self._loop.is_running()

    def ident(self) -> int | None:
        """The thread of the home loop, which is made if there is none."""
        self._running()
        return self._ident

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run as a task of its own on the home loop, with a copy of this context."""
        future: Future[Any] = Future()
        context = copy_context()
        try:
            loop = self._running()
            loop.call_soon_threadsafe(self._start, loop, coroutine, future, context)
        except BaseException:
            coroutine.close()
            raise
        return future

    def _start(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, Any],
        future: Future[Any],
        context: Context,
    ) -> None:
        if loop is not self._loop:  # it is about to end, and said so after spawn chose it
            try:
                loop = self._running()
                loop.call_soon_threadsafe(self._start, loop, coroutine, future, context)
            except (NodeClosed, RuntimeError) as error:
                coroutine.close()
                future.set_exception(error)
            return
        task = self.task(loop, coroutine, context)

        def ended(task: asyncio.Task[Any]) -> None:
            if task.cancelled():
                future.cancel()
                future.set_running_or_notify_cancel()
            elif (error := task.exception()) is not None:
                future.set_exception(error)
            else:
                future.set_result(task.result())

        task.add_done_callback(ended)

    def task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], context: Context | None = None
    ) -> asyncio.Task[Any]:
        """A task that lives until it is done. Who cancels it is ending the loop: that is the home no longer."""
        task = loop.create_task(self._watched(loop, coroutine), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: coroutine.close())  # where it was cancelled before it began
        return task

    async def _watched(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio  # noqa: PLC0415 - it is running

        try:
            return await coroutine
        except asyncio.CancelledError:
            with self._lock:
                if self._loop is loop:
                    self._loop, self._ident, self._settled = None, None, False
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        import asyncio  # noqa: PLC0415 - only groups with async loaders pay for its import

        with self._lock:
            if self._closed:
                raise NodeClosed("the node was closed")
            if self._loop is None or self._loop.is_closed():
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=self._serve, args=(loop,), name=self._name, daemon=True)
                self._loop, self._thread = loop, thread
                thread.start()
                self._ident = thread.ident
            return self._loop

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        while True:
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt):  # a loader raised it: its flights have ended, the others go on
                continue
            break
        try:
            if tasks := asyncio.all_tasks(loop):  # all cancelled, and theirs are: they may tidy up
                loop.run_until_complete(asyncio.wait(tasks, timeout=_STOP_WAIT / 2))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def close(self) -> None:
        """Cancel the tasks and end the own thread; a loop of the user's goes on."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or loop.is_closed():
            return

        def stop() -> None:
            for task in list(self._tasks):
                task.cancel()
            if thread is not None:
                loop.call_soon(loop.stop)

        try:
            loop.call_soon_threadsafe(stop)
        except RuntimeError:  # closed in between
            return
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_WAIT)
