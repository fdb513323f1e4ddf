"""What a loader returns to give one value its own time to live."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar

from kamacache.options import UNSET, Duration, Unset, parse_ttl

V = TypeVar("V")


class Value(Generic[V]):  # no dataclass: importing these takes longer than the whole package
    """A loaded value with a ttl of its own, kept exactly that long (no jitter); without ttl: the group's."""

    __slots__ = ("ttl", "value")
    __match_args__ = ("value", "ttl")

    value: V
    ttl: float | Unset | None

    def __init__(self, value: V, ttl: Duration | Unset | None = UNSET) -> None:
        """Take `ttl` as seconds, timedelta or text; None never expires, zero or less is a ConfigError."""
        if value is None:
            raise TypeError("Value(None): None is not a value; return None itself where there is none")
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "ttl", ttl if ttl is UNSET else parse_ttl(ttl, name="ttl"))

    def __setattr__(self, name: str, _: Any) -> NoReturn:
        raise AttributeError(f"a Value does not change: {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Value does not change: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return (self.value, self.ttl) == (other.value, other.ttl) if isinstance(other, Value) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.value, self.ttl))

    def __repr__(self) -> str:
        return f"Value(value={self.value!r}, ttl={self.ttl!r})"

    def __reduce__(self) -> Any:
        return Value, (self.value, self.ttl)
