"""Node.loader, the decorator that makes a group of a function, with every option for help() and type checkers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from kamacache.codecs import Codec, CodecName, is_open
from kamacache.group import Group
from kamacache.options import GroupOptions, OnEvict, PolicyName
from kamacache.signatures import GroupMethods, Load, LoadMany, chosen
from kamacache.units import Duration, Size, check_name

V = TypeVar("V")

if TYPE_CHECKING:  # only type checkers read this: it costs nothing at import
    from typing import Unpack

    from kamacache.loadertypes import (
        AsyncLoad,
        AsyncValueLoad,
        Decorator,
        KeyedDecorator,
        NoneDecorator,
        Options,
        Plain,
        PlainLoad,
        PlainValueLoad,
    )
    from kamacache.signatures import Typed


class LoaderMethods(GroupMethods):
    """Make groups of functions."""

    @overload
    def loader(
        self,
        name: str | None = None,
        *,
        key_codec: Literal["auto"],
        codec: CodecName | Codec[Any] | None = ...,
        **options: Unpack[Options],
    ) -> KeyedDecorator: ...
    @overload
    def loader(  # type: ignore[overload-overlap] # with cache_none=True alone
        self,
        name: str | None = None,
        *,
        cache_none: Literal[True],
        codec: CodecName | Codec[Any] | None = ...,
        **options: Unpack[Plain],
    ) -> NoneDecorator: ...
    @overload
    def loader(self, name: AsyncValueLoad[V], /) -> Group[V]: ...
    @overload
    def loader(self, name: PlainValueLoad[V], /) -> Group[V]: ...
    @overload
    def loader(self, name: AsyncLoad[V], /) -> Group[V]: ...
    @overload
    def loader(self, name: PlainLoad[V], /) -> Group[V]: ...
    @overload
    def loader(
        self, name: str | None = None, *, codec: Literal["bytes"], **options: Unpack[Options]
    ) -> Callable[[Load], Group[bytes]]: ...
    @overload
    def loader(
        self, name: str | None = None, *, codec: Literal["text"], **options: Unpack[Options]
    ) -> Callable[[Load], Group[str]]: ...
    @overload
    def loader(
        self, name: str | None = None, *, codec: Typed | None = ..., **options: Unpack[Options]
    ) -> Decorator: ...
    @overload
    def loader(
        self, name: str | None = None, *, codec: Codec[V], **options: Unpack[Options]
    ) -> Callable[[Load], Group[V]]: ...
    def loader(
        self,
        name: str | Load | None = None,
        *,
        load_many: LoadMany | None = None,
        max_bytes: Size = "64 MiB",
        ttl: Duration | None = None,
        policy: PolicyName = "s3fifo",
        codec: CodecName | Codec[Any] | None = None,
        near_ttl: Duration = "5s",
        negative_ttl: Duration = "5s",
        jitter: float = 0.05,
        load_timeout: Duration | None = "30s",
        on_evict: OnEvict | None = None,
        compress_above: Size | None = None,
        version: int | None = None,
        max_batch: int = 500,
        batch_window: Duration | None = None,
        concurrency: int | None = None,
        key_codec: Literal["auto"] | None = None,
        cache_none: bool = False,
        refresh_after: Duration | None = None,
        early: float = 0.0,
        stale_while_revalidate: Duration = 0,
        stale_if_error: Duration = 0,
        soft_timeout: Duration | None = None,
        error_ttl: Duration = 0,
    ) -> Any:
        """Decorate a loader: its name becomes the Group, whose `loader` is the function.

            @node.loader
            def users(key): ...

            @node.loader("users", ttl="1h")
            def load_user(key): ...

        - `name`: the name of the group; None, or no parentheses at all: the name of the function.
        - `codec`: as in `group`. None: what codec_for chooses by the loader's return annotation; "bytes" if there is
          none, or it does not say.
        - The other options and the errors are those of `group`.
        """
        if name is not None and not callable(name):
            check_name(name, what="group")

        def options(chosen: CodecName | Codec[Any]) -> GroupOptions:
            return GroupOptions.make(
                *(max_bytes, ttl, policy, chosen, near_ttl, negative_ttl, jitter, load_timeout, on_evict),
                *(compress_above, version, max_batch, batch_window, concurrency, key_codec, cache_none),
                *(refresh_after, early, stale_while_revalidate, stale_if_error, soft_timeout, error_ttl),
            )

        if codec is None or not is_open(codec):
            options(codec or "bytes")  # an error comes now

        def decorate(function: Load) -> Group[Any]:
            its = name if isinstance(name, str) else getattr(function, "__name__", None)
            made = options(chosen(codec, function, load_many))
            return self._make(check_name(its, what="group"), function, load_many, made)

        return decorate(name) if callable(name) else decorate
