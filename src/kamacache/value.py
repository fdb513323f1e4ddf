"""Define the value that a loader returns to give one key its own time to live."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Generic, NoReturn, TypeVar

from kamacache.tags import parse_tags
from kamacache.units import UNSET, Duration, Unset, parse_duration

V_co = TypeVar("V_co", covariant=True)


class Value(Generic[V_co]):  # no dataclass: importing these takes longer than the whole package
    """Give a loaded value its own time to live.

    A loader returns it in place of the bare value. The value is kept for exactly `ttl`, without jitter.

    - `value`: the value itself; None for groups with cache_none=True alone.
    - `tags`: texts, or one, by which it can be deleted together with others; see Group.delete_tag.
    - `ttl`: seconds, a timedelta or text such as "5m". None: the value never expires. Zero or less, as
      `expires_at - now` is for a token that has expired: the callers get the value, and it is not kept. Default: the
      ttl of the group.

    Raises TypeError for tags that are no texts, ConfigError for a ttl that is not a duration, InvalidKey for a tag that
    is empty or too long, or too many of them.
    """

    __slots__ = ("tags", "ttl", "value")
    __match_args__ = ("value", "ttl", "tags")

    value: V_co
    ttl: float | Unset | None
    tags: tuple[str, ...]

    def __init__(self, value: V_co, ttl: Duration | Unset | None = UNSET, tags: str | Iterable[str] = ()) -> None:
        if ttl is not UNSET and ttl is not None:
            ttl = max(0.0, parse_duration(ttl, name="ttl", least=-math.inf))
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "ttl", ttl)
        object.__setattr__(self, "tags", parse_tags(tags) if tags != () else ())

    def __setattr__(self, name: str, _: Any) -> NoReturn:
        raise AttributeError(f"a Value does not change: {name!r} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Value does not change: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Value) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        tags = f", tags={self.tags!r}" if self.tags else ""
        return f"Value(value={self.value!r}, ttl={self.ttl!r}{tags})"

    def __reduce__(self) -> Any:
        return Value, self._all()

    def _all(self) -> tuple[V_co, float | Unset | None, tuple[str, ...]]:
        return self.value, self.ttl, self.tags


def check_settable(value: object, *, none: bool) -> None:
    """Raise TypeError for what set and add do not take: a Value, and None unless it is a value of the group."""
    if isinstance(value, Value):
        raise TypeError("a Value is what a loader returns: pass its value, with ttl= and tags= beside it")
    if value is None and not none:
        raise TypeError(
            "None is not a value but the absence of one: use delete(key), a value of your own, or cache_none=True"
        )
