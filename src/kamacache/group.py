"""A group: a named set of keys with a loader, as users see it. A get that hits never leaves the native store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from kamacache import codecs
from kamacache._engine import MISSING, Getter, check_key
from kamacache.errors import GroupClosed, KamaCacheError
from kamacache.stats import GroupStats
from kamacache.steps import adrive, drive, whole
from kamacache.units import UNSET, Duration, Missing, parse_ttl

if TYPE_CHECKING:  # imported when a group is made
    from kamacache.core import Parts
    from kamacache.net.messages import WriteItem

V = TypeVar("V")


class Group(Getter[V]):
    """A group of a node; made by Node.group. Every blocking method has a twin with an a for asyncio.

    ``get(key)`` is native (see Getter): the value, or None where the source has none. It raises InvalidKey, LoadError
    (LoadTimeout, LoadCycle), Overloaded, GroupClosed or NodeClosed.
    """

    # No __dict__: with one, the interpreter would look into it before each call of a method.
    __slots__ = ("__weakref__", "_aensure", "_ensure", "_leave", "name", "parts")

    def __new__(cls, _name: str, parts: Parts, **_hooks: Any) -> Self:
        """Bind get to the store, which stays the same for the group's life."""
        return super().__new__(cls, parts.store)

    def __init__(
        self,
        name: str,
        parts: Parts,
        *,
        ensure: Callable[[], None],
        aensure: Callable[[], Awaitable[None]],
        leave: Callable[[Group[Any], KamaCacheError], None],
    ) -> None:
        self.name = name
        self._ensure = ensure  # starts the node where that is still to be done
        self._aensure = aensure
        self._leave = leave
        self.parts = parts
        self.renew(parts)

    def renew(self, parts: Parts) -> None:
        """Begin a new life, in a forked child."""
        self.parts = parts
        parts.store.remote = None
        parts.store.pending = False
        parts.store.on_miss = self._miss

    def __repr__(self) -> str:
        return f"<kamacache.Group {self.name!r}{' closed' if self.parts.loading.closed else ''}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Group cannot be pickled: make it in each process, with the same node.group(...) call")

    @property
    def loader(self) -> Any:
        """The function that loads, as it was given; None where there is none."""
        loader = self.parts.loading.loader
        return loader.single or loader.many

    # -- reading -----------------------------------------------------------------------------------------------------

    def _miss(self, key: str, peeked: bool = False) -> Any:
        self._ensure_for(1)
        return drive(self.parts.loading.get(key, peeked=peeked))

    async def aget(self, key: str) -> V | None:
        """See get."""
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        await self._aensure_for(1)
        result: V | None = await adrive(self.parts.loading.get(key))
        return result

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """What exists of these keys, in the order asked. LoadError if one failed, the others in its `loaded`."""
        asked, found, missing, failed = self._look_up(keys)
        if missing or failed:
            self._ensure_for(len(missing))
            drive(self.parts.loading.get_many(missing, found, failed))
        return _in_order(asked, found) if missing else found

    async def aget_many(self, keys: Iterable[str]) -> dict[str, V]:
        """See get_many."""
        asked, found, missing, failed = self._look_up(keys)
        if missing or failed:
            await self._aensure_for(len(missing))
            await adrive(self.parts.loading.get_many(missing, found, failed))
        return _in_order(asked, found) if missing else found

    def _ensure_for(self, keys: int) -> None:
        try:
            self._ensure()
        except BaseException:
            self.parts.gave_up(keys)
            raise

    async def _aensure_for(self, keys: int) -> None:
        try:
            await self._aensure()
        except BaseException:
            self.parts.gave_up(keys)
            raise

    def _look_up(self, keys: Iterable[str]) -> tuple[list[str], dict[str, Any], list[str], dict[str, Exception]]:
        asked = _distinct(keys)
        if not asked:
            self._check_open()
        return asked, *self.parts.store.get_many(asked)

    def peek(self, key: str) -> V | None:
        """The value in this process's memory or None; never loads, asks, counts or touches."""
        self._check_open()
        value: V | None = self.parts.store.peek(key)
        return value

    async def apeek(self, key: str) -> V | None:
        """See peek."""
        return self.peek(key)

    # -- writing -----------------------------------------------------------------------------------------------------

    def set(self, key: str, value: V, *, ttl: Duration | Missing | None = UNSET, wait: bool = True) -> bool | None:
        """Set a value for the whole cluster: True when every node has confirmed, False when one was out of reach.

        Without `ttl` the group's holds, None never expires. With wait=False the cluster follows by itself, and the
        result is None. Raises InvalidKey, CodecError, ValueTooLarge, ConfigError for a bad ttl.
        """
        return self._write([self._item(key, value, self._ttl(ttl))], wait)

    async def aset(
        self, key: str, value: V, *, ttl: Duration | Missing | None = UNSET, wait: bool = True
    ) -> bool | None:
        """See set."""
        return await self._awrite([self._item(key, value, self._ttl(ttl))], wait)

    def set_many(
        self, values: Mapping[str, V], *, ttl: Duration | Missing | None = UNSET, wait: bool = True
    ) -> bool | None:
        """See set; nothing is written unless every key and value can be."""
        return self._write(self._items(values, ttl), wait)

    async def aset_many(
        self, values: Mapping[str, V], *, ttl: Duration | Missing | None = UNSET, wait: bool = True
    ) -> bool | None:
        """See set_many."""
        return await self._awrite(self._items(values, ttl), wait)

    def delete(self, key: str, *, wait: bool = True) -> bool | None:
        """Delete a key everywhere; the next get loads it. Results as set's, whether the key existed or not."""
        check_key(key)
        return self._write([self.parts.item(key, None)], wait)

    async def adelete(self, key: str, *, wait: bool = True) -> bool | None:
        """See delete."""
        check_key(key)
        return await self._awrite([self.parts.item(key, None)], wait)

    def delete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """See delete."""
        return self._write([self.parts.item(key, None) for key in _distinct(keys)], wait)

    async def adelete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """See delete."""
        return await self._awrite([self.parts.item(key, None) for key in _distinct(keys)], wait)

    def clear(self, *, wait: bool = True) -> bool | None:
        """Forget every key of the group, on every node. Results as set's."""
        self._check_open()
        self._ensure()
        return drive(self.parts.clear(wait=wait))

    async def aclear(self, *, wait: bool = True) -> bool | None:
        """See clear."""
        self._check_open()
        await self._aensure()
        return await whole(self.parts.clear(wait=wait))

    def _write(self, items: list[WriteItem], wait: bool) -> bool | None:
        self._check_open()
        self._ensure()
        return drive(self.parts.write(items, wait=wait))

    async def _awrite(self, items: list[WriteItem], wait: bool) -> bool | None:
        self._check_open()
        await self._aensure()
        return await whole(self.parts.write(items, wait=wait))

    def _items(self, values: Mapping[str, V], ttl: Duration | Missing | None) -> list[WriteItem]:
        if not isinstance(values, Mapping):
            raise TypeError(f"set_many takes a mapping of key to value, not {type(values).__name__}")
        seconds = self._ttl(ttl)
        return [self._item(key, value, seconds) for key, value in values.items()]

    def _item(self, key: str, value: V, ttl: float | None) -> WriteItem:
        check_key(key)
        if value is None:
            raise TypeError(
                "None is not a value but the absence of one: use delete(key), or a value of your own for it"
            )
        return self.parts.item(key, codecs.encode(self.parts.options.codec, value), ttl)

    def _ttl(self, ttl: Duration | Missing | None) -> float | None:
        return self.parts.options.ttl if ttl is UNSET else parse_ttl(ttl, name="ttl")

    # -- the rest ----------------------------------------------------------------------------------------------------

    def stats(self) -> GroupStats:
        """The counters of this process since the group was made."""
        return GroupStats(**self.parts.store.stats())

    async def astats(self) -> GroupStats:
        """See stats."""
        return self.stats()

    def close(self) -> None:
        """Forget everything here and raise GroupClosed from now on; the name is free again. Twice is fine."""
        if self.parts.loading.closed is None:
            self.parts.behind.flush(time.monotonic() + 1.0)
            self._leave(self, GroupClosed(f"the group {self.name!r} was closed"))

    async def aclose(self) -> None:
        """See close."""
        import asyncio  # noqa: PLC0415 - it is running

        await asyncio.to_thread(self.close)

    def shut(self, error: KamaCacheError) -> None:
        """Every call raises `error` from now on."""
        self.parts.loading.close(error)
        self.parts.behind.close()
        self.parts.store.close()

    def _check_open(self) -> None:
        self.parts.loading.check_open()


def _distinct(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys must be an iterable of keys, not one {type(keys).__name__}")
    keys = list(keys)
    for key in keys:
        check_key(key)
    return list(dict.fromkeys(keys))


def _in_order(asked: list[str], found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in asked if key in found}
