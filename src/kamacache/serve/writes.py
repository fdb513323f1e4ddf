"""The commands of Redis clients on keys: writes, and looks at what their owners have."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from kamacache import codecs
from kamacache._engine import MISSING
from kamacache.net.messages import (
    ABSENT,
    ALWAYS,
    APPLIED,
    PRESENT,
    ClientReply,
    ClientRequest,
    Terms,
    WriteItem,
)
from kamacache.packed import Packed, unpacked
from kamacache.steps import adrive, whole

if TYPE_CHECKING:
    from kamacache.core import GroupCore

NOT_THERE, FOR_EVER = -2, -1  # as Redis answers TTL
FLUSH = "KAMACACHE_ALLOW_FLUSH"  # the environment variable that allows FLUSHDB
_AT_ONCE = 64  # keys of one DEL
_PLAIN = codecs.BytesCodec()
Handler = Callable[[ClientRequest], Awaitable[ClientReply]]


class Refusal(Exception):
    """The text of an error for a Redis client."""


class ClientWrites:
    """Handle the commands on keys, each by the name that the engine gives it."""

    def __init__(self, cores: Mapping[str, GroupCore], core: Callable[[str], GroupCore]) -> None:
        self._cores = cores
        self._core = core
        self.handlers: dict[str, Handler] = {
            "set": self._set,
            "mset": self._set_many,
            "del": self._delete,
            "take": self._take,
            "touch": self._touch,
            "persist": self._persist,
            "incr": self._incr,
            "exists": self._exists,
            "ttl": self._ttl,
            "flush": self._flush,
        }

    def _one(self, request: ClientRequest) -> tuple[GroupCore, str]:
        name, key = request.keys[0]
        return self._core(name), key

    def _item(self, core: GroupCore, key: str, value: bytes, ttl: float | None) -> WriteItem:
        codec = core.options.codec
        if core.options.cache_none and codecs.means_none(unpacked(codec), value):
            raw = codecs.encode(codec, None, none=True)
        else:
            codecs.decode(unpacked(codec), codecs.kept(value))  # refuses what no get could read
            raw = codecs.encode(codec.of_bytes(), value) if isinstance(codec, Packed) else codecs.kept(value)
        return core.item(key, raw, core.options.ttl if ttl is None else ttl)

    async def _set(self, request: ClientRequest) -> ClientReply:
        assert request.value is not None  # noqa: S101 - the engine sends it with each set
        core, key = self._one(request)
        item = self._item(core, key, request.value, request.ttl)
        words = request.arguments
        if not words:
            await whole(core.write([item]))
            return ClientReply(number=1)
        only = ABSENT if "NX" in words else PRESENT if "XX" in words else ALWAYS
        terms = Terms(only, keep_ttl="KEEPTTL" in words, wants="GET" in words)
        outcome, _ = await whole(core.primitives.put(item._replace(terms=terms)))
        return ClientReply([_as_set(core, key, outcome.value)], int(outcome.verdict == APPLIED))

    async def _set_many(self, request: ClientRequest) -> ClientReply:
        last = dict(zip(request.keys, request.values, strict=True))  # of a key that is named twice the last counts
        items: dict[str, list[WriteItem]] = defaultdict(list)
        for (name, key), value in last.items():
            items[name].append(self._item(self._core(name), key, value, None))
        for name, sets in items.items():
            await whole(self._core(name).write(sets))
        return ClientReply()

    async def _delete(self, request: ClientRequest) -> ClientReply:
        import asyncio  # noqa: PLC0415 - it is running

        keys = [
            (self._core(name), key) for name, key in dict.fromkeys(request.keys)
        ]  # if one is missing, nothing is done
        existed = 0
        for start in range(0, len(keys), _AT_ONCE):
            removals = [whole(core.primitives.remove(key)) for core, key in keys[start : start + _AT_ONCE]]
            existed += sum(removed.existed for removed in await asyncio.gather(*removals))
        return ClientReply(number=existed)

    async def _take(self, request: ClientRequest) -> ClientReply:
        core, key = self._one(request)
        return ClientReply([_as_set(core, key, await whole(core.primitives.take(key)))])

    async def _touch(self, request: ClientRequest) -> ClientReply:
        core, key = self._one(request)
        outcome = await whole(core.primitives.touch(key, request.ttl, wants="GET" in request.arguments))
        return ClientReply([_as_set(core, key, outcome.value)], int(outcome.existed))

    async def _persist(self, request: ClientRequest) -> ClientReply:
        core, key = self._one(request)
        if await self._left(core, key) < 0:
            return ClientReply(number=0)
        return ClientReply(number=int((await whole(core.primitives.touch(key, None))).existed))

    async def _incr(self, request: ClientRequest) -> ClientReply:
        core, key = self._one(request)
        try:
            number = await whole(core.primitives.incr(key, int(request.arguments[0]), 0, core.options.ttl))
        except TypeError:
            raise Refusal("value is not an integer or out of range") from None
        except OverflowError:
            raise Refusal("increment or decrement would overflow") from None
        return ClientReply(number=number)

    async def _exists(self, request: ClientRequest) -> ClientReply:
        left = [await self._left(self._core(name), key) for name, key in request.keys]
        return ClientReply(number=sum(ms != NOT_THERE for ms in left))

    async def _ttl(self, request: ClientRequest) -> ClientReply:
        return ClientReply(number=await self._left(*self._one(request)))

    async def _left(self, core: GroupCore, key: str) -> int:
        """Return the milliseconds left to the copy in its owner's memory, FOR_EVER or NOT_THERE. Load nothing."""
        entry = await adrive(core.find(key, near=False, bare=True))
        if entry is None:
            return NOT_THERE
        return FOR_EVER if entry.ttl == math.inf else int(entry.ttl * 1000)

    async def _flush(self, _: ClientRequest) -> ClientReply:
        if os.environ.get(FLUSH) != "1":
            raise Refusal(f"FLUSHDB and FLUSHALL are refused here: set {FLUSH}=1 on this node to allow them")
        for core in list(self._cores.values()):
            await whole(core.clear())
        return ClientReply()


def _as_set(core: GroupCore, key: str, raw: bytes | None) -> bytes | None:
    """Return the bytes for a client as they were before they were compressed; None for those that cannot be read."""
    value = core.misses.values.read(key, raw, raw=True)
    return None if value is MISSING else value


def shown(core: GroupCore, raw: bytes) -> bytes | None:
    """Return what a client is shown of the bytes that a group keeps; None of None."""
    codec = core.options.codec
    value = codecs.decode(codec.of_bytes() if isinstance(codec, Packed) else _PLAIN, raw)
    return str(value).encode() if isinstance(value, int) else value


def by_group(keys: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the keys of each group, every key once."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, key in dict.fromkeys(keys):
        found[name].append(key)
    return found
