"""The thread of a node that lets go of expired and evicted values, and tells `on_evict`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kamacache.core import GroupCore

log = logging.getLogger("kamacache")

INTERVAL = 0.25  # seconds
_JOIN = 0.5


class Sweeper:
    """Sweeps every group's store, a few times a second."""

    def __init__(self, groups: Mapping[str, GroupCore]) -> None:
        self._cores = groups
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="kamacache-sweep", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.sweep()

    def sweep(self) -> None:
        """One round over all groups."""
        for core in list(self._cores.values()):
            on_evict = core.options.on_evict
            try:
                gone = core.store.sweep(core.misses.local.flights.oldest())
            except Exception:
                log.exception("what left group %r cannot be shown to on_evict", core.name)
                continue
            for key, value, reason in gone:
                try:
                    if on_evict is not None:
                        on_evict(key, value, reason)
                except Exception:
                    log.exception("on_evict of group %r failed", core.name)

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)
