"""Put a loader of the test's own, or a dict, in the place of a group's loader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kamacache.keycodec import give_keys
from kamacache.load.loader import Loader

if TYPE_CHECKING:
    from kamacache.core import GroupCore
    from kamacache.group import Group
    from kamacache.value import Value

V = TypeVar("V")


@contextmanager
def override_loader(
    group: Group[Any],
    loader: Callable[[Any], Any] | None = None,
    *,
    load_many: Callable[[list[Any]], Any] | None = None,
) -> Iterator[None]:
    """Let a group load with other functions inside `with`, on this node.

    - `loader`, `load_many`: as of Node.group.

    Everything that this node keeps of the group is dropped at the beginning and at the end, so that each get inside
    comes from the other loader, and none after it.

    Raises ConfigError for a function that cannot be a loader, TypeError for a cached function.
    """
    core = _core(group)
    local, other = core.misses.local, Loader(loader, load_many)
    if core.options.key_codec is not None:
        give_keys(other)
    is_inner, before = core.own is not None, local.loader
    core.own, local.loader = core.loader, other
    core.forget()
    try:
        yield
    finally:
        core = _core(group)  # the node may have begun a new life
        local = core.misses.local
        if is_inner:
            local.loader = before
        else:
            local.loader, core.own = core.loader, None
        core.forget()


@contextmanager
def fake(group: Group[V], values: Mapping[Any, V | Value[V] | None]) -> Iterator[None]:
    """Let a group load from a dict inside `with`, on this node. A key that the dict does not have is absent.

    Everything else is as it is without: codec, ttl, set, delete, counters. What this node keeps of the group is dropped
    at the beginning and at the end.

    Raises TypeError for a cached function.
    """

    def load(key: Any) -> Any:
        return values.get(key)

    async def aload(key: Any) -> Any:
        return values.get(key)

    with override_loader(group, aload if _core(group).misses.loader.is_async else load):
        yield


def _core(group: Group[Any]) -> GroupCore:
    """Return the core of a group. A cached function has no loader: its callers bring it."""
    core: GroupCore | None = getattr(group, "_core", None)
    if core is None or core.loader.cached is not None:
        raise TypeError(
            f"{group!r} has no loader to replace: a cached function runs where it is called; put results in its place "
            "with its set(value, ...), or replace what it calls"
        )
    return core
