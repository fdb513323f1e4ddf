"""The methods of a group that write, for the whole cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeVar, Union, overload

from kamacache.errors import ValueTooLarge
from kamacache.group.loads import GroupLoads
from kamacache.steps import Path, drive, needed_loop, whole
from kamacache.tags import Tags
from kamacache.units import KEEP, UNSET, Duration, Keep, Missing

if TYPE_CHECKING:
    from kamacache.net.messages import WriteItem

V = TypeVar("V")
T = TypeVar("T")
_TTL = Union[Duration, Missing, None]  # noqa: UP007 - Duration is text at run time
_KEPT = Union[_TTL, Keep]  # noqa: UP007 - the same


class GroupWrites(GroupLoads[V]):
    """Set, delete and clear."""

    __slots__ = ()

    @overload
    def set(
        self,
        key: str,
        value: V,
        *,
        ttl: _KEPT = ...,
        wait: Literal[True] = ...,
        if_present: bool = ...,
        if_version: int | None = ...,
        strict: bool = ...,
        tags: Tags = ...,
    ) -> bool: ...
    @overload
    def set(
        self, key: str, value: V, *, ttl: _TTL = ..., wait: bool, strict: bool = ..., tags: Tags = ...
    ) -> bool | None: ...
    def set(
        self,
        key: str,
        value: V,
        *,
        ttl: _KEPT = UNSET,
        wait: bool = True,
        if_present: bool = False,
        if_version: int | None = None,
        strict: bool = True,
        tags: Tags = (),
    ) -> bool | None:
        """Set a value for the whole cluster.

        Return True if every node has confirmed, False if a node could not be reached (it is notified once it can be
        reached) or if this node has not joined, None with wait=False. With `if_present` or `if_version`, return whether
        the owner has set it.

        Args:
            key: The key.
            value: The value; None is a TypeError without `cache_none`, use delete.
            ttl: Seconds, a timedelta, or text such as "10m"; None never expires, zero or less is gone at once.
                kamacache.KEEP: what the value that is there has left. Default: the ttl of the group.
            wait: With False the write is sent later, in order; a get of the key on this node waits for it.
            if_present: Set it only if the key has a value.
            if_version: Set it only if the entry still has the version that get_entry returned.
            strict: With False, return False for a value that is too large, and do nothing.
            tags: Texts, or one, by which it can be deleted together with others; see delete_tag.

        Raises:
            CodecError: The group's codec does not take the value.
            InvalidKey: A tag is empty or has more than 1,024 bytes, or there are more than 64.
            ValueTooLarge: The value is larger than max_value, or the entry than an eighth of max_bytes.
            ConfigError: The ttl is bad, or a condition or KEEP comes with wait=False.
            Conflict: The entry has another version than `if_version`, or is gone.
            PeerError: With a condition or KEEP: the owner of the key does not answer.

        """
        if strict and if_version is None and not if_present and ttl is not KEEP:  # most calls
            return self._write(self._core.set_one(key, value, ttl, tags), wait)
        terms = self._core.terms(ttl, wait, if_present, if_version)
        items = self._items(key, value, ttl, strict, tags)
        if items is None:
            return False
        return self._write(items, wait) if terms is None else self._run(self._core.set_on(items[0], terms))

    @overload
    async def aset(
        self,
        key: str,
        value: V,
        *,
        ttl: _KEPT = ...,
        wait: Literal[True] = ...,
        if_present: bool = ...,
        if_version: int | None = ...,
        strict: bool = ...,
        tags: Tags = ...,
    ) -> bool: ...
    @overload
    async def aset(
        self, key: str, value: V, *, ttl: _TTL = ..., wait: bool, strict: bool = ..., tags: Tags = ...
    ) -> bool | None: ...
    async def aset(
        self,
        key: str,
        value: V,
        *,
        ttl: _KEPT = UNSET,
        wait: bool = True,
        if_present: bool = False,
        if_version: int | None = None,
        strict: bool = True,
        tags: Tags = (),
    ) -> bool | None:
        """Do what set does, without blocking the event loop. A cancelled caller does not stop the write half-way."""
        terms = self._core.terms(ttl, wait, if_present, if_version)
        items = self._items(key, value, ttl, strict, tags)
        if items is None:
            return False
        return await (self._awrite(items, wait) if terms is None else self._arun(self._core.set_on(items[0], terms)))

    def _items(self, key: str, value: V, ttl: _KEPT, strict: bool, tags: Tags) -> list[WriteItem] | None:
        """Return the item of a set; None for a value that is too large, unless that is an error."""
        try:
            return self._core.set_one(key, value, ttl, tags)
        except ValueTooLarge:
            if strict:
                raise
            return None

    @overload
    def set_many(
        self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: Literal[True] = ..., tags: Tags = ...
    ) -> bool: ...
    @overload
    def set_many(self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: bool, tags: Tags = ...) -> bool | None: ...
    def set_many(
        self, values: Mapping[str, V], *, ttl: _TTL = UNSET, wait: bool = True, tags: Tags = ()
    ) -> bool | None:
        """Set several values as set does. Nothing is written unless every key and value can be."""
        return self._write(self._core.sets(values, ttl, tags), wait)

    @overload
    async def aset_many(
        self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: Literal[True] = ..., tags: Tags = ...
    ) -> bool: ...
    @overload
    async def aset_many(
        self, values: Mapping[str, V], *, ttl: _TTL = ..., wait: bool, tags: Tags = ...
    ) -> bool | None: ...
    async def aset_many(
        self, values: Mapping[str, V], *, ttl: _TTL = UNSET, wait: bool = True, tags: Tags = ()
    ) -> bool | None:
        """Do what set_many does, without blocking the event loop."""
        return await self._awrite(self._core.sets(values, ttl, tags), wait)

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
        return self._run(self._core.clear(wait=wait))

    @overload
    async def aclear(self, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    async def aclear(self, *, wait: bool) -> bool | None: ...
    async def aclear(self, *, wait: bool = True) -> bool | None:
        """Do what clear does, without blocking the event loop."""
        return await self._arun(self._core.clear(wait=wait))

    def _run(self, path: Path[T]) -> T:
        self._core.misses.check_open()
        self._ensure()
        return drive(path)

    async def _arun(self, path: Path[T]) -> T:
        self._core.misses.check_open()
        needed_loop()
        await self._aensure()
        return await whole(path)

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
