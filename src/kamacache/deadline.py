"""The time until which one public call may wait. It is made where the call begins and passed down to every wait."""

from __future__ import annotations

import math

from kamacache._engine import monotonic


class Deadline:
    """A time of monotonic(), which a test that freezes time.monotonic() does not stop; `math.inf`: without limit."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline that many seconds from now; None means no limit."""
        return cls(math.inf if seconds is None else monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds left, 0.0 if the time is over, `math.inf` without a limit."""
        return max(0.0, self.at - monotonic())

    @property
    def passed(self) -> bool:
        """Return whether the time is over."""
        return monotonic() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and the one `seconds` from now."""
        return Deadline(min(self.at, monotonic() + seconds))
