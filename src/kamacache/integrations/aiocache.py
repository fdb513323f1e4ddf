"""A backend for aiocache: its processes share one cache.

cache = kamacache.integrations.aiocache.KamaCache(place="local://", namespace="shop:")
caches.set_config({"default": {"cache": "kamacache.integrations.aiocache.KamaCache", "place": "local://"}})
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from typing import Any

from aiocache.base import BaseCache
from aiocache.lock import RedLock
from aiocache.serializers import NullSerializer

from kamacache import Conflict, ValueTooLarge
from kamacache.integrations.place import akept, errors_of_codec, group_at, not_kept

_OF_LOCK = object()  # in the place of a connection: RedLock alone names none
_SOONEST, _LATEST = 0.005, 0.1  # seconds between two looks at a lock that another process holds
_OWN = {"serializer", "plugins", "namespace", "key_builder", "timeout", "ttl"}


class KamaCache(BaseCache):  # type: ignore[misc] # aiocache has no types
    """The API of aiocache on a group of a node.

    - `place`: a registry, or "none" for a node alone ("local://"); KAMACACHE_REGISTRY wins.
    - `serializer`, `plugins`, `namespace`, `key_builder`, `timeout`, `ttl`: as in every cache of aiocache; a ttl of 0
      or None is without end.
    - `options`: options of Node and of node.group by name, `group` ("aiocache"), or `node`: see place.py. What the
      serializer returns is pickled, unless `codec` says otherwise.

    A key that is not a str counts as its text: 7 is the key "7", as in Redis.
    """

    NAME = "kamacache"

    def __init__(self, place: str = "local://", serializer: Any = None, **options: Any) -> None:
        own = {name: options.pop(name) for name in _OWN & options.keys()}
        super().__init__(serializer=serializer or NullSerializer(), **own)
        build: Callable[..., Any] = own.get("key_builder") or self._build_key
        self.build_key = lambda *args, **kwargs: _text(build(*args, **kwargs))
        defaults = {"service": "aiocache", "group": "aiocache", "codec": "pickle", "cache_none": True}
        self.group = group_at(place, options, **defaults)

    @classmethod
    def parse_uri_path(cls, path: str) -> dict[str, Any]:
        """Return the options that the path of kamacache://… names: the group."""
        return {"group": path[1:]} if path[1:] else {}

    async def _get(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:  # noqa: ARG002
        return await self.group.aget(key, None)

    async def _gets(self, key: str, encoding: str | None = "utf-8", _conn: Any = None) -> Any:  # noqa: ARG002
        return await self.group.aget(key, None)

    async def _multi_get(self, keys: Iterable[str], encoding: str | None = "utf-8", _conn: Any = None) -> list[Any]:  # noqa: ARG002
        asked = list(keys)
        found = await self.group.aget_many(asked)
        return [found.get(key) for key in asked]

    async def _set(
        self, key: str, value: Any, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None
    ) -> bool | int:
        """Set a value. With a token, the value that _gets returned, return 0 if the key has another one."""
        if _cas_token is None:
            return await akept(self.group, key, value, ttl or None, of="aiocache")
        entry = await self.group.aget_entry(key)
        if entry is None or entry.value != _cas_token:
            return 0
        try:
            with errors_of_codec():
                await self.group.aset(key, value, ttl=ttl or None, if_version=entry.version)
        except Conflict:
            return 0
        except ValueTooLarge:
            return await akept(self.group, key, value, ttl or None, of="aiocache")
        return True

    async def _multi_set(self, pairs: Iterable[tuple[str, Any]], ttl: float | None = None, _conn: Any = None) -> bool:
        values = dict(pairs)
        try:
            with errors_of_codec():
                await self.group.aset_many(values, ttl=ttl or None)
        except ValueTooLarge:
            return all([await self._set(key, value, ttl) for key, value in values.items()])
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = _OF_LOCK) -> bool:
        try:
            with errors_of_codec():
                added = await self.group.aadd(key, value, ttl=ttl or None)
        except ValueTooLarge as error:
            not_kept("aiocache", error)
            return False
        if not added:
            if _conn is _OF_LOCK and ttl:
                await self._released(key, ttl)
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        return True

    async def _released(self, key: str, lease: float) -> None:
        """Return once the holder of a RedLock has released it, or RedLock itself can wait for that.

        It can if the holder is a task of this process and knows that it is: it has an event then. A lock that finds no
        event does not wait.
        """
        pause = _SOONEST
        with suppress(TimeoutError):
            async with asyncio.timeout(lease):
                while key not in RedLock._EVENTS and await self.group.acontains(key):  # noqa: SLF001 - nothing else tells
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, _LATEST)

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return await self.group.acontains(key)

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        return await self.group.aincr(key, delta, initial=0, ttl=None)

    async def _expire(self, key: str, ttl: float | None, _conn: Any = None) -> bool:
        return await self.group.atouch(key, ttl or None)

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return int((await self.group.aremove(key)).existed)

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        if namespace:
            await self.group.adelete_prefix(namespace)
        else:
            await self.group.aclear()
        return True

    async def _raw(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method of the group by its name, such as "ttl" or "get_entry"."""
        kwargs.pop("_conn", None)
        kwargs.pop("encoding", None)
        return await getattr(self.group, f"a{command}")(*args, **kwargs)

    async def _redlock_release(self, key: str, value: Any) -> int:
        entry = await self.group.aget_entry(key)
        if entry is None or entry.value != value:
            return 0
        try:
            return int((await self.group.aremove(key, if_version=entry.version)).existed)
        except Conflict:
            return 0


def _text(key: object) -> str:
    """Return a key as text, as namespaces of aiocache make it: of a member of an Enum its value."""
    return str(key.value if isinstance(key, Enum) else key)
