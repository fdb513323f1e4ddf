"""The groups of a node: made once per name, found again, and closed. Their parts are imported when one is made."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kamacache import codecs
from kamacache.errors import GroupExists, KamaCacheError, NodeClosed
from kamacache.group import Group
from kamacache.log import log
from kamacache.options import Duration, GroupOptions, OnEvict, Size, check_name

V = TypeVar("V")
_Loads = Callable[[str], Any]

if TYPE_CHECKING:  # what is only read by type checkers costs nothing at import
    from typing import Literal, Protocol, TypedDict, Unpack

    from kamacache._engine import Clock
    from kamacache.cluster.membership import Membership
    from kamacache.cluster.routes import Route
    from kamacache.codecs import Codec
    from kamacache.load.loader import Loader
    from kamacache.net.lane import Lane
    from kamacache.net.messages import GroupState
    from kamacache.runtime import Runtime
    from kamacache.value import Value

    class Arguments(TypedDict, total=False):
        """The options of a group but for its codec, which decides about its type."""

        load_many: Callable[[list[str]], Any] | None
        max_bytes: Size
        ttl: Duration | None
        policy: str
        near_ttl: Duration
        negative_ttl: Duration
        jitter: float
        load_timeout: Duration | None
        on_evict: OnEvict | None

    class Decorator(Protocol):
        """Turns a loader into a group of what it loads."""

        @overload
        def __call__(self, loader: Callable[[str], Awaitable[Value[V] | None]], /) -> Group[V]: ...
        @overload
        def __call__(self, loader: Callable[[str], Value[V] | None], /) -> Group[V]: ...
        @overload
        def __call__(self, loader: Callable[[str], Awaitable[V | Value[V] | None]], /) -> Group[V]: ...
        @overload
        def __call__(self, loader: Callable[[str], V | Value[V] | None], /) -> Group[V]: ...


_MARGIN = 2.0  # seconds by which a silence may be longer than it was seen to be


class Grouping(ABC):
    """What a node does with groups. The node sets these attributes."""

    _clock: Clock
    _closed: bool
    _groups: dict[str, Group[Any]]
    _lock: threading.RLock  # type: ignore[valid-type, unused-ignore] # a function to older type checkers
    _membership: Membership
    _runtime: Runtime

    @abstractmethod
    def _ensure(self) -> None: ...
    @abstractmethod
    async def _aensure(self) -> None: ...
    @abstractmethod
    def _regroup(self, change: Callable[[Lane], None]) -> None: ...

    @property
    def groups(self) -> Mapping[str, Group[Any]]:
        """A live, read-only view of the groups by name."""
        return MappingProxyType(self._groups)

    @overload
    def group(
        self, name: str, loader: _Loads | None = None, *, codec: Literal["bytes"] = ..., **options: Unpack[Arguments]
    ) -> Group[bytes]: ...
    @overload
    def group(
        self, name: str, loader: _Loads | None = None, *, codec: Literal["text"], **options: Unpack[Arguments]
    ) -> Group[str]: ...
    @overload  # checkers do not find V in the next ones where a loader returns nothing but Value
    def group(
        self,
        name: str,
        loader: Callable[[str], Awaitable[Value[V] | None]],
        *,
        codec: str | Codec[V],
        **options: Unpack[Arguments],
    ) -> Group[V]: ...
    @overload
    def group(
        self,
        name: str,
        loader: Callable[[str], Value[V] | None],
        *,
        codec: str | Codec[V],
        **options: Unpack[Arguments],
    ) -> Group[V]: ...
    @overload
    def group(
        self,
        name: str,
        loader: Callable[[str], Awaitable[V | Value[V] | None]],
        *,
        codec: str | Codec[V],
        **options: Unpack[Arguments],
    ) -> Group[V]: ...
    @overload
    def group(
        self,
        name: str,
        loader: Callable[[str], V | Value[V] | None] | None = None,
        *,
        codec: str | Codec[V],
        **options: Unpack[Arguments],
    ) -> Group[V]: ...
    def group(
        self,
        name: str,
        loader: _Loads | None = None,
        *,
        load_many: Callable[[list[str]], Any] | None = None,
        **options: Any,
    ) -> Group[Any]:
        """Make a group, or return the one of this name where loader and options are the same.

        `loader(key)` returns the value, None where there is no such thing, or a Value with a ttl of its own; it may be
        async. `load_many(keys)` returns a mapping, for batches. The options, with units as in "64 MiB" and "5s":
        `max_bytes`, `ttl` (None: never expires), `policy` ("s3fifo", "lru", "lru2"), `codec` ("bytes", "text",
        "json", "msgpack" or a Codec), `near_ttl` (how long other nodes may keep copies), `negative_ttl` (how long
        absence is remembered), `jitter` (by which part a ttl may be shortened), `load_timeout`, `on_evict`.
        Create groups before start: each later one changes who owns what.

        Raises ConfigError, GroupExists, NodeClosed.
        """
        check_name(name, what="group")
        from kamacache.core import GroupCore, make_store
        from kamacache.load.loader import Loader

        if unknown := options.keys() - GroupOptions._fields:
            raise TypeError(f"group() got an unexpected keyword argument {min(unknown)!r}")
        loads = Loader(loader, load_many)
        made = GroupOptions.make(**options)
        with self._lock:
            if self._closed:
                raise NodeClosed("the node was closed")
            group = self._groups.get(name)
            if group is not None:
                return _same_group(group, loads, made)
            store = make_store(name, made, self._clock)
            group = Group(
                name,
                GroupCore(name, store, loads, made, self._runtime),
                ensure=self._ensure,
                aensure=self._aensure,
                leave=self._leave,
            )
            self._groups[name] = group
            self._membership.near_ttl = max(self._membership.near_ttl, made.near_ttl)
            self._regroup(lambda lane: lane.serve(store))
        return group

    @overload
    def loader(
        self, name: str, *, codec: Literal["bytes"] = ..., **options: Unpack[Arguments]
    ) -> Callable[[_Loads], Group[bytes]]: ...
    @overload
    def loader(
        self, name: str, *, codec: Literal["text"], **options: Unpack[Arguments]
    ) -> Callable[[_Loads], Group[str]]: ...
    @overload
    def loader(self, name: str, *, codec: Literal["json", "msgpack"], **options: Unpack[Arguments]) -> Decorator: ...
    @overload
    def loader(self, name: str, *, codec: Codec[V], **options: Unpack[Arguments]) -> Callable[[_Loads], Group[V]]: ...
    def loader(self, name: str, **options: Any) -> Any:
        """A decorator: the function's name becomes the Group, whose `loader` is the function. Options as of group."""

        def decorate(function: _Loads) -> Group[Any]:
            return self.group(name, function, **options)

        return decorate

    def _renew(self) -> None:
        """The groups go on in a forked child, with new parts."""
        for group in self._groups.values():
            group._live(group._core.renewed(self._runtime))  # noqa: SLF001
            self._membership.near_ttl = max(self._membership.near_ttl, group._core.options.near_ttl)  # noqa: SLF001

    def _leave(self, group: Group[Any], error: KamaCacheError) -> None:
        with self._lock:  # so that nobody finds a group that is closed, nor makes one that is hidden in its place
            group._core.close(error)
            if self._groups.get(group.name) is group:
                del self._groups[group.name]
                self._regroup(lambda lane: lane.hide(group.name))

    # -- what the membership asks ------------------------------------------------------------------------------------

    def _states(self) -> list[GroupState]:
        return [group._core.state() for group in list(self._groups.values())]

    def _heard_of(self, state: GroupState, silent: float) -> None:
        group = self._groups.get(state.name)
        if group is None:
            return
        mine = codecs.codec_name(group._core.options.codec)
        if state.codec != mine:
            log.warning("another node has group %r with codec %s, this one with %s", state.name, state.codec, mine)
        from kamacache.core import remembered

        if silent > remembered(group._core.options) - _MARGIN:
            group._core.writes.forget()
        group._core.writes.heard_of(state.writes, state.floor)

    def _placed(self, name: str, route: Route) -> None:
        group = self._groups.get(name)
        if group is not None:
            group._core.misses.route(route)


def _same_group(group: Group[Any], loader: Loader, options: GroupOptions) -> Group[Any]:
    local, name = group._core.misses.local, group.name
    if local.loader.place != loader.place:
        here, there = local.loader.place or "no loader", loader.place or "no loader"
        raise GroupExists(f"group {name!r} exists with {here}, and cannot have {there} too")
    differences = group._core.options.differences(options)
    if differences:
        raise GroupExists(f"group {name!r} of {loader.place or 'no loader'} exists with other options: {differences}")
    local.loader = loader
    return group
