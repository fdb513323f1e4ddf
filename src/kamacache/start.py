"""The start of a node: one at a time, undone if it fails, made by itself at the first call that needs the node."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from kamacache import thread
from kamacache._engine import Promise
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed
from kamacache.log import log
from kamacache.steps import Wait

JOIN_TIMEOUT = 5.0  # seconds that a start waits until the node has joined
AUTO_TIMEOUT = 1.0  # seconds that calls wait in all for a node that starts by itself


@dataclass
class Start:
    """Starts a node. `done` is set once it has started."""

    open: Callable[[Deadline], bool]  # returns whether the node has joined by then
    undo: Callable[[], None]  # closes what an `open` that failed has opened
    is_closed: Callable[[], bool]
    end: Callable[[], None]  # closes a node that was told to close meanwhile
    about: Callable[[], str]
    done: bool = False
    _one: threading.Lock = field(default_factory=threading.Lock)  # one start at a time
    _thread: int | None = None  # the thread of that start
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards _waiting
    _waiting: Wait | None = None
    _ended: Bell = field(default_factory=Bell)

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is starting the node: it was interrupted by a signal handler or a finaliser."""
        return self._thread == threading.get_ident()

    def run(self) -> None:
        """Start the node on this thread, unless that is done."""
        if self.is_here:
            return
        try:
            with self._one:
                joined = self._run()
        except Exception as error:
            if self.is_closed():
                raise NodeClosed("the node was closed") from error
            raise
        finally:
            if self.is_closed():
                self.end()
        if self.is_closed():
            raise NodeClosed("the node was closed")
        if not joined:
            log.warning("%s has not joined within %g s and goes on trying", self.about(), JOIN_TIMEOUT)

    def _run(self) -> bool:
        if self.done or self.is_closed():
            return True
        self._thread = threading.get_ident()
        try:
            joined = self.open(Deadline.after(JOIN_TIMEOUT))
            self.done = True
        except BaseException:
            self.undo()
            raise
        finally:
            self._thread = None
        return joined

    def begin(self) -> Wait:
        """Start the node on a thread, if none does, and return the step that waits for it; TimeoutError.

        What goes wrong is logged once and tried again, and costs all callers together one second.
        """
        with self._lock:
            if self._waiting is None:
                started = Promise()
                thread.start("kamacache-start", self._retry, started)
                self._waiting = Wait(started, Deadline.after(AUTO_TIMEOUT))
            return self._waiting

    def _retry(self, started: Promise) -> None:
        logged = False
        while True:
            try:
                self.run()
                break
            except NodeClosed:
                break
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                if not logged:
                    log.warning("%s cannot start, and goes on trying: %s", self.about(), error)
                logged = True
            if self._ended.wait(Deadline.after(AUTO_TIMEOUT)):
                break
        started.set_result(None)

    def stop(self, deadline: Deadline) -> None:
        """Try no more, and wait for a start that is under way on another thread."""
        self._ended.ring()
        if self._one.acquire(timeout=deadline.left()):
            self._one.release()
