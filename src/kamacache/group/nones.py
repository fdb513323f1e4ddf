"""Groups with cache_none=True: get and aget take a default, which tells the absence of a value from None."""

from __future__ import annotations

import functools
from typing import Any

from kamacache.group import Group


@functools.cache
def with_default(base: type[Group[Any]]) -> type[Group[Any]]:
    """Return the class of groups like `base` that keep None. The get of other groups has no default: it costs time."""

    class WithDefault(base):  # type: ignore[misc, valid-type]
        __slots__ = ()

        def get(self, key: Any, default: Any = None, /) -> Any:
            """Return the value for `key` as Group.get does, which may be None; `default` if the source has none."""
            return base.get(self, key) if default is None else self.get_many((key,)).get(key, default)

        async def aget(self, key: Any, default: Any = None) -> Any:
            """Do what get does, without blocking the event loop."""
            if default is None:
                return await base.aget(self, key)
            return (await self.aget_many((key,))).get(key, default)

    WithDefault.__name__ = WithDefault.__qualname__ = base.__name__
    WithDefault.get.__qualname__ = base.get.__qualname__  # errors name it
    return WithDefault
