"""Start a node at the first call that needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from kamacache import thread
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed
from kamacache.log import log
from kamacache.steps import Wait

AUTO_TIMEOUT = 1.0  # seconds that calls wait in all for a node that starts by itself


class AutoStart:
    """Start a node on a thread. What goes wrong is logged once and tried again, and costs callers a second in all."""

    def __init__(self, start: Callable[[], None], failed: Callable[[], None], about: Callable[[], str]) -> None:
        self._start = start
        self._failed = failed  # called after each start that failed
        self._about = about
        self._lock = threading.Lock()
        self._waiting: Wait | None = None
        self._ended = Bell()

    def begin(self) -> Wait:
        """Start the thread if there is none yet, and return the step that waits for its end; TimeoutError."""
        with self._lock:
            if self._waiting is None:
                started: Future[None] = Future()
                thread.start("kamacache-start", self._run, started)
                self._waiting = Wait(started, Deadline.after(AUTO_TIMEOUT).at)
            return self._waiting

    def stop(self) -> None:
        """Try no more."""
        self._ended.ring()

    def _run(self, started: Future[None]) -> None:
        logged = False
        while True:
            try:
                self._start()
                break
            except NodeClosed:
                break
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                if not logged:
                    log.warning("%s cannot start, and goes on trying: %s", self._about(), error)
                logged = True
            self._failed()
            if self._ended.wait(Deadline.after(AUTO_TIMEOUT)):
                break
        started.set_result(None)
