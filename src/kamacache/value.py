"""What a loader returns to give one value its own time to live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from kamacache.options import UNSET, Duration, Unset, parse_ttl

V = TypeVar("V")


@dataclass(frozen=True, slots=True, init=False)
class Value(Generic[V]):
    """A loaded value with a ttl of its own, kept exactly that long (no jitter); without ttl: the group's."""

    value: V
    ttl: float | Unset | None

    def __init__(self, value: V, ttl: Duration | Unset | None = UNSET) -> None:
        """Take `ttl` as seconds, timedelta or text; None never expires, zero or less is a ConfigError."""
        if value is None:
            raise TypeError("Value(None): None is not a value; return None itself where there is none")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "ttl", ttl if ttl is UNSET else parse_ttl(ttl, name="ttl"))
