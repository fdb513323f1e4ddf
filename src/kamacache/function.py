"""The functions that Node.cached returns: they answer from the cache, and run where they are called on a miss."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, cast, overload

from kamacache._engine import MISSING
from kamacache.callrun import noting, plain
from kamacache.errors import LoadError, LoadTimeout
from kamacache.value import Value

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kamacache.callkey import CallKey
    from kamacache.calltags import Tagger
    from kamacache.group import Group
    from kamacache.loadertypes import First
    from kamacache.stats import GroupStats

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
Call = tuple[Any, ...] | Mapping[str, Any]
"""The arguments of one call in `many`: by position, or by name."""
_Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class _Base(Generic[P, R]):
    """Hold a function, the group of its results, and how the keys of its calls are made."""

    __wrapped__: Callable[P, Any]

    def __init__(
        self,
        _function: Callable[..., Any],
        group: Group[Any],
        keys: CallKey,
        kind: type | None = None,
        tagger: Tagger | None = None,
    ) -> None:
        functools.update_wrapper(cast("Any", self), _function)
        self._group = group
        self._lookup = group._lookup  # noqa: SLF001 - the package's own
        self._function = _function
        self._keys = keys
        self._key = keys.strict
        self._tagger = tagger
        self._kind = kind  # staticmethod or classmethod, if the function was one
        self._bound_to: object = None

    @property
    def group(self) -> Group[Any]:
        """Return the group that keeps the results."""
        return self._group

    def key(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of a call. Arguments that are not part of it may be left out, here and in invalidate and set.

        Raises TypeError for arguments that the function does not take, or of which no key can be made.
        """
        return self._keys.lax(*args, **kwargs)

    def stats(self) -> GroupStats:
        """Return the counters of this process since the function was cached."""
        return self._group.stats()

    def __repr__(self) -> str:
        name = getattr(self, "__qualname__", repr(self._function))
        bound = "" if self._bound_to is None else f" of {self._bound_to!r}"
        return f"<kamacache.{type(self).__name__} {name}{bound} in {self._group!r}>"

    def __reduce__(self) -> str:
        if self._bound_to is None and (name := getattr(self, "__qualname__", None)):
            return str(name)  # by reference, as functions are pickled; a copy is the object itself
        raise TypeError("a bound cached function cannot be pickled: pickle its object, and ask that for the method")

    def _bind(self, instance: object, owner: type | None) -> Self:
        """Return the function as an attribute of an object or a class: the first argument is given."""
        first = owner if self._kind is classmethod else instance
        if first is None or self._kind is staticmethod:
            return self
        bound = object.__new__(type(self))
        vars(bound).update(vars(self))
        bound._function = bound.__wrapped__ = MethodType(self._function, first)  # its signature is without the first
        bound._key = functools.partial(self._key, first)
        bound._keys = self._keys._replace(lax=functools.partial(self._keys.lax, first))
        bound._tagger = self._tagger and self._tagger.bound(first)
        bound._bound_to = first
        return bound

    def _tagged(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a call with its tags."""
        return result if self._tagger is None else self._tagger(result, args, kwargs)

    def _brought(self, result: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Do that for a result that a caller brings, perhaps without arguments that are not part of the key."""
        try:
            return self._tagged(result, args, kwargs)
        except TypeError as error:
            raise TypeError(f"tags=: {error}; pass set every argument that the tags are made of") from error

    def _calls(self, calls: Iterable[Call], common: Mapping[str, Any]) -> tuple[list[str], dict[str, _Arguments]]:
        """Return the keys of the calls in order, and for each key the arguments of its call."""
        keys: list[str] = []
        arguments: dict[str, _Arguments] = {}
        for call in calls:
            if isinstance(call, str | bytes) or not isinstance(call, tuple | list | Mapping):
                raise TypeError(
                    f"many takes a tuple of arguments for each call, as in [(1,), (2,)], not a {type(call).__name__}"
                )
            args, kwargs = ((), {**common, **call}) if isinstance(call, Mapping) else (tuple(call), dict(common))
            keys.append(key := self._key(*args, **kwargs))
            arguments.setdefault(key, (args, kwargs))
        return keys, arguments

    @contextmanager
    def _counting(self, missing: list[str]) -> Iterator[list[str]]:
        """Give the keys to load, of which the loads take one after another; count the others as given up."""
        left = missing[::-1]
        try:
            yield left
        finally:
            self._group._core.gave_up(len(left))  # noqa: SLF001 - the package's own


class CachedFunction(_Base[P, R]):
    """Answer calls of a plain function from the cache, as Node.cached made it.

    The function runs on a miss, in the thread that calls, and once in the cluster: those who ask meanwhile wait for it.
    The caller whose call ran gets the function's own exception, those who waited a LoadError with it as `__cause__`.
    As an attribute of an object or a class it is bound, as a method is: `shop.product.invalidate(42)`.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returned for these arguments."""
        key = self._key(*args, **kwargs)
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        return self._load(key, args, kwargs)

    @overload
    def __get__(self: First[type[S], Q, R], instance: None, owner: type[S], /) -> CachedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(self: First[type[S], Q, R], instance: S, owner: type | None = None, /) -> CachedFunction[Q, R]: ...
    @overload
    def __get__(self: First[S, Q, R], instance: S, owner: type | None = None, /) -> CachedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return self._bind(instance, owner)

    def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of a call, on every node. Return True if every node has confirmed, as Group.delete does."""
        return self._group.delete(self.key(*args, **kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Forget the result of a call, as invalidate does, run the function here, and return the new result."""
        key = self._key(*args, **kwargs)
        self._group.delete(key)
        return self._load(key, args, kwargs)

    def set(self, value: R | Value[R], /, *args: Any, **kwargs: Any) -> bool:
        """Set the result of a call, for the whole cluster. A Value has its own ttl. Return what Group.set returns."""
        key, made = self.key(*args, **kwargs), self._brought(value, args, kwargs)
        if isinstance(made, Value):
            return self._group.set(key, made.value, ttl=made.ttl, tags=made.tags)
        return self._group.set(key, made)

    def clear(self) -> bool:
        """Forget all results, on every node. Return what Group.set returns."""
        return self._group.clear()

    def many(self, calls: Iterable[Call], /, **common: Any) -> list[R]:
        """Return the results of several calls as a list, in their order.

        Cached results are fetched at once; the function runs here for the rest, one call after another. Each is a load
        of its own, as if it was called: if one fails, its exception is raised, and the results before it are kept.

        - `calls`: a tuple of positional arguments for each call, or a mapping of arguments by name.
        - `common`: arguments by name for every call.
        """
        keys, arguments = self._calls(calls, common)
        found, missing = self._group._held(arguments)  # noqa: SLF001 - the package's own
        with self._counting(missing) as left:
            while left:
                key = left.pop()
                found[key] = self._load(key, *arguments[key])
        return [cast("R", found.get(key)) for key in keys]

    def _load(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        """Run the function, or wait for the caller who does."""
        function = self._function
        caught: list[BaseException] = []

        def load(_: str) -> Any:
            with noting(caught):
                return self._tagged(plain(function(*args, **kwargs), self), args, kwargs)

        try:
            return self._group._or_load(key, load)  # type: ignore[return-value] # noqa: SLF001 - looked up already
        except LoadError:
            if not caught:
                raise
        raise caught.pop()  # the function's own, without the LoadError as its context


class AsyncCachedFunction(_Base[P, R]):
    """Answer calls of an async function from the cache, as Node.cached made it; see CachedFunction.

    The function runs as a task, with a copy of the caller's context. A cancelled caller does not cancel it while others
    wait for its result.
    """

    def __init__(self, _function: Callable[..., Any], group: Group[Any], keys: CallKey, *rest: Any) -> None:
        super().__init__(_function, group, keys, *rest)
        if sys.version_info >= (3, 12):
            from inspect import markcoroutinefunction  # noqa: PLC0415 - few programs make one

            markcoroutinefunction(self)
        else:
            from asyncio import coroutines  # noqa: PLC0415 - as above

            self._is_coroutine = coroutines._is_coroutine  # type: ignore[attr-defined] # noqa: SLF001 - as asyncio asks

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what the function returned for these arguments."""
        key = self._key(*args, **kwargs)
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        return await self._load(key, args, kwargs)

    @overload
    def __get__(
        self: First[type[S], Q, Coroutine[Any, Any, R]], instance: None, owner: type[S], /
    ) -> AsyncCachedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> Self: ...
    @overload
    def __get__(
        self: First[type[S], Q, Coroutine[Any, Any, R]], instance: S, owner: type | None = None, /
    ) -> AsyncCachedFunction[Q, R]: ...
    @overload
    def __get__(
        self: First[S, Q, Coroutine[Any, Any, R]], instance: S, owner: type | None = None, /
    ) -> AsyncCachedFunction[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None, /) -> Self: ...
    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        return self._bind(instance, owner)

    async def invalidate(self, *args: Any, **kwargs: Any) -> bool:
        """Forget the result of a call, on every node. Return True if every node has confirmed, as Group.delete does."""
        return await self._group.adelete(self.key(*args, **kwargs))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Forget the result of a call, as invalidate does, run the function here, and return the new result."""
        key = self._key(*args, **kwargs)
        await self._group.adelete(key)
        return await self._load(key, args, kwargs)

    async def set(self, value: R | Value[R], /, *args: Any, **kwargs: Any) -> bool:
        """Set the result of a call, for the whole cluster. A Value has its own ttl. Return what Group.set returns."""
        key, made = self.key(*args, **kwargs), self._brought(value, args, kwargs)
        if isinstance(made, Value):
            return await self._group.aset(key, made.value, ttl=made.ttl, tags=made.tags)
        return await self._group.aset(key, made)

    async def clear(self) -> bool:
        """Forget all results, on every node. Return what Group.set returns."""
        return await self._group.aclear()

    async def many(self, calls: Iterable[Call], /, **common: Any) -> list[R]:
        """Return the results of several calls as a list, in their order; see CachedFunction.many.

        The function runs for one call after another: what they have in common, such as a database session, is rarely
        made to be used by several tasks. If it is, gather the calls themselves.
        """
        keys, arguments = self._calls(calls, common)
        found, missing = await self._group._aheld(arguments)  # noqa: SLF001 - the package's own
        with self._counting(missing) as left:
            while left:
                key = left.pop()
                found[key] = await self._load(key, *arguments[key])
        return [cast("R", found.get(key)) for key in keys]

    async def _load(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        function = self._function
        caught: list[BaseException] = []

        async def load(_: str) -> Any:
            with noting(caught):
                return self._tagged(await function(*args, **kwargs), args, kwargs)

        try:
            return await self._group._aor_load(key, load)  # type: ignore[return-value] # noqa: SLF001 - the same
        except LoadError as error:
            late = isinstance(error, LoadTimeout) and not isinstance(caught[0] if caught else None, Exception)
            if not caught or late:  # what was caught then is the end that the time limit made of the task
                raise
        raise caught.pop()
