"""The thread of a node that drops expired and evicted values, and calls `on_evict`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kamacache import thread

if TYPE_CHECKING:
    from kamacache.group import Group

log = logging.getLogger("kamacache")

INTERVAL = 0.25  # seconds
_JOIN = 0.5


class Sweeper:
    """Sweeps every group's store, a few times a second."""

    def __init__(self, groups: Mapping[str, Group[Any]]) -> None:
        self._groups = groups
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = thread.start("kamacache-sweep", self._run)

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.sweep()

    def sweep(self) -> None:
        """One round over all groups."""
        for group in list(self._groups.values()):
            on_evict = group.parts.options.on_evict
            try:
                gone = group.parts.store.sweep()
            except Exception:
                log.exception("what left group %r cannot be shown to on_evict", group.name)
                continue
            for key, value, reason in gone:
                try:
                    if on_evict is not None:
                        on_evict(key, value, reason)
                except Exception:
                    log.exception("on_evict of group %r failed", group.name)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)
