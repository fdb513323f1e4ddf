"""The thread of a node that drops expired and evicted values, calls `on_evict`, and notes numbers for people."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import wake_late
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.load.flight import abandon_idle
from kamacache.log import Seldom, log

if TYPE_CHECKING:
    from kamacache.core import GroupCore
    from kamacache.history import History
    from kamacache.options import OnEvict
    from kamacache.shares import Shares

INTERVAL = 0.25  # seconds
_QUIET = 1.0  # seconds; if nothing was found, and no `on_evict` waits to be called
_JOIN = 0.5
_MOST = 10_000  # calls of `on_evict` in one sweep of a group


class Sweeper:
    """Sweep the store of each group, four times a second while there is anything to do, else once."""

    def __init__(self, groups: Mapping[str, GroupCore], shares: Shares, history: History) -> None:
        self._cores = groups
        self._shares = shares
        self._history = history
        self._ended = Bell()
        self._thread: threading.Thread | None = None
        self._full: set[str] = set()
        self._failed: dict[str, Seldom] = {}  # by group: its on_evict, which may fail for each of many values

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None:
            self._ended = Bell()
            self._thread = thread.start("kamacache-sweep", self._run, self._ended)

    def _run(self, ended: Bell) -> None:
        busy = True
        while not ended.wait(Deadline.after(INTERVAL if busy else _QUIET)):
            busy = self.sweep()

    def sweep(self) -> bool:
        """Drop what has expired in each group, and call `on_evict`. Return whether more may be to do soon."""
        busy = False
        with suppress(Exception):
            wake_late()
        for core in list(self._cores.values()):
            self._warn_if_full(core)
            on_evict = core.options.on_evict
            try:
                flights = core.misses.local.flights
                abandon_idle(flights, core.options.load_timeout)
                core.misses.sweep()
                gone = core.store.sweep(flights.oldest(), few=True)
                busy |= bool(gone or len(flights) or on_evict is not None)
                if on_evict is not None:
                    self._notify(core, on_evict, gone)
            except Exception:
                log.exception(
                    "values that left group %(group)r could not be decoded, so on_evict is not called for them",
                    group=core.name,
                )
        self._shares.divide()
        self._history.sample(self._cores)
        return busy

    def _warn_if_full(self, core: GroupCore) -> None:
        """Log once, until there was room for a while, that the writes of a group are too many to be remembered."""
        if not core.store.full:
            self._full.discard(core.name)
        elif core.name not in self._full:
            self._full.add(core.name)
            log.warning(
                "group %(group)r: recent writes fill half of max_bytes (%(max_bytes)s bytes), as each is remembered "
                "for %(seconds)g s; until there is room for more, loads beside which other keys are written are not "
                "kept. Raise max_bytes, or lower near_ttl or load_timeout if they are more than 10 s",
                group=core.name,
                max_bytes=core.options.max_bytes,
                seconds=core.remembered,
            )

    def close(self) -> None:
        """End the thread."""
        ending, self._thread = self._thread, None
        self._ended.ring()
        if ending is not None and ending is not threading.current_thread():
            ending.join(_JOIN)

    def _notify(self, core: GroupCore, on_evict: OnEvict, gone: list[tuple[str, Any, str]]) -> None:
        """Call on_evict for the entries that have left. They are taken out a few at a time, as they take memory."""
        left = _MOST
        while gone:
            left -= len(gone)
            for key, value, reason in gone:
                try:
                    on_evict(core.key_of(key), value, reason)
                except Exception:
                    if noted := self._failed.setdefault(core.name, Seldom(monotonic)).note():
                        log.exception(
                            "on_evict of group %(group)r failed, for %(count)s values since the last line like this",
                            group=core.name,
                            key=key,
                            count=noted,
                        )
            gone = core.store.evicted() if left > 0 else []
