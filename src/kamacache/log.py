"""Log to `kamacache`, which is looked up at the first message: to import logging takes as long as this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

    log = logging.getLogger("kamacache")
else:

    class _Log:
        def __getattr__(self, method: str) -> Any:
            import logging  # noqa: PLC0415 - see above

            return getattr(logging.getLogger("kamacache"), method)

    log = _Log()

_QUIET = 60.0  # seconds


class Seldom:
    """Let a line of the log through once in so many seconds, and count what it speaks of meanwhile."""

    def __init__(self, now: Callable[[], float], every: float = _QUIET) -> None:
        self._now = now
        self._every = every
        self._noted = 0
        self._quiet_until = 0.0

    def note(self) -> int:
        """Return how often this was called since the last line, if a line is due, else 0."""
        self._noted += 1
        if (now := self._now()) < self._quiet_until:
            return 0
        noted, self._noted, self._quiet_until = self._noted, 0, now + self._every
        return noted
