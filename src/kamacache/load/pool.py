"""Daemon threads that run loaders: a bounded queue and a bounded number of threads, made when needed.

Not concurrent.futures' pool: its threads are joined at exit, and a loader that hangs must not keep a process alive.
"""

from __future__ import annotations

import contextvars
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from kamacache.errors import NodeClosed, Overloaded

QUEUE_FACTOR = 32
_IDLE = 10.0  # seconds after which an idle thread ends

_HERE = threading.local()


def on_pool() -> bool:
    """Whether the calling thread is one of a pool's, which no signal and no caller can want to interrupt."""
    return getattr(_HERE, "pool", False)


class Pool:
    """At most `threads` threads and 32 times as many jobs waiting; more are refused with Overloaded.

    Invariant, under `_lock`: `_waiting` counts the jobs queued and not yet taken, `_threads` the live threads, `_idle`
    those of them that wait for a job.
    """

    def __init__(self, threads: int, name: str) -> None:
        self.threads = threads
        self._name = name
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._idle = 0
        self._threads = 0
        self._closed = False
        self._numbers = itertools.count(1)

    def submit(self, job: Callable[[], Any]) -> Future[Any]:
        """Run `job` on a thread, in a copy of this context; Overloaded when the queue is full."""
        future: Future[Any] = Future()
        context = contextvars.copy_context()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = context.run(job)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                raise NodeClosed("the node was closed")
            if self._waiting >= QUEUE_FACTOR * self.threads:
                raise Overloaded(f"{self._waiting} loads are waiting for {self.threads} threads")
            self._waiting += 1
            start = self._waiting > self._idle and self._threads < self.threads
            self._threads += start
        self._jobs.put(work)
        if start:
            threading.Thread(target=self._serve, name=f"{self._name}-{next(self._numbers)}", daemon=True).start()
        return future

    def _serve(self) -> None:
        _HERE.pool = True
        while True:
            with self._lock:
                self._idle += 1
            try:
                job = self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                with self._lock:
                    self._idle -= 1
                    if self._waiting and not self._closed:  # a job came in at the last moment
                        continue
                    self._threads -= 1
                    return
            with self._lock:
                self._idle -= 1
                self._waiting -= job is not None
                if job is None:
                    self._threads -= 1
                    return
            job()
            del job  # nothing of a finished load stays alive while this thread waits

    def close(self) -> None:
        """Let the threads end once what is queued is done; what comes later is refused."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = self._threads
        for _ in range(threads):
            self._jobs.put(None)
