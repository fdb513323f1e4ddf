"""Log the failures of loads that no caller here is told of."""

from __future__ import annotations

import threading

from kamacache._engine import monotonic
from kamacache.log import Seldom, log

_EVERY = 10.0  # seconds between two lines of one group
# The error goes to another process, and the traceback is of this one.
ASKED = "for which another process asked; that process gets the error"
OLD = "and callers get the old value, as the options of the group allow"


class Failures:
    """Failures of one kind in one group. One in ten seconds is logged, with the number of those that were not."""

    def __init__(self, name: str, what: str) -> None:
        self._name = name
        self._text = (
            f"group %(group)r: the loader failed for %(key)r, {what}. %(count)s such failures since the last line like "
            "this were not logged"
        )
        self._lock = threading.Lock()
        self._seldom = Seldom(monotonic, _EVERY)

    def note(self, key: str, error: BaseException | None) -> None:
        """Log the exception of a loader that ran here, if there is one and its turn has come."""
        if error is None:
            return
        with self._lock:
            noted = self._seldom.note()
        if not noted:
            return
        log.error(
            self._text,
            exc_info=error,
            group=self._name,
            key=key,
            count=noted - 1,
            error=error,
        )
