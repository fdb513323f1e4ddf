"""A group whose keys may be int, UUID and tuples beside str: Group with the text of each key in its place."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kamacache.errors import LoadError
from kamacache.group import Group
from kamacache.keycodec import Key, all_encoded, decode, decoded, encode, encoded, for_text, for_texts

if TYPE_CHECKING:
    from kamacache.entry import Entry, Removed
    from kamacache.group.loads import _Loaded
    from kamacache.group.lock import Lock
    from kamacache.group.writes import _TTL
    from kamacache.tags import Tags
    from kamacache.units import Duration

V = TypeVar("V")
T = TypeVar("T")
K = TypeVar("K", bound=Key)
# The way of an argument into the key, by the name of its parameter.
_ENCODERS: dict[str, Callable[[Any], Any]] = {
    "key": encode,
    "keys": all_encoded,
    "values": encoded,
    "load": lambda load: for_text(load) if callable(load) else load,
    "load_many": lambda load_many: for_texts(load_many) if callable(load_many) else load_many,
}


class KeyedGroup(Group[V]):
    """A group with key_codec="auto". Its methods are those of Group, and take int, UUID and tuple keys too.

    They raise TypeError for a key of another type. Errors of loads have the key as it was given.
    """

    __slots__ = ()

    if TYPE_CHECKING:  # what differs for type checkers

        @overload
        def get(self, key: Key, /) -> V | None: ...
        @overload
        def get(self, key: Key, default: T, /) -> V | T: ...
        def get(self, key: Key, default: Any = ..., /) -> Any: ...
        @overload
        async def aget(self, key: Key) -> V | None: ...
        @overload
        async def aget(self, key: Key, default: T) -> V | T: ...
        async def aget(self, key: Key, default: Any = ...) -> Any: ...
        def peek(self, key: Key) -> V | None: ...
        async def apeek(self, key: Key) -> V | None: ...
        @overload
        def get_many(self, keys: Iterable[K]) -> dict[K, V]: ...
        @overload  # a list of keys of several types is one of object for mypy, which does not see that this takes it
        def get_many(self, keys: Iterable[Key]) -> dict[Any, V]: ...  # type: ignore[overload-cannot-match]
        def get_many(self, keys: Iterable[Any]) -> dict[Any, V]: ...
        @overload
        async def aget_many(self, keys: Iterable[K]) -> dict[K, V]: ...
        @overload  # the same
        async def aget_many(self, keys: Iterable[Key]) -> dict[Any, V]: ...  # type: ignore[overload-cannot-match]
        async def aget_many(self, keys: Iterable[Any]) -> dict[Any, V]: ...
        def get_or_load(self, key: Key, load: Callable[[Any], _Loaded[V]]) -> V | None: ...
        async def aget_or_load(
            self, key: Key, load: Callable[[Any], _Loaded[V] | Awaitable[_Loaded[V]]]
        ) -> V | None: ...
        def get_many_or_load(
            self, keys: Iterable[K], load_many: Callable[[list[K]], Mapping[K, _Loaded[V]]]
        ) -> dict[K, V]: ...
        async def aget_many_or_load(
            self,
            keys: Iterable[K],
            load_many: Callable[[list[K]], Mapping[K, _Loaded[V]] | Awaitable[Mapping[K, _Loaded[V]]]],
        ) -> dict[K, V]: ...
        def set(self, key: Key, value: V, *, ttl: Any = ..., wait: bool = ..., **options: Any) -> Any: ...
        async def aset(self, key: Key, value: V, *, ttl: Any = ..., wait: bool = ..., **options: Any) -> Any: ...
        def add(self, key: Key, value: V, ttl: _TTL = ...) -> bool: ...
        async def aadd(self, key: Key, value: V, ttl: _TTL = ...) -> bool: ...
        def incr(self, key: Key, delta: int = ..., initial: int | None = ..., ttl: _TTL = ...) -> int: ...
        async def aincr(self, key: Key, delta: int = ..., initial: int | None = ..., ttl: _TTL = ...) -> int: ...
        def touch(self, key: Key, ttl: Duration | None) -> bool: ...
        async def atouch(self, key: Key, ttl: Duration | None) -> bool: ...
        def pop(self, key: Key, default: Any = ...) -> Any: ...
        async def apop(self, key: Key, default: Any = ...) -> Any: ...
        def remove(self, key: Key, *, if_version: int | None = ...) -> Removed: ...
        async def aremove(self, key: Key, *, if_version: int | None = ...) -> Removed: ...
        def contains(self, key: Key) -> bool: ...
        async def acontains(self, key: Key) -> bool: ...
        def ttl(self, key: Key) -> float | None: ...
        async def attl(self, key: Key) -> float | None: ...
        def get_entry(self, key: Key) -> Entry[V] | None: ...
        async def aget_entry(self, key: Key) -> Entry[V] | None: ...
        def keys(self, prefix: str = ...) -> Iterator[Any]: ...
        def lock(self, key: Key, lease: Duration = ..., wait: Duration = ...) -> Lock: ...
        def set_many(self, values: Mapping[Any, V], *, ttl: _TTL = ..., wait: bool = ..., tags: Tags = ...) -> Any: ...
        async def aset_many(
            self, values: Mapping[Any, V], *, ttl: _TTL = ..., wait: bool = ..., tags: Tags = ...
        ) -> Any: ...
        def delete(self, key: Key, *, wait: bool = ...) -> Any: ...
        async def adelete(self, key: Key, *, wait: bool = ...) -> Any: ...
        def delete_many(self, keys: Iterable[Key], *, wait: bool = ...) -> Any: ...
        async def adelete_many(self, keys: Iterable[Key], *, wait: bool = ...) -> Any: ...

    def __contains__(self, key: object) -> bool:
        return self.contains(key)  # type: ignore[arg-type] # it checks


def _with_keys(method: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return a method of Group that takes keys of every type, None if it takes no key."""
    names = list(inspect.signature(method).parameters)[1:]
    if not _ENCODERS.keys() & set(names):
        return None
    encoders = [_ENCODERS.get(name, _as_it_is) for name in names]
    many = "keys" in names  # the result is a dict by key

    def converted(given: tuple[Any, ...], named: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        of_named = {name: _ENCODERS.get(name, _as_it_is)(each) for name, each in named.items()}
        return [
            encoder(each) for encoder, each in zip(chain(encoders, repeat(_as_it_is)), given, strict=False)
        ], of_named

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def asynchronous(self: Any, *given: Any, **named: Any) -> Any:
            args, kwargs = converted(given, named)
            with _errors_by_keys:
                result = await method(self, *args, **kwargs)
            return decoded(result) if many and isinstance(result, dict) else result

        return asynchronous

    @functools.wraps(method)
    def plain(self: Any, *given: Any, **named: Any) -> Any:
        args, kwargs = converted(given, named)
        with _errors_by_keys:
            result = method(self, *args, **kwargs)
        return decoded(result) if many and isinstance(result, dict) else result

    return plain


def _as_it_is(value: Any) -> Any:
    return value


class _ErrorsByKeys:
    """Put keys in place of their texts into the LoadError that leaves a block; each caller has an error of its own."""

    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, LoadError):
            error.key = None if error.key is None else decode(error.key)
            error.loaded = decoded(error.loaded)


_errors_by_keys = _ErrorsByKeys()
for _name, _method in inspect.getmembers(Group, callable):
    if not _name.startswith("_") and (_made := _with_keys(_method)) is not None:
        setattr(KeyedGroup, _name, _made)
