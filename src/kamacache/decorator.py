"""Node.cached: turn a function into one that answers from the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from kamacache.codecs import Codec, CodecName
from kamacache.errors import ConfigError
from kamacache.function import AsyncCachedFunction, CachedFunction
from kamacache.loaderdecorator import LoaderMethods
from kamacache.options import GroupOptions
from kamacache.rules import Rules
from kamacache.units import check_name

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:  # only type checkers read this: it costs nothing at import
    from typing import Protocol, Unpack

    from kamacache.loadertypes import FunctionOptions
    from kamacache.value import Value

    class CachedDecorator(Protocol):
        """Turn a function into a cached one."""

        @overload
        def __call__(  # type: ignore[overload-overlap] # an awaitable is no value
            self, function: Callable[P, Awaitable[Value[R]]], /
        ) -> AsyncCachedFunction[P, R]: ...
        @overload
        def __call__(  # type: ignore[overload-overlap] # the same
            self, function: Callable[P, Awaitable[Value[R] | None]], /
        ) -> AsyncCachedFunction[P, R | None]: ...
        @overload
        def __call__(  # type: ignore[overload-overlap] # the same
            self, function: Callable[P, Awaitable[R | Value[R]]], /
        ) -> AsyncCachedFunction[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, Value[R]], /) -> CachedFunction[P, R]: ...
        @overload
        def __call__(self, function: Callable[P, Value[R] | None], /) -> CachedFunction[P, R | None]: ...
        @overload
        def __call__(self, function: Callable[P, R | Value[R]], /) -> CachedFunction[P, R]: ...


class FunctionMethods(LoaderMethods):
    """Cache functions in groups of the node."""

    @overload
    def cached(  # type: ignore[overload-overlap] # an awaitable is no value
        self, function: Callable[P, Awaitable[Value[R]]], /
    ) -> AsyncCachedFunction[P, R]: ...
    @overload
    def cached(  # type: ignore[overload-overlap] # the same
        self, function: Callable[P, Awaitable[Value[R] | None]], /
    ) -> AsyncCachedFunction[P, R | None]: ...
    @overload
    def cached(  # type: ignore[overload-overlap] # the same
        self, function: Callable[P, Awaitable[R | Value[R]]], /
    ) -> AsyncCachedFunction[P, R]: ...
    @overload
    def cached(self, function: Callable[P, Value[R]], /) -> CachedFunction[P, R]: ...
    @overload
    def cached(self, function: Callable[P, Value[R] | None], /) -> CachedFunction[P, R | None]: ...
    @overload
    def cached(self, function: Callable[P, R | Value[R]], /) -> CachedFunction[P, R]: ...
    @overload
    def cached(
        self,
        /,
        *,
        name: str | None = ...,
        key: str | Callable[..., str] | None = ...,
        ignore: Collection[str] = ...,
        tags: str | Collection[str] | Callable[..., str | Iterable[str]] = ...,
        codec: CodecName | Codec[Any] | None = ...,
        **options: Unpack[FunctionOptions],
    ) -> CachedDecorator: ...
    def cached(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        key: str | Callable[..., str] | None = None,
        ignore: Collection[str] = (),
        tags: str | Collection[str] | Callable[..., str | Iterable[str]] = (),
        codec: CodecName | Codec[Any] | None = None,
        **options: Any,
    ) -> Any:
        """Decorate a function, plain or async: it becomes a CachedFunction, or an AsyncCachedFunction.

            @node.cached(ttl="10m")
            async def product(product_id: int, lang: str = "en", *, db: Annotated[Session, NotKey]) -> Product: ...

            await product(42, db=session)
            await product.invalidate(42)

        A call answers from the cache. On a miss the function runs right there, once in the cluster. Its key is made of
        the arguments, defaults filled in: int, str, bytes, bool, None, float, Decimal, UUID, date, time and datetime,
        Enum, tuples, frozensets, frozen dataclasses and msgspec.Structs, pydantic models and classes, each told from
        all others. It may return None, a result like others (cache_none=True is the default here), and a Value with a
        ttl of its own.

        - `name`: the name of the group. None: the module and the qualified name of the function.
        - `key`: what the key is made of instead: a template such as "product:{product_id}:{lang}", where the str of an
          argument stands, so 1 and "1" are one; or a function that is called with the arguments of the call and
          returns a str.
        - `ignore`: the names of parameters that are not part of the key, beside those annotated with NotKey.
        - `tags`: by which results are deleted together, see Group.delete_tag: templates such as "user:{user_id}", or a
          function that is called with the result and then the arguments of the call, and returns the tags.
        - `codec`: None: what codec_for chooses by the return annotation; "bytes" if there is none.
        - `options`: the options of `group`, except load_many and key_codec. With cache_none=False, a `negative_ttl`,
          or a function as `tags`, None is remembered for `negative_ttl` instead of `ttl`.

        The same function cached twice, with the same options, has one group.

        Raises ConfigError for an option that is not allowed, GroupExists, TypeError for a generator, and for a function
        in C of which Python does not know the parameters.
        """
        for option, why in _OF_GROUPS.items():
            if option in options:
                raise ConfigError(f"{option}=: is an option of groups, not of cached functions: {why}")
        if unknown := options.keys() - _OPTIONS:
            raise TypeError(f"cached() got an unexpected keyword argument {min(unknown)!r}")
        if function is not None and not callable(function) and not isinstance(function, staticmethod | classmethod):
            raise TypeError(f"cached takes options by name, as in cached(ttl='10m'), not {function!r}")
        if name is not None:
            check_name(name, what="group")
        if key is not None and not isinstance(key, str) and not callable(key):
            raise ConfigError(f"key={key!r}: must be a template such as 'product:{{product_id}}', or a function")
        if not isinstance(ignore, str | Collection) or not all(isinstance(each, str) for each in ignore):
            raise ConfigError(f"ignore={ignore!r}: must be names of parameters, as in ignore=('self',)")
        options.setdefault("cache_none", "negative_ttl" not in options and not callable(tags))

        def decorate(function: Any) -> CachedFunction[..., Any] | AsyncCachedFunction[..., Any]:
            from kamacache.callkey import call_key, group_name, is_async  # noqa: PLC0415 - imports are to cost little
            from kamacache.calltags import tagger, templates  # noqa: PLC0415 - as above
            from kamacache.load.loader import Keyed  # noqa: PLC0415 - as above
            from kamacache.typed import chosen  # noqa: PLC0415 - as above

            kind = type(function) if isinstance(function, staticmethod | classmethod) else None
            function = function if kind is None else function.__func__
            cls = AsyncCachedFunction if is_async(function) else CachedFunction
            without = frozenset([ignore] if isinstance(ignore, str) else ignore)
            keyed = Keyed(function, key, without, templates(tags))
            keys = call_key(keyed)
            made = GroupOptions.make(codec=chosen(codec, function), **options)
            its = group_name(function) if name is None else name
            return cls(
                function, self._make(its, None, None, made, keyed), keys, kind, tagger(keyed, none=made.cache_none)
            )

        return decorate if function is None else decorate(function)


_OF_GROUPS = {
    "load_many": "one call of the function loads one result, also for `many`; make a group with node.group",
    "key_codec": "their keys are made of the arguments; write key= to choose another key",
}
_OPTIONS = frozenset(GroupOptions._fields + Rules._fields) - {"codec", "key_codec", "rules"}
