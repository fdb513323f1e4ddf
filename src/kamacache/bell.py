"""Wake a thread that waits."""

from __future__ import annotations

import threading
from contextlib import suppress

from kamacache.deadline import Deadline


class Bell:
    """Wake one thread. Unlike threading.Event, it may be rung in a signal handler that interrupts its own methods."""

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        """End the wait under way, or the next one."""
        with suppress(RuntimeError):  # it is ringing
            self._silent.release()

    def wait(self, deadline: Deadline) -> bool:
        """Wait until the bell rings. Return whether it rang before the deadline."""
        return self._silent.acquire(timeout=min(deadline.left(), threading.TIMEOUT_MAX))
