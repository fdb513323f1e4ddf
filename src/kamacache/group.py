"""A group: a named set of keys with a loader, as users see it. A get that hits never leaves the native store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, TypeVar, Union, overload

from kamacache._engine import MISSING, Getter
from kamacache.deadline import Deadline
from kamacache.errors import GroupClosed, KamaCacheError
from kamacache.stats import GroupStats
from kamacache.steps import adrive, drive, needed_loop, whole
from kamacache.units import UNSET, Duration, Missing

if TYPE_CHECKING:  # imported when a group is made
    from kamacache.core import GroupCore
    from kamacache.net.messages import WriteItem

V = TypeVar("V")
_TTL = Union[Duration, Missing, None]  # noqa: UP007 - Duration is text at run time
_FLUSH = 1.0  # seconds for which close waits for pending writes


class Group(Getter[V]):
    """A group of a node, made by Node.group. Methods that may wait have a twin for asyncio, whose name begins with a.

    All of them raise GroupClosed or NodeClosed once the group or its node is closed, and InvalidKey for a key that is
    not a str of 1 to 65,536 bytes in UTF-8.
    """

    # No __dict__: with one, the interpreter would look into it before each call of a method.
    __slots__ = ("__weakref__", "_aensure", "_core", "_ensure", "_leave", "_name")

    def __new__(cls, _name: str, core: GroupCore, **_hooks: Any) -> Self:
        """Bind get to the store, which stays the same for the group's life."""
        return super().__new__(cls, core.store)

    def __init__(
        self,
        name: str,
        core: GroupCore,
        *,
        ensure: Callable[[], None],
        aensure: Callable[[], Awaitable[None]],
        leave: Callable[[GroupCore, KamaCacheError], None],
    ) -> None:
        self._name = name
        self._ensure = ensure  # starts the node if that is still to be done
        self._aensure = aensure
        self._leave = leave
        self._live(core)

    def _live(self, core: GroupCore) -> None:
        """Begin a life: when made, and again in a forked child."""
        self._core = core
        store = core.store
        store.remote = None
        store.pending = False
        store.on_miss = self._miss

    def __repr__(self) -> str:
        return f"<kamacache.Group {self.name!r}{' closed' if self._core.misses.closed else ''}>"

    def __setattr__(self, name: str, value: object) -> None:
        if name not in Group.__slots__:
            self.__delattr__(name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{name!r} of a Group cannot be replaced: in a test patch the class, mock.patch.object(Group, {name!r}), "
            "or make the group with a loader of the test's own"
        )

    def __deepcopy__(self, _: object = None) -> Self:
        return self

    __copy__ = __deepcopy__

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Group cannot be pickled: make it in each process, with the same node.group(...) call")

    @property
    def name(self) -> str:
        """Return the name of the group."""
        return self._name

    @property
    def loader(self) -> Any:
        """Return the function that loads, as it was given; None if there is none."""
        loader = self._core.misses.loader
        return loader.single or loader.many

    # -- reading -----------------------------------------------------------------------------------------------------

    def _miss(self, key: str, peeked: bool = False) -> Any:
        """Answer a get of a key that the store does not have."""
        misses = self._core.misses
        if not misses.alone:
            try:
                self._ensure()
            except BaseException:
                self._core.gave_up(1)
                raise
        return misses.get(key, peeked)

    async def aget(self, key: str) -> V | None:
        """Return the value for `key` as get does, without blocking the event loop.

        An async loader runs as a task of the node's event loop, a plain one on a thread of the node's pool. Cancelling
        the caller does not cancel the load. Raises what get raises, and NoEventLoop without a running asyncio loop.
        """
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        core, question = self._core, None
        if (remote := core.store.remote) is None:
            await self._aensure_for(1)
        elif (question := remote.ask(core.store, key)) and (value := await question) is not MISSING:
            return value  # type: ignore[return-value]
        return await core.misses.aget(key, question is not None)  # type: ignore[no-any-return]

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return a dict of those of the keys that have a value, in the order asked.

        Keys that are not in memory are requested from all owners at once, and loaded together by load_many if there is
        one.

        Raises:
            LoadError: A key failed: `key` names the first, `loaded` has the values of the others.
            TypeError: `keys` is a str.

        """
        asked, found, missing, failed = self._look_up(keys)
        if not missing and not failed:
            return found
        core, whole = self._core, not found
        try:
            self._ensure()
        except BaseException:
            core.gave_up(len(missing))
            raise
        remote = None if core.store.pending else core.store.remote
        if remote is not None:
            missing = remote.get_many(core.store, missing, found, failed)
            whole &= not missing
        if missing or failed:
            drive(core.misses.get_many(missing, found, failed, peeked=remote is not None))
        return found if whole and remote is not None else _in_order(asked, found)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return what get_many returns, without blocking the event loop."""
        asked, found, missing, failed = self._look_up(keys)
        if missing or failed:
            await self._aensure_for(len(missing))
            await adrive(self._core.misses.get_many(missing, found, failed))
        return _in_order(asked, found) if missing else found

    def _look_up(self, keys: Iterable[str]) -> tuple[tuple[str, ...], dict[str, Any], list[str], dict[str, Exception]]:
        core = self._core
        asked = core.listed(keys)
        if not asked:
            core.misses.check_open()
        return asked, *core.store.get_many(asked)

    async def _aensure_for(self, keys: int) -> None:
        try:
            needed_loop()
            await self._aensure()
        except BaseException:
            self._core.gave_up(keys)
            raise

    def peek(self, key: str) -> V | None:
        """Return the value in this process's memory, or None. Never load, ask another node, or count as a use."""
        self._core.misses.check_open()
        value: V | None = self._core.store.peek(key)
        return value

    async def apeek(self, key: str) -> V | None:
        """Return what peek returns."""
        return self.peek(key)

    # -- writing -----------------------------------------------------------------------------------------------------

    @overload
    def set(self, key: str, value: V, *, ttl: _TTL = ..., wait: Literal[True] = ...) -> bool: ...
    @overload
    def set(self, key: str, value: V, *, ttl: _TTL = ..., wait: bool) -> bool | None: ...
    def set(self, key: str, value: V, *, ttl: _TTL = UNSET, wait: bool = True) -> bool | None:
        """Set a value for the whole cluster.

        Return True if every node has confirmed, False if a node could not be reached (it is notified once it can be
        reached) or if this node has not joined, None with wait=False.

        Args:
            key: The key.
            value: The value; None is a TypeError, use delete.
            ttl: Seconds, a timedelta, or text such as "10m"; None never expires. Default: the ttl of the group.
            wait: With False the write is sent later, in order; a get of the key on this node waits for it.

        Raises:
            CodecError: The group's codec does not take the value.
            ValueTooLarge: The value is larger than max_value, or the entry than an eighth of max_bytes.
            ConfigError: The ttl is bad.

        """
        return self._write(self._core.set_one(key, value, ttl), wait)

    @overload
    async def aset(self, key: str, value: V, *, ttl: _TTL = ..., wait: Literal[True] = ...) -> bool: ...
    @overload
    async def aset(self, key: str, value: V, *, ttl: _TTL = ..., wait: bool) -> bool | None: ...
    async def aset(self, key: str, value: V, *, ttl: _TTL = UNSET, wait: bool = True) -> bool | None:
        """Do what set does, without blocking the event loop. A cancelled caller does not stop the write half-way."""
        return await self._awrite(self._core.set_one(key, value, ttl), wait)

    @overload
    def set_many(self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: Literal[True] = ...) -> bool: ...
    @overload
    def set_many(self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: bool) -> bool | None: ...
    def set_many(self, values: Mapping[str, V], *, ttl: _TTL = UNSET, wait: bool = True) -> bool | None:
        """Set several values as set does. Nothing is written unless every key and value can be."""
        return self._write(self._core.sets(values, ttl), wait)

    @overload
    async def aset_many(self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: Literal[True] = ...) -> bool: ...
    @overload
    async def aset_many(self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: bool) -> bool | None: ...
    async def aset_many(self, values: Mapping[str, V], *, ttl: _TTL = UNSET, wait: bool = True) -> bool | None:
        """Do what set_many does, without blocking the event loop."""
        return await self._awrite(self._core.sets(values, ttl), wait)

    @overload
    def delete(self, key: str, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    def delete(self, key: str, *, wait: bool) -> bool | None: ...
    def delete(self, key: str, *, wait: bool = True) -> bool | None:
        """Delete a key everywhere, so that the next get loads it. Return what set returns, also for an absent key."""
        return self._write(self._core.deletes([key]), wait)

    @overload
    async def adelete(self, key: str, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    async def adelete(self, key: str, *, wait: bool) -> bool | None: ...
    async def adelete(self, key: str, *, wait: bool = True) -> bool | None:
        """Do what delete does, without blocking the event loop."""
        return await self._awrite(self._core.deletes([key]), wait)

    @overload
    def delete_many(self, keys: Iterable[str], *, wait: Literal[True] = ...) -> bool: ...
    @overload
    def delete_many(self, keys: Iterable[str], *, wait: bool) -> bool | None: ...
    def delete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """Delete several keys as delete does."""
        return self._write(self._core.deletes(keys), wait)

    @overload
    async def adelete_many(self, keys: Iterable[str], *, wait: Literal[True] = ...) -> bool: ...
    @overload
    async def adelete_many(self, keys: Iterable[str], *, wait: bool) -> bool | None: ...
    async def adelete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """Do what delete_many does, without blocking the event loop."""
        return await self._awrite(self._core.deletes(keys), wait)

    @overload
    def clear(self, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    def clear(self, *, wait: bool) -> bool | None: ...
    def clear(self, *, wait: bool = True) -> bool | None:
        """Forget every key of the group, on every node. Return what set returns."""
        self._core.misses.check_open()
        self._ensure()
        return drive(self._core.clear(wait=wait))

    @overload
    async def aclear(self, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    async def aclear(self, *, wait: bool) -> bool | None: ...
    async def aclear(self, *, wait: bool = True) -> bool | None:
        """Do what clear does, without blocking the event loop."""
        self._core.misses.check_open()
        needed_loop()
        await self._aensure()
        return await whole(self._core.clear(wait=wait))

    def _write(self, items: list[WriteItem], wait: bool) -> bool | None:
        core = self._core
        if wait and core.write_alone(items):
            return True
        core.misses.check_open()
        self._ensure()
        if wait and items and not (items := core.write_directly(items)):
            return True
        return drive(core.write(items, wait=wait))

    async def _awrite(self, items: list[WriteItem], wait: bool) -> bool | None:
        core = self._core
        needed_loop()
        if wait and core.write_alone(items):
            return True
        core.misses.check_open()
        await self._aensure()
        return await whole(core.write(items, wait=wait))

    # -- the rest ----------------------------------------------------------------------------------------------------

    def stats(self) -> GroupStats:
        """Return the counters of this process since the group was made."""
        return self._core.stats()

    async def astats(self) -> GroupStats:
        """Return what stats returns."""
        return self.stats()

    def close(self) -> None:
        """Forget everything here and free the name. Later calls raise GroupClosed, but a second close does nothing."""
        if self._core.misses.closed is None:
            self._core.behind.flush(Deadline.after(_FLUSH))
            self._leave(self._core, GroupClosed(f"the group {self.name!r} was closed"))

    async def aclose(self) -> None:
        """Do what close does, without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - it is running

        await asyncio.to_thread(self.close)


def _in_order(asked: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in asked if key in found}
