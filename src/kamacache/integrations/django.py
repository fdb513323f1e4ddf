"""A cache backend for Django. All processes that name the same place share one cache.

    CACHES = {
        "default": {
            "BACKEND": "kamacache.integrations.django.KamaCache",
            "LOCATION": "local://",              # or etcd://host:2379, static://…; "none": each process for itself
            "OPTIONS": {"max_bytes": "256 MiB"},
        }
    }

With `"kamacache.integrations.django"` in INSTALLED_APPS, `manage.py check` looks at these settings.
"""

from __future__ import annotations

import functools
import os
import weakref
from asyncio import iscoroutine
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.signals import setting_changed
from django.db import close_old_connections
from django.dispatch import receiver

from kamacache import Group, KamaCacheError, LoadError, Node, Value, ValueTooLarge
from kamacache.callrun import noting
from kamacache.integrations.place import aadded, added, akept, check, errors_of_codec, kept, placed

F = TypeVar("F", bound=Callable[..., Any])

_OF = "the cache of Django"
_BACKEND = "kamacache.integrations.django.KamaCache"

_made: weakref.WeakSet[Group[Any]] = weakref.WeakSet()  # for the settings as they are now
_old: weakref.WeakSet[Group[Any]] = weakref.WeakSet()  # for settings that a test has replaced


def with_connections(load: F) -> F:
    """Have a loader begin with usable connections to the database, and end without old ones.

    Django does that for requests; a load may run on a thread of the node. A connection inside `atomic` stays.
    """

    @functools.wraps(load)
    def loader(*args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return load(*args, **kwargs)
        finally:
            close_old_connections()

    return loader  # type: ignore[return-value]


class KamaCache(BaseCache):  # type: ignore[misc] # Django has no types
    """The cache API of Django on a group of a node.

    - LOCATION: the registry, "none" for a node alone; the environment's KAMACACHE_REGISTRY wins. Without it: local://.
    - OPTIONS: options of Node and of node.group by name, such as service, password, max_bytes, near_ttl, codec
      (pickle), and `group`, the name of the group ("django"). Or `node`, the dotted name of a node of the project.

    Keys, versions, prefixes and timeouts are as in every backend. MAX_ENTRIES and CULL_FREQUENCY have no effect: the
    least useful entries go when max_bytes is full. get_or_set calls its function once in the cluster.
    """

    def __init__(self, location: str, params: Mapping[str, Any]) -> None:
        super().__init__(params)
        self._location = location
        self._given = dict(params.get("OPTIONS", {}))

    @property
    def node(self) -> Node:
        """The node of this process that has the group. It starts at the first call of the cache, or by `start`."""
        return self._placed[0]

    @functools.cached_property
    def group(self) -> Group[Any]:
        """The group that has the entries."""
        return self._placed[1]

    @functools.cached_property
    def _placed(self) -> tuple[Node, Group[Any]]:
        given = {name: value for name, value in self._given.items() if name not in {"MAX_ENTRIES", "CULL_FREQUENCY"}}
        project = os.environ.get("DJANGO_SETTINGS_MODULE", "").partition(".")[0]
        defaults = {"service": project or "django", "group": "django", "codec": "pickle", "cache_none": True}
        found = placed(self._location or "local://", given, _old, **defaults)
        _old.discard(found[1])
        _made.add(found[1])
        return found

    def _ttl(self, timeout: Any) -> float | None:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else max(float(seconds), 0.0)

    def _key(self, key: Any, version: int | None) -> str:
        return str(self.make_and_validate_key(key, version=version))

    def _keys(self, keys: Iterable[Any], version: int | None) -> dict[str, Any]:
        return {self._key(key, version): key for key in keys}

    # -- what every backend has --------------------------------------------------------------------------------------

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return added(self.group, self._key(key, version), value, self._ttl(timeout), of=_OF)

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return await aadded(self.group, self._key(key, version), value, self._ttl(timeout), of=_OF)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return self.group.get(self._key(key, version), default)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        return await self.group.aget(self._key(key, version), default)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self._set(self._key(key, version), value, self._ttl(timeout))

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        await self._aset(self._key(key, version), value, self._ttl(timeout))

    def _set(self, name: str, value: Any, ttl: float | None) -> bool:
        return kept(self.group, name, value, ttl, of=_OF)

    async def _aset(self, name: str, value: Any, ttl: float | None) -> bool:
        return await akept(self.group, name, value, ttl, of=_OF)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return self.group.touch(self._key(key, version), self._ttl(timeout))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        return await self.group.atouch(self._key(key, version), self._ttl(timeout))

    def delete(self, key: Any, version: int | None = None) -> bool:
        return self.group.remove(self._key(key, version)).existed

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        return (await self.group.aremove(self._key(key, version))).existed

    def has_key(self, key: Any, version: int | None = None) -> bool:
        return self.group.contains(self._key(key, version))

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        return await self.group.acontains(self._key(key, version))

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        try:
            return self.group.incr(self._key(key, version), delta)
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        try:
            return await self.group.aincr(self._key(key, version), delta)
        except KeyError:
            raise ValueError(f"Key '{key}' not found") from None

    def clear(self) -> bool:
        """Drop every entry of the group, whatever its prefix and version, on every node."""
        return self.group.clear() is True

    async def aclear(self) -> bool:
        """Do what clear does."""
        return await self.group.aclear() is True

    # -- several keys ------------------------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = self._keys(keys, version)
        return {names[name]: value for name, value in self.group.get_many(names).items()}

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        names = self._keys(keys, version)
        return {names[name]: value for name, value in (await self.group.aget_many(names)).items()}

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Set all of them, and return the keys of values that are too large."""
        names, ttl = {key: self._key(key, version) for key in data}, self._ttl(timeout)
        try:
            with errors_of_codec():
                self.group.set_many({names[key]: value for key, value in data.items()}, ttl=ttl)
        except ValueTooLarge:
            return [key for key, value in data.items() if not self._set(names[key], value, ttl)]
        return []

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Do what set_many does."""
        names, ttl = {key: self._key(key, version) for key in data}, self._ttl(timeout)
        try:
            with errors_of_codec():
                await self.group.aset_many({names[key]: value for key, value in data.items()}, ttl=ttl)
        except ValueTooLarge:
            return [key for key, value in data.items() if not await self._aset(names[key], value, ttl)]
        return []

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        self.group.delete_many(self._keys(keys, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        await self.group.adelete_many(self._keys(keys, version))

    # -- once in the cluster -----------------------------------------------------------------------------------------

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        """Return the value of a key. If it has none, call `default`, or take it as the value, and keep the result.

        Of all callers in the cluster one calls its function, and the others wait for it. If that fails, each of them
        calls its own, as without a cache: the exceptions that a caller gets are those of its own function.
        """
        ttl, made, caught = self._ttl(timeout), list[Any](), list[BaseException]()

        def load(_: str) -> Value[Any] | None:
            with noting(caught):
                made.append(default() if callable(default) else default)
            return Value(made[-1], ttl=ttl)

        with suppress(LoadError):
            return self.group.get_or_load(self._key(key, version), load)
        if caught:
            raise caught.pop()
        return super().get_or_set(key, made.pop if made else default, timeout, version)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """Do what get_or_set does. `default` may be an async function; a plain one is called in this task."""
        ttl, made, caught = self._ttl(timeout), list[Any](), list[BaseException]()

        async def run() -> Any:
            value = default() if callable(default) else default
            return await value if iscoroutine(value) else value

        async def load(_: str) -> Value[Any] | None:
            with noting(caught):
                made.append(await run())
            return Value(made[-1], ttl=ttl)

        with suppress(LoadError):
            return await self.group.aget_or_load(self._key(key, version), load)
        if caught:
            raise caught.pop()
        value = made.pop() if made else await run()
        return await super().aget_or_set(key, lambda: value, timeout, version)


def nodes() -> list[Node]:
    """Return the nodes of this process that the caches in CACHES have, with the groups of all.

    Each starts at its first call. A worker that is to take over what other workers have starts them before.
    """
    return list({cache.node: None for cache in caches.all() if isinstance(cache, KamaCache)})


@receiver(setting_changed)  # type: ignore[untyped-decorator]
def _change(*, setting: str, **_: Any) -> None:
    """Let groups be replaced when a test has changed CACHES, as by `override_settings`."""
    if setting == "CACHES":
        _old.update(_made)
        _made.clear()


@register(Tags.caches)  # type: ignore[untyped-decorator]
def check_caches(**_: Any) -> list[CheckMessage]:
    """Return what is wrong with the caches of this backend in the settings, or surprises."""
    found: list[CheckMessage] = []
    for alias, given in settings.CACHES.items():
        if given.get("BACKEND") == _BACKEND:
            found += _check(f"CACHES[{alias!r}]", given)
    sessions = settings.SESSION_ENGINE == "django.contrib.sessions.backends.cache"
    backend = settings.CACHES.get(settings.SESSION_CACHE_ALIAS, {}).get("BACKEND")
    if sessions and backend == _BACKEND:
        hint = (
            'Use "django.contrib.sessions.backends.cached_db": it reads from the cache, and writes to the database too.'
        )
        found.append(CheckWarning("Sessions are in the memory of processes alone.", hint=hint, id="kamacache.W004"))
    return found


def _check(name: str, given: Mapping[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    options = given.get("OPTIONS", {})
    timeout, hint = given.get("TIMEOUT", 300), "Give it seconds, or None for values that never expire."
    try:
        if timeout is not None and int(timeout) <= 0:
            text = f"{name}: with TIMEOUT {timeout} nothing is kept."
            found.append(CheckWarning(text, hint=hint, id="kamacache.W001"))
    except (TypeError, ValueError):
        text = f"{name}: TIMEOUT {timeout!r} is no number of seconds; Django takes 300 instead."
        found.append(Error(text, hint=hint, id="kamacache.E001"))
    if given.keys() & {"MAX_ENTRIES"} or options.keys() & {"MAX_ENTRIES", "CULL_FREQUENCY"}:
        hint = "Give OPTIONS max_bytes: the least useful entries go when that is full."
        found.append(CheckWarning(f"{name}: MAX_ENTRIES has no effect.", hint=hint, id="kamacache.W002"))
    place = os.environ.get("KAMACACHE_REGISTRY") or given.get("LOCATION")
    if place == "none" and "node" not in options:
        hint = "Give LOCATION a registry, local:// for the processes of this machine. For tests it is right as it is."
        text = f"{name}: each process has a cache of its own, and does not see what others set and delete."
        found.append(CheckWarning(text, hint=hint, id="kamacache.W003"))
    try:
        check(KamaCache(given.get("LOCATION", ""), given).node)
    except (KamaCacheError, ImportError, AttributeError, TypeError) as error:
        found.append(Error(f"{name}: {error}", id="kamacache.E001"))
    return found
