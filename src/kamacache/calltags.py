"""The tags of a call's result, as cached(tags=...) says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kamacache.callkey import filled
from kamacache.errors import ConfigError
from kamacache.load.loader import Keyed
from kamacache.tags import parse_tags
from kamacache.value import Value


class Tagger:
    """Give the result of a call its tags."""

    __slots__ = ("_first", "_make", "_none")

    def __init__(self, make: Callable[..., Any], none: bool, first: tuple[Any, ...] = ()) -> None:
        self._make = make
        self._none = none  # None is a result like others
        self._first = first

    def bound(self, first: object) -> Tagger:
        """Return the same for a method, whose first argument is given."""
        return Tagger(self._make, self._none, (first,))

    def __call__(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the result as a Value with its tags. What is absent has none. Raises TypeError, InvalidKey."""
        value, ttl, own = (
            (result.value, {"ttl": result.ttl}, result.tags) if isinstance(result, Value) else (result, {}, ())
        )
        if value is None and not self._none:
            return result
        made = self._make(value, *self._first, *args, **kwargs)
        return Value(value, **ttl, tags=(*own, *parse_tags(made)))


def tagger(keyed: Keyed, *, none: bool) -> Tagger | None:
    """Return what gives tags to the results of a function; None if they have none. Raises ConfigError.

    `none` says that None has tags, too.
    """
    if callable(keyed.tags):
        return Tagger(keyed.tags, none)
    if not keyed.tags:
        return None
    fill = [filled(keyed.function, template, "tags") for template in keyed.tags]

    def make(_: object, *args: Any, **kwargs: Any) -> list[str]:
        return [each(*args, **kwargs) for each in fill]

    return Tagger(make, none)


def templates(tags: object) -> tuple[str, ...] | Callable[..., Any]:
    """Return what was given as tags: templates, or a function. Raises ConfigError for anything else."""
    if callable(tags):
        return tags
    given = (tags,) if isinstance(tags, str) else tags
    if not isinstance(given, tuple | list | set | frozenset) or not all(isinstance(each, str) for each in given):
        raise ConfigError(
            f"tags={tags!r}: give a template such as 'user:{{user_id}}', several of them, or a function that is called "
            "with the result and the arguments of a call"
        )
    return tuple(given)
