"""The troubles of a node's membership: calls that fail and are tried again."""

from __future__ import annotations

from kamacache.errors import KamaCacheError
from kamacache.log import log


class Troubles:
    """Log each trouble once, however often it is tried, and its end."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def all(self) -> dict[str, str]:
        """Return what is in trouble, with the error of each."""
        return dict(self._known)

    def note(self, what: str, error: Exception, **fields: object) -> None:
        """Warn, unless this trouble is known. The line has these fields beside its own."""
        known, self._known[what] = what in self._known, str(error)
        if known:
            return
        strange = not isinstance(error, KamaCacheError | OSError)  # perhaps a mistake in a registry of the user's
        text = "%(trouble)s: %(error)s; this node tries again until it works"
        log.warning(text, exc_info=error if strange else None, trouble=what, error=error, **fields)

    def mended(self, what: str, now: str) -> None:
        """Log `now` if this was a trouble, which is over."""
        if self._known.pop(what, None) is not None:
            log.info("%(news)s", news=now, trouble=what)

    def forget(self, what: str) -> None:
        """Drop a trouble that does not matter any more."""
        self._known.pop(what, None)
