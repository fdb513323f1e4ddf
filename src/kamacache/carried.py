"""What a load takes with it to the owner of its key: the values of the ContextVars that Node(context=…) names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context, ContextVar
from typing import Any

from kamacache._engine import MISSING, monotonic
from kamacache.errors import ConfigError
from kamacache.log import Seldom, log

MOST = 8_192  # characters of all values of a request, which is what W3C lets baggage have
_LONGEST_NAME = 255


class Carried:
    """The ContextVars of one node by name. A name that a member does not have is ignored there."""

    def __init__(self, variables: Sequence[ContextVar[Any]]) -> None:
        self._by_name = {one.name: one for one in variables}
        self._seldom = Seldom(monotonic)

    def packed(self) -> dict[str, str]:
        """Return the values that are set in this context, as JSON by name. One that does not travel is logged."""
        packed: dict[str, str] = {}
        if not self._by_name:
            return packed
        import json  # noqa: PLC0415 - few nodes carry anything

        room = MOST
        for name, variable in self._by_name.items():
            if (value := variable.get(MISSING)) is MISSING:
                continue
            try:
                text = json.dumps(value)
            except (TypeError, ValueError, RecursionError) as error:
                self._left_out(name, str(error))
                continue
            if len(text) > room:
                self._left_out(name, f"all values together may have {MOST:,} characters of JSON")
                continue
            room -= len(text)
            packed[name] = text
        return packed

    def _left_out(self, name: str, why: str) -> None:
        if self._seldom.note():
            text = "ContextVar %(variable)r does not travel, so that loaders on other nodes find it unset: %(why)s"
            log.warning(text, variable=name, why=why)

    def context(self, packed: Mapping[str, str]) -> Context:
        """Return a context that has nothing set but what came with a request. What cannot be read is ignored."""
        context = Context()
        if not packed or not self._by_name:
            return context
        import json  # noqa: PLC0415 - as above

        for name, variable in self._by_name.items():
            text = packed.get(name)
            if text is None or len(text) > MOST:
                continue
            try:
                context.run(variable.set, json.loads(text))
            except (ValueError, RecursionError):  # another version of the program, or no node of ours
                continue
        return context


def checked(variables: Sequence[ContextVar[Any]]) -> tuple[ContextVar[Any], ...]:
    """Return the option `context` of a node. Raises ConfigError."""
    given: tuple[Any, ...] = tuple(variables) if isinstance(variables, Sequence) else (None,)
    if not all(isinstance(one, ContextVar) and _is_name(one.name) for one in given):
        raise ConfigError(f"context={variables!r}: must be a list of ContextVars, with names that can be printed")
    if len({one.name for one in given}) < len(given):
        raise ConfigError(f"context={variables!r}: two have the same name, by which other members know them")
    return given


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _LONGEST_NAME and name.isprintable()
