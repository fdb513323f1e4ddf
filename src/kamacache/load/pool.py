"""Run plain loaders on daemon threads: a bounded number, made when needed, with a bounded queue.

The pool of concurrent.futures joins its threads at exit, but a loader that hangs must not keep a process alive.
"""

from __future__ import annotations

import contextvars
import itertools
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import Promise
from kamacache.errors import NodeClosed, Overloaded

if TYPE_CHECKING:
    from kamacache._engine import Lead

QUEUE_FACTOR = 32
_IDLE = 10.0  # seconds after which an idle thread ends

_HERE = threading.local()


def on_pool() -> bool:
    """Return whether the calling thread is one of a pool's, which no signal and no caller can want to interrupt."""
    return getattr(_HERE, "pool", False)


class Pool:
    """At most `threads` threads and a queue of jobs.

    Invariant: no lock is waited for, so a finaliser may come here at any instant. `_threads` holds the threads that
    run, `_busy` those of them that have a job; both change in single steps. `submit` looks for an idle thread after it
    has added its job; a thread that ends looks for a job after it has left `_threads`. One of the two sees the other.
    """

    def __init__(self, threads: int, name: str, own: int) -> None:
        """Let `own` jobs of this node's own callers wait; for peers the limit is another one."""
        self.threads = threads
        self._name = name
        self._own = own
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads: set[int] = set()
        self._busy: set[int] = set()
        self._starting = threading.Lock()  # never waited for
        self._closed = False
        self._numbers = itertools.count(1)

    def lead(self, lead: Lead, work: Callable[[], Any]) -> None:
        """Run the work of a lead, and abort what it leaves open. Raises what submit raises."""
        job = self.submit(work, own=True)
        if not job.wake(lead.abandon):
            lead.abandon()

    def submit(self, job: Callable[[], Any], *, own: bool = False) -> Promise:
        """Run `job` on a thread, in a copy of this context.

        Raises Overloaded if too many wait, or no thread can be started; NodeClosed.
        """
        promise = Promise()
        context = contextvars.copy_context()

        def work() -> None:
            if promise.begin():
                try:
                    result = context.run(job)
                except BaseException as error:  # noqa: BLE001 - it belongs to the caller that waits for the promise
                    promise.set_exception(error)
                else:
                    promise.set_result(result)

        if self._closed:
            raise NodeClosed("the node was closed")
        waiting = self._jobs.qsize()
        if waiting >= (self._own if own else QUEUE_FACTOR * self.threads):
            raise Overloaded(f"{waiting} loads are waiting for {self.threads} threads")
        self._jobs.put(work)
        try:
            self._grow()
        except Overloaded as error:
            if not self._threads:  # else a running thread takes the job
                if promise.begin():
                    promise.set_exception(error)
                raise
        return promise

    def _grow(self) -> None:
        """Start a thread if a job waits for one."""
        while (
            self._jobs.qsize() > len(self._threads) - len(self._busy)
            and len(self._threads) < self.threads
            and self._starting.acquire(blocking=False)
        ):
            try:
                started = thread.start(f"{self._name}-{next(self._numbers)}", self._serve)
                self._threads.add(started.ident or 0)
            finally:
                self._starting.release()

    def _serve(self) -> None:
        _HERE.pool = True
        me = threading.get_ident()
        try:
            self._work(me)
        finally:  # also if an exception was sent to this thread
            self._threads.discard(me)
            self._busy.discard(me)
            if not self._closed:
                self._grow()

    def _work(self, me: int) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE)
            except queue.Empty:
                self._threads.discard(me)
                if self._jobs.empty():
                    return
                self._threads.add(me)  # a job came in at the last moment
                continue
            if job is None:
                return
            self._busy.add(me)
            job()
            del job  # nothing of a finished load stays alive while this thread waits
            self._busy.discard(me)

    def close(self) -> None:
        """Let the threads end once the queued jobs are done. Later jobs are refused."""
        if not self._closed:
            self._closed = True
            for _ in range(self.threads):
                self._jobs.put(None)
