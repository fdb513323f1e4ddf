"""A backend for cashews: its processes share one cache. Importing this module registers it.

cache.setup("kamacache://", place="local://", max_bytes="256 MiB")
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from cashews.backends.interface import NOT_EXIST, UNLIMITED, Backend
from cashews.exceptions import CacheBackendInteractionError
from cashews.picklers import PicklerType
from cashews.serialize import DEFAULT_SERIALIZER, Serializer
from cashews.utils import Bitarray
from cashews.wrapper.backend_settings import register_backend

from kamacache import KEEP, Conflict, Group, PeerError, ValueTooLarge
from kamacache.deadline import Deadline
from kamacache.integrations.place import akept, group_at, not_kept

T = TypeVar("T")
_PARTS = b"\x01"  # in front of what set_add, slice_incr and incr_bits keep, which get does not return
_PAUSE = 0.01  # seconds, before a change that lost to another one is tried again
_PATIENCE = 10.0  # seconds, in which a change may lose to others again and again


class KamaCache(Backend):
    """The API of cashews on a group of a node.

    - `place`: a registry, or "none" for a node alone ("local://"); KAMACACHE_REGISTRY wins.
    - `secret`, `pickle_type`, `compress_type` and the like: as in every backend of cashews. What its serializer returns
      is kept, so that a signature is checked before anything is unpickled.
    - `options`: options of Node and of node.group by name, `group` ("cashews"), or `node`: see place.py.

    If the owner of a key does not answer, calls that it decides on raise CacheBackendInteractionError.
    """

    def __init__(self, place: str = "local://", serializer: Serializer | None = None, **options: Any) -> None:
        super().__init__(serializer=serializer)
        self._codec = serializer or DEFAULT_SERIALIZER
        defaults = {"service": "cashews", "group": "cashews", "codec": "bytes", "ttl": None}
        self.group: Group[Any] = group_at(place, options, **defaults)
        self._open = False

    @property
    def is_init(self) -> bool:
        return self._open

    async def init(self) -> None:
        self._open = True

    async def close(self) -> None:
        """Leave the node open: other backends of the process use it."""
        self._open = False

    async def set(self, key: str, value: Any, expire: float | None = None, exist: bool | None = None) -> bool:
        """Set a value. With `exist`, only if the key has one, or has none, as its owner decides."""
        raw, ttl = await self._encoded(key, value, expire), expire or None
        if exist is None:
            return await akept(self.group, key, raw, ttl, of="cashews")
        try:
            with _errors():
                if exist:
                    return await self.group.aset(key, raw, ttl=ttl, if_present=True)
                return await self.group.aadd(key, raw, ttl=ttl)
        except ValueTooLarge as error:
            not_kept("cashews", error)
            return False

    async def set_many(self, pairs: Mapping[str, Any], expire: float | None = None) -> None:
        values = {key: await self._encoded(key, value, expire) for key, value in pairs.items()}
        try:
            await self.group.aset_many(values, ttl=expire or None)
        except ValueTooLarge:
            for key, raw in values.items():
                await akept(self.group, key, raw, expire or None, of="cashews")

    async def set_raw(self, key: str, value: Any, **_: Any) -> None:
        raw = value if isinstance(value, bytes) else str(value).encode()
        await akept(self.group, key, raw, None, of="cashews")

    async def get(self, key: str, default: Any = None) -> Any:
        return await self._decoded(key, await self.group.aget(key), default)

    async def get_raw(self, key: str) -> Any:
        return await self.group.aget(key)

    async def get_many(self, *keys: str, default: Any = None) -> tuple[Any, ...]:
        found = await self.group.aget_many(keys)
        return tuple([await self._decoded(key, found.get(key), default) for key in keys])

    async def get_match(self, pattern: str, batch_size: int = 100) -> AsyncIterator[tuple[str, Any]]:  # noqa: ARG002
        missing = object()
        for key in self._matching(pattern):
            value = await self.get(key, missing)
            if value is not missing:
                yield key, value

    async def scan(self, pattern: str, batch_size: int = 100) -> AsyncIterator[str]:  # noqa: ARG002
        """Return the keys in the memory of this process that match, of which other nodes have others."""
        for key in self._matching(pattern):
            yield key

    def _matching(self, pattern: str) -> list[str]:
        start, *rest = pattern.split("*")
        matches = re.compile(".*".join(map(re.escape, [start, *rest])), re.DOTALL).fullmatch
        return [key for key in self.group.keys(start) if matches(key)]

    async def exists(self, key: str) -> bool:
        return await self.group.acontains(key)

    async def incr(self, key: str, value: int = 1, expire: float | None = None) -> int:
        """Add to an integer at its owner, in one step; `expire` holds for a key that had none."""
        with _errors():
            return await self.group.aincr(key, value, initial=0, ttl=expire or None)

    async def delete(self, key: str) -> bool:
        removed = await self.group.aremove(key)
        await self._call_on_remove_callbacks(key)
        return removed.existed

    async def delete_many(self, *keys: str) -> None:
        await self.group.adelete_many(keys)
        await self._call_on_remove_callbacks(*keys)

    async def delete_match(self, pattern: str) -> None:
        """Delete on every node the keys that begin as the pattern does up to its first `*`: too many, never too few."""
        start, star, _ = pattern.partition("*")
        gone = list(self.group.keys(start)) if self._on_remove_callbacks else []
        if not star:
            await self.group.adelete(pattern)
        elif start:
            await self.group.adelete_prefix(start)
        else:
            await self.group.aclear()
        await self._call_on_remove_callbacks(*gone)

    async def expire(self, key: str, timeout: float) -> bool:
        with _errors():
            return await self.group.atouch(key, timeout or None)

    async def get_expire(self, key: str) -> int:
        left = await self.group.attl(key)
        return NOT_EXIST if left is None else UNLIMITED if left == math.inf else round(left)

    async def get_size(self, key: str) -> int:
        raw = await self.group.aget(key)
        return 0 if raw is None else len(str(raw) if isinstance(raw, int) else raw)

    async def get_keys_count(self) -> int:
        return len(self.group)

    async def ping(self, message: bytes | None = None) -> bytes:
        return b"PONG" if message is None or message == b"PING" else message

    async def clear(self) -> None:
        await self.group.aclear()

    async def is_locked(self, key: str, wait: float | None = None, step: float = 0.1) -> bool:
        until = asyncio.get_running_loop().time() + (wait or 0)
        while await self.exists(key):
            if asyncio.get_running_loop().time() >= until:
                return True
            await asyncio.sleep(step)
        return False

    async def unlock(self, key: str, value: Any) -> bool:
        """Delete the entry of a lock if it still has this value, as its owner decides."""
        entry = await self.group.aget_entry(key)
        if entry is None or await self._decoded(key, entry.value, None) != value:
            return False
        try:
            with _errors():
                return (await self.group.aremove(key, if_version=entry.version)).existed
        except Conflict:
            return False

    async def get_bits(self, key: str, *indexes: int, size: int = 1) -> tuple[int, ...]:
        bits = _bits(_parts(await self.group.aget(key), "0"))
        return tuple(bits.get(index, size) for index in indexes)

    async def incr_bits(self, key: str, *indexes: int, size: int = 1, by: int = 1) -> tuple[int, ...]:
        def change(old: str) -> tuple[str, tuple[int, ...]]:
            bits = _bits(old)
            new = tuple(bits.incr(index, size, by).get(index, size) for index in indexes)
            return f"{bits.to_int():x}", new

        return await self._change(key, "0", change)

    async def slice_incr(self, key: str, start: float, end: float, maxvalue: int, expire: float | None = None) -> int:
        def change(old: list[float]) -> tuple[list[float], int]:
            later = [at for at in old if at >= start]
            count = sum(at <= end for at in later)
            return (old, count) if count >= maxvalue else ([*later, end], count + 1)

        return await self._change(key, [], change, expire)

    async def set_add(self, key: str, *values: str, expire: float | None = None) -> None:
        await self._change(key, [], lambda old: ([*dict.fromkeys([*old, *values])], None), expire)

    async def set_remove(self, key: str, *values: str) -> None:
        await self._change(key, [], lambda old: ([one for one in old if one not in values], None))

    async def set_pop(self, key: str, count: int = 100) -> Iterable[str]:
        return await self._change(key, [], lambda old: (old[count:], old[:count]))

    async def _change(
        self, key: str, empty: Any, change: Callable[[Any], tuple[Any, T]], expire: float | None = None
    ) -> T:
        """Replace the parts that a key has by those that `change` returns, and return what it returns beside them.

        A caller that was slower than another one begins again with what that one has left. Raises
        CacheBackendInteractionError if that happens for ten seconds, or if the parts have grown too large.
        """
        until = Deadline.after(_PATIENCE)
        while True:
            entry = await self.group.aget_entry(key)
            old = _parts(entry and entry.value, empty)
            new, result = change(old)
            if new == old:
                return result
            raw = _PARTS + json.dumps(new).encode()
            try:
                with _errors():
                    if entry is not None:
                        await self.group.aset(key, raw, ttl=expire or KEEP, if_version=entry.version)
                        return result
                    if await self.group.aadd(key, raw, ttl=expire or None):
                        return result
            except Conflict:
                pass
            except ValueTooLarge as error:
                raise CacheBackendInteractionError(f"nothing more can be added to {key!r}: {error}") from error
            if until.passed:
                raise CacheBackendInteractionError(f"{key!r} was changed by others each time, for {_PATIENCE:g} s")
            await asyncio.sleep(_PAUSE)

    async def _encoded(self, key: str, value: Any, expire: float | None) -> bytes:
        raw = await self._codec.encode(self, key=key, value=value, expire=expire)
        return b"%d" % raw if isinstance(raw, int) else raw

    async def _decoded(self, key: str, raw: Any, default: Any) -> Any:
        if raw is None or isinstance(raw, int):  # an integer is what incr left
            return default if raw is None else raw
        if raw[:1] == b"-" and raw[1:].isdigit():
            return int(raw)
        if raw.startswith(_PARTS):
            return default
        return await self._codec.decode(self, key=key, value=raw, default=default)


@contextmanager
def _errors() -> Iterator[None]:
    """Raise what cashews expects of a backend that is out of reach."""
    try:
        yield
    except PeerError as error:
        raise CacheBackendInteractionError(str(error)) from error


def _bits(text: str) -> Any:
    return Bitarray(text, base=16)  # type: ignore[no-untyped-call]


def _parts(raw: Any, empty: Any) -> Any:
    if raw is None:
        return empty
    if isinstance(raw, int) or not raw.startswith(_PARTS):
        raise TypeError("the key has a value of another kind")
    return json.loads(raw[len(_PARTS) :])


register_backend("kamacache", KamaCache, pickler=PicklerType.DEFAULT)
