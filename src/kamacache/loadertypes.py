"""The types of loaders, of decorators that make groups of them, and of options. Only type checkers read this file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, overload

from kamacache.group import Group
from kamacache.group.keyed import KeyedGroup
from kamacache.options import OnEvict, PolicyName
from kamacache.units import Duration, Size
from kamacache.value import Value

V = TypeVar("V")
P = ParamSpec("P")
F_contra = TypeVar("F_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

AsyncLoad = Callable[[str], Awaitable[V | Value[V] | None]]
PlainLoad = Callable[[str], V | Value[V] | None]
# Checkers do not find V in these two for a loader that returns nothing but Value.
AsyncValueLoad = Callable[[str], Awaitable[Value[V] | None]]
PlainValueLoad = Callable[[str], Value[V] | None]


class Decorator(Protocol):
    """Turn a loader into a group of the values that it loads."""

    @overload
    def __call__(self, loader: AsyncValueLoad[V], /) -> Group[V]: ...
    @overload
    def __call__(self, loader: PlainValueLoad[V], /) -> Group[V]: ...
    @overload
    def __call__(self, loader: AsyncLoad[V], /) -> Group[V]: ...
    @overload
    def __call__(self, loader: PlainLoad[V], /) -> Group[V]: ...


class KeyedDecorator(Protocol):
    """Turn a loader of keys of any type into a group of the values that it loads."""

    @overload
    def __call__(self, loader: Callable[[Any], Awaitable[V | Value[V] | None]], /) -> KeyedGroup[V]: ...
    @overload
    def __call__(self, loader: Callable[[Any], V | Value[V] | None], /) -> KeyedGroup[V]: ...


class NoneDecorator(Protocol):
    """Turn a loader into a group of the values that it loads, None among them."""

    @overload
    def __call__(self, loader: Callable[[str], Awaitable[V | Value[V]]], /) -> Group[V]: ...
    @overload
    def __call__(self, loader: Callable[[str], V | Value[V]], /) -> Group[V]: ...


class First(Protocol[F_contra, P, R_co]):
    """Take a first argument: self or cls. So a cached function is bound if the object or the class fits there."""

    def __call__(self, first: F_contra, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class Kept(TypedDict, total=False):
    """The options of a group, also of cached functions, that do not decide its type."""

    max_bytes: Size
    ttl: Duration | None
    policy: PolicyName
    near_ttl: Duration
    negative_ttl: Duration
    jitter: float
    load_timeout: Duration | None
    on_evict: OnEvict | None
    compress_above: Size | None
    version: int | None
    max_batch: int
    batch_window: Duration | None
    concurrency: int | None
    refresh_after: Duration | None
    early: float
    stale_while_revalidate: Duration
    stale_if_error: Duration
    soft_timeout: Duration | None
    error_ttl: Duration


class Plain(Kept, total=False):
    """The same with what no cached function has."""

    load_many: Callable[[list[Any]], Any] | None


class FunctionOptions(Kept, total=False):
    """The options of a cached function: the same with cache_none, which decides the type of a group."""

    cache_none: bool


class Options(Plain, FunctionOptions, total=False):
    """The options of a group but its codec, which decides its type."""
