"""The time until which one public call may wait. It is made where the call begins and passed down to every wait."""

from __future__ import annotations

import math
import time


class Deadline:
    """A time of time.monotonic(); `math.inf` if the user asked for no limit."""

    __slots__ = ("at",)

    def __init__(self, at: float) -> None:
        self.at = at

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """Return the deadline that many seconds from now; None means no limit."""
        return cls(math.inf if seconds is None else time.monotonic() + seconds)

    def left(self) -> float:
        """Return the seconds left, 0.0 if the time is over, `math.inf` without a limit."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() >= self.at

    def sooner(self, seconds: float) -> Deadline:
        """Return the earlier of this deadline and the one `seconds` from now."""
        return Deadline(min(self.at, time.monotonic() + seconds))
