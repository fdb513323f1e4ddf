"""A backend for cachelib: its processes share one cache. That for Flask-Caching, flask_caching.py, is made of it.

cache = kamacache.integrations.cachelib.KamaCache("local://", default_timeout=300)
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from cachelib import BaseCache

from kamacache import PeerError, ValueTooLarge
from kamacache.integrations.place import added, errors_of_codec, group_at, kept, not_kept
from kamacache.log import log


class KamaCache(BaseCache):
    """The API of cachelib on a group of a node.

    - `place`: a registry, or "none" for a node alone; KAMACACHE_REGISTRY wins.
    - `default_timeout`: seconds, or a timedelta; 0: values never expire.
    - `key_prefix`: the beginning of all keys. `clear` drops those alone.
    - `options`: options of Node and of node.group by name, `group` ("cachelib"), or `node`: see place.py. Values are
      pickled, unless `codec` says otherwise.

    `set` and the like return False if a value is too large or the owner of a key is out of reach.
    """

    def __init__(
        self,
        place: str = "local://",
        default_timeout: int | dt.timedelta = 300,
        ignore_delete_many_errors: bool = True,
        key_prefix: str = "",
        **options: Any,
    ) -> None:
        super().__init__(default_timeout, ignore_delete_many_errors)
        self.key_prefix = key_prefix
        defaults = {"service": "cachelib", "group": "cachelib", "codec": "pickle", "cache_none": True}
        self.group = group_at(place, options, **defaults)

    def _ttl(self, timeout: int | dt.timedelta | None) -> float | None:
        return self._normalize_timeout(timeout) or None

    def get(self, key: str) -> Any:
        return self.group.get(self.key_prefix + key, None)

    def get_many(self, *keys: str) -> list[Any]:
        found = self.group.get_many([self.key_prefix + key for key in keys])
        return [found.get(self.key_prefix + key) for key in keys]

    def has(self, key: str) -> bool:
        return self.group.contains(self.key_prefix + key)

    def set(self, key: str, value: Any, timeout: int | dt.timedelta | None = None) -> bool:
        return kept(self.group, self.key_prefix + key, value, self._ttl(timeout), of="cachelib")

    def add(self, key: str, value: Any, timeout: int | dt.timedelta | None = None) -> bool:
        try:
            return added(self.group, self.key_prefix + key, value, self._ttl(timeout), of="cachelib")
        except PeerError as error:
            not_kept("cachelib", error)
            return False

    def set_many(self, mapping: dict[str, Any], timeout: int | dt.timedelta | None = None) -> list[Any]:
        try:
            with errors_of_codec():
                values = {self.key_prefix + key: value for key, value in mapping.items()}
                self.group.set_many(values, ttl=self._ttl(timeout))
        except ValueTooLarge:
            return super().set_many(mapping, timeout)
        return list(mapping)

    def delete(self, key: str) -> bool:
        return self.group.remove(self.key_prefix + key).existed

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete all of them at once. One that does not exist counts as deleted."""
        self.group.delete_many([self.key_prefix + key for key in keys])
        return list(keys)

    def clear(self) -> bool:
        if self.key_prefix:
            self.group.delete_prefix(self.key_prefix)
        else:
            self.group.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to an integer at its owner, in one step; an absent one counts as 0. None: the owner is out of reach."""
        try:
            return self.group.incr(self.key_prefix + key, delta, initial=0, ttl=self._ttl(None))
        except PeerError as error:
            log.warning("cachelib could not add to an integer: %(error)s", error=error)
            return None

    def dec(self, key: str, delta: int = 1) -> int | None:
        return self.inc(key, -delta)
