"""Log to `kamacache`, which is looked up at the first message: to import logging takes as long as this package.

A text names what it speaks of, as in "%(peer)s is gone", and every record has that as attributes of its own, for JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_INFO, _WARNING, _ERROR = 20, 30, 40  # of logging
_PLAIN = (str, int, float, bool, type(None))  # what JSON has


class Log:
    """Log lines with fields: group, key, peer, node, service, member, codec, error, count and the like."""

    def info(self, text: str, **fields: object) -> None:
        """Log what happens all the time."""
        _log(_INFO, text, None, fields)

    def warning(self, text: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """Log what may need attention."""
        _log(_WARNING, text, exc_info, fields)

    def error(self, text: str, *, exc_info: BaseException, **fields: object) -> None:
        """Log a failure, with its traceback."""
        _log(_ERROR, text, exc_info, fields)

    def exception(self, text: str, **fields: object) -> None:
        """Log the exception that is being handled, with its traceback."""
        _log(_ERROR, text, True, fields)


def _log(level: int, text: str, exc_info: BaseException | bool | None, fields: dict[str, object]) -> None:
    import logging  # noqa: PLC0415 - see above

    logger = logging.getLogger("kamacache")
    if not logger.isEnabledFor(level):
        return
    extra = {name: value if isinstance(value, _PLAIN) else _text(value) for name, value in fields.items()}
    shown = {name: f"{value:,}" if type(value) is int else value for name, value in extra.items()}
    if "error" in extra:
        extra["error_type"] = type(fields["error"]).__name__
    logger.log(level, text, *([shown] if shown else []), exc_info=exc_info, extra=extra, stacklevel=3)


def _text(value: object) -> str:
    """Return the text of an object, whatever its own methods do: it may be an exception of the user's."""
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - see above
        return type(value).__name__


log = Log()
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
