"""A group: a named set of keys with a loader, as users see it. A get that hits never leaves the native store."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from kamacache import codecs
from kamacache._engine import MISSING, Getter, Store, check_key
from kamacache.behind import WriteBehind
from kamacache.errors import GroupClosed, KamaCacheError, ValueTooLarge
from kamacache.loading import Loading
from kamacache.messages import GroupState, WriteItem
from kamacache.options import UNSET, Duration, Missing, parse_ttl
from kamacache.outcomes import JOINED
from kamacache.stats import GroupStats
from kamacache.steps import Path, adrive, drive
from kamacache.writing import Writing

if TYPE_CHECKING:
    from kamacache.loader import Loader
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime

V = TypeVar("V")


class Parts:
    """What serves one group in one life of its node."""

    __slots__ = ("behind", "loading", "options", "runtime", "store", "writing")

    def __init__(self, name: str, store: Store, loader: Loader, options: GroupOptions, runtime: Runtime) -> None:
        self.store = store
        self.options = options
        self.runtime = runtime
        self.loading = Loading(name, store, loader, options, runtime)
        self.writing = Writing(name, store, self.loading, runtime)
        self.behind = WriteBehind(name, store, self.loading, self.writing)
        self.loading.after_writes = self.behind.pending

    def state(self) -> GroupState:
        """What a hello says of this group."""
        codec = codecs.codec_name(self.options.codec)
        return GroupState(self.store.name, codec, self.store.floor, self.store.recent())


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
        leave: Callable[[Group[Any]], None],
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
        asked, found, missing = self._look_up(keys)
        if missing:
            self._ensure_for(len(missing))
            drive(self.parts.loading.get_many(missing, found))
        return _in_order(asked, found) if missing else found

    async def aget_many(self, keys: Iterable[str]) -> dict[str, V]:
        """See get_many."""
        asked, found, missing = self._look_up(keys)
        if missing:
            await self._aensure_for(len(missing))
            await adrive(self.parts.loading.get_many(missing, found))
        return _in_order(asked, found) if missing else found

    def _ensure_for(self, keys: int) -> None:
        try:
            self._ensure()
        except BaseException:
            self.parts.store.count(JOINED, keys)  # counted in gets before: who gives up here waited for others
            raise

    async def _aensure_for(self, keys: int) -> None:
        try:
            await self._aensure()
        except BaseException:
            self.parts.store.count(JOINED, keys)
            raise

    def _look_up(self, keys: Iterable[str]) -> tuple[list[str], dict[str, Any], list[str]]:
        asked = _distinct(keys)
        if not asked:
            self._check_open()
        found, missing = self.parts.store.get_many(asked)
        return asked, found, missing

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
        return self._write([WriteItem(key, None)], wait)

    async def adelete(self, key: str, *, wait: bool = True) -> bool | None:
        """See delete."""
        check_key(key)
        return await self._awrite([WriteItem(key, None)], wait)

    def delete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """See delete."""
        return self._write([WriteItem(key, None) for key in _distinct(keys)], wait)

    async def adelete_many(self, keys: Iterable[str], *, wait: bool = True) -> bool | None:
        """See delete."""
        return await self._awrite([WriteItem(key, None) for key in _distinct(keys)], wait)

    def clear(self, *, wait: bool = True) -> bool | None:
        """Forget every key of the group, on every node. Results as set's."""
        self._check_open()
        self._ensure()
        return drive(self._clearing(wait))

    async def aclear(self, *, wait: bool = True) -> bool | None:
        """See clear."""
        self._check_open()
        await self._aensure()
        return await _whole(self._clearing(wait))

    def _write(self, items: list[WriteItem], wait: bool) -> bool | None:
        self._check_open()
        self._ensure()
        return drive(self._writing(items, wait))

    async def _awrite(self, items: list[WriteItem], wait: bool) -> bool | None:
        self._check_open()
        await self._aensure()
        return await _whole(self._writing(items, wait))

    def _writing(self, items: list[WriteItem], wait: bool) -> Path[bool | None]:
        parts = self.parts
        if not items:
            return True if wait else None
        if not wait:
            yield from parts.behind.submit(items)
            return None
        yield from parts.loading.wait_for_writes([item.key for item in items])
        return (yield from parts.writing.write(items))

    def _clearing(self, wait: bool) -> Path[bool | None]:
        parts = self.parts
        yield from parts.behind.settled()
        floor = parts.writing.clear_here()
        if not wait:
            parts.behind.submit_clear(floor)
            return None
        return (yield from parts.writing.clear(floor))

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
        parts = self.parts
        raw = codecs.encode(parts.options.codec, value)
        if not parts.loading.fits(key, raw):
            greatest = (
                f"max_value is {parts.runtime.max_value:,} B, an eighth of max_bytes {parts.options.max_bytes // 8:,} B"
            )
            raise ValueTooLarge(f"{self.name}[{key[:40]!r}]: {len(raw):,} B are too many: {greatest}")
        return WriteItem(key, raw, ttl)

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
            self.shut(GroupClosed(f"the group {self.name!r} was closed"))
            self._leave(self)

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


async def _whole(path: Path[bool | None]) -> bool | None:
    """Carry a write to its end even when its caller is cancelled half-way."""
    import asyncio  # noqa: PLC0415 - it is running

    task = asyncio.get_running_loop().create_task(adrive(path))
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
    return await asyncio.shield(task)


_UNDER_WAY: set[Any] = set()  # a loop holds its tasks weakly


def _distinct(keys: Iterable[str]) -> list[str]:
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys must be an iterable of keys, not one {type(keys).__name__}")
    keys = list(keys)
    for key in keys:
        check_key(key)
    return list(dict.fromkeys(keys))


def _in_order(asked: list[str], found: dict[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in asked if key in found}
