"""The methods of a node that make and show groups, with every option for help() and type checkers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from kamacache._engine import check_key
from kamacache.codecs import Codec, CodecName, is_open
from kamacache.errors import UnknownGroup
from kamacache.group import Group
from kamacache.groups import Groups
from kamacache.member import Member
from kamacache.options import GroupOptions, NodeOptions, OnEvict, PolicyName
from kamacache.units import Duration, Size, check_name

V = TypeVar("V")
Load = Callable[[str], Any]
LoadMany = Callable[[list[Any]], Any]  # of str, but with key_codec

if TYPE_CHECKING:  # only type checkers read this: it costs nothing at import
    from typing import Unpack

    from kamacache.cluster.membership import Membership
    from kamacache.group.keyed import KeyedGroup
    from kamacache.load.loader import Keyed
    from kamacache.loadertypes import (
        AsyncLoad,
        AsyncValueLoad,
        Options,
        Plain,
        PlainLoad,
        PlainValueLoad,
    )
    from kamacache.start import Start
    from kamacache.value import Value

    Typed = Literal["json", "msgpack", "pickle", "msgspec", "pydantic"]
    AnyCodec = Typed | Codec[V]


class GroupMethods:
    """Make and show the groups of a node. The node sets these attributes."""

    _start: Start
    _groups: Groups
    _membership: Membership
    _options: NodeOptions
    _listen: str | None  # as the user gave it
    _listens: str | None  # as the start has it

    @property
    def groups(self) -> Mapping[str, Group[Any]]:
        """Return a live, read-only view of the groups by name."""
        return MappingProxyType(self._groups.by_name)

    @overload
    def group(
        self,
        name: str,
        loader: Callable[[Any], Awaitable[V | Value[V] | None]],
        *,
        key_codec: Literal["auto"],
        codec: CodecName | Codec[V] = ...,
        **options: Unpack[Options],
    ) -> KeyedGroup[V]: ...
    @overload
    def group(
        self,
        name: str,
        loader: None = None,
        *,
        key_codec: Literal["auto"],
        codec: Literal["bytes"] = ...,
        **options: Unpack[Options],
    ) -> KeyedGroup[bytes]: ...
    @overload
    def group(
        self,
        name: str,
        loader: None = None,
        *,
        key_codec: Literal["auto"],
        codec: Literal["text"],
        **options: Unpack[Options],
    ) -> KeyedGroup[str]: ...
    @overload
    def group(
        self, name: str, loader: None = None, *, key_codec: Literal["auto"], codec: Typed, **options: Unpack[Options]
    ) -> KeyedGroup[Any]: ...
    @overload
    def group(
        self,
        name: str,
        loader: Callable[[Any], V | Value[V] | None] | None = None,
        *,
        key_codec: Literal["auto"],
        codec: CodecName | Codec[V] = ...,
        **options: Unpack[Options],
    ) -> KeyedGroup[V]: ...
    @overload
    def group(
        self,
        name: str,
        loader: Callable[[str], Awaitable[V | Value[V]]],
        *,
        cache_none: Literal[True],
        codec: CodecName | Codec[Any] = ...,
        **options: Unpack[Plain],
    ) -> Group[V]: ...
    @overload
    def group(  # type: ignore[overload-overlap] # with cache_none=True alone
        self,
        name: str,
        loader: Callable[[str], V | Value[V]],
        *,
        cache_none: Literal[True],
        codec: CodecName | Codec[Any] = ...,
        **options: Unpack[Plain],
    ) -> Group[V]: ...
    @overload
    def group(
        self, name: str, loader: Load | None = None, *, codec: Literal["bytes"] = ..., **options: Unpack[Options]
    ) -> Group[bytes]: ...
    @overload
    def group(
        self, name: str, loader: Load | None = None, *, codec: Literal["text"], **options: Unpack[Options]
    ) -> Group[str]: ...
    @overload
    def group(self, name: str, loader: None = None, *, codec: Typed, **options: Unpack[Options]) -> Group[Any]: ...
    @overload
    def group(
        self, name: str, loader: AsyncValueLoad[V], *, codec: AnyCodec[V], **options: Unpack[Options]
    ) -> Group[V]: ...
    @overload
    def group(
        self, name: str, loader: PlainValueLoad[V], *, codec: AnyCodec[V], **options: Unpack[Options]
    ) -> Group[V]: ...
    @overload
    def group(self, name: str, loader: AsyncLoad[V], *, codec: AnyCodec[V], **options: Unpack[Options]) -> Group[V]: ...
    @overload
    def group(
        self, name: str, loader: PlainLoad[V] | None = None, *, codec: AnyCodec[V], **options: Unpack[Options]
    ) -> Group[V]: ...
    def group(
        self,
        name: str,
        loader: Load | None = None,
        *,
        load_many: LoadMany | None = None,
        max_bytes: Size = "64 MiB",
        ttl: Duration | None = None,
        policy: PolicyName = "s3fifo",
        codec: CodecName | Codec[Any] = "bytes",
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
    ) -> Group[Any]:
        """Make a group and return it, or return the one of this name if it has the same loader and options.

        - `name`: 1 to 64 of the characters A-Z a-z 0-9 _ . -
        - `loader`: loader(key) returns the value, None if there is none, or a Value with a ttl of its own. It may be
          async. None: the members that have a loader load; if there is none, the group holds what is set.
        - `load_many`: load_many(keys) returns a mapping of key to value for a list of keys, for batches. It is async if
          `loader` is. None: `loader` is called for each key.
        - `max_bytes`: the memory of the group in this process, as a number of bytes or a text such as "64 MiB". Decoded
          objects that a `shareable` codec lets all callers share count, too, with about what they take.
        - `ttl`: how long values are kept, in seconds, as a timedelta or a text such as "1h30m". None: without end.
        - `policy`: which values are evicted first: "s3fifo", "lru" or "lru2".
        - `codec`: how values become bytes: "bytes", "text", "json", "msgpack", "pickle" or a Codec, as
          codec_for returns it. "msgspec" and "pydantic" take the type of the values from the loader's annotation.
        - `near_ttl`: how long other nodes may keep copies; 0: not at all.
        - `negative_ttl`: how long the absence of a value is remembered; 0: not at all.
        - `jitter`: the part, from 0 to below 1, by which the ttl of a loaded value may be shortened, so that they do
          not all expire at once. What is set has its exact ttl.
        - `load_timeout`: how long a caller waits for a load before LoadTimeout. None: without limit.
        - `on_evict`: on_evict(key, value, reason) is called for values that leave memory; `reason` is "capacity" or
          "expired". Until then they take up to an eighth of `max_bytes` more (1 MiB in a small group), and 10,000 can
          wait: of more, the oldest are skipped. None: nothing is called.
        - `compress_above`: values of which the codec makes more bytes than this are compressed with zstd (the extra
          `zstd`); a size such as "16 KiB". None: none are. Give it on every node of the service, or on none.
        - `version`: a number that keeps two releases apart: groups of one name with different versions share nothing.
          `groups`, `owner`, metrics, the command line and clients name such a group with it, as in "products@2".
        - `max_batch`: how many keys `load_many` gets at once at most.
        - `batch_window`: how long a single get of a task waits for others, so that one `load_many` loads their keys; 0:
          to the end of the event loop's turn. None: not at all.
        - `concurrency`: how many calls of the loader run at a time for one batch. None: all keys of an async loader,
          one key after another of a plain one (for async callers as many as there are threads), one `load_many` after
          another.
        - `key_codec`: "auto": keys may be int, UUID and tuples of these and of str beside str, told from each other;
          `loader` gets them as they are. None: keys are str.
        - `cache_none`: None is a value, kept for `ttl`, and no absence: `get(key, default)` tells them apart. A key is
          absent if it was deleted, or if `load_many` leaves it out.
        - `refresh_after`: a hit on a value of this age returns it, and starts one load of it in the background.
        - `early`: the same by chance before the end of the ttl, in times of a load (XFetch); 1.0 is a good choice.
        - `stale_while_revalidate`: for how long after its ttl a value is answered while one load of it runs.
        - `stale_if_error`: for how long after its ttl a value is answered if its load fails.
        - `soft_timeout`: if a load takes longer and there is such a value, the value is answered, and the load goes on.
        - `error_ttl`: for how long the failure of a load is remembered and raised without a load; twice as long each
          time that it fails again, up to 32 times `error_ttl`. A set, delete or clear ends it.

        Create all groups before `start`. A group created later moves the ownership of keys. A group that was made
        without a loader may get one by another call, which moves it too. The same loader is the same function over the
        same objects: of two objects, partials or closures, each needs a group of its own.

        Raises ConfigError for an invalid option, GroupExists for another loader or other options than the group
        of this name has (close() that group first).
        """
        check_name(name, what="group")
        codec = codec and chosen(codec, loader, load_many)
        options = GroupOptions.make(
            *(max_bytes, ttl, policy, codec, near_ttl, negative_ttl, jitter, load_timeout, on_evict),
            *(compress_above, version, max_batch, batch_window, concurrency, key_codec, cache_none),
            *(refresh_after, early, stale_while_revalidate, stale_if_error, soft_timeout, error_ttl),
        )
        return self._make(name, loader, load_many, options)

    def owner(self, group: str, key: Any) -> Member:
        """Return the member that owns a key, as this node sees it.

        Raises UnknownGroup if this node does not have the group or no member can own its keys, InvalidKey.
        """
        if (core := self._groups.cores.get(group)) is not None:
            key = core.text_of(key)
        check_key(key)
        if core is None:
            raise UnknownGroup(f"there is no group {group!r} on this node")
        if (owner := self._membership.owner(group, key)) is None:
            raise UnknownGroup(f"no member has the group {group!r}")
        return owner

    def reset(self) -> None:
        """Forget everything of all groups on this node, between two tests: entries, loads under way, and counters.

        Pending writes are sent first. A caller that waits for a load gets a LoadError. The event loop that uses the
        node next runs its async loaders from then on. Other nodes keep what they have. A closed node stays closed.
        """
        if not self._start.closed:
            self._groups.reset()

    def _make(
        self,
        name: str,
        load: Load | None,
        load_many: LoadMany | None,
        options: GroupOptions,
        cached: Keyed | None = None,
    ) -> Group[Any]:
        from kamacache.load.loader import Loader  # noqa: PLC0415 - so that importing the package costs little

        loader = Loader(load, load_many, cached)
        with self._groups.lock:
            self._options.check_codec(options.codec, self._listens or self._listen)
            full = f"{name}@{options.version}" if options.version else name
            return self._groups.make(full, loader, options, self._start.refusal)


def chosen(codec: CodecName | Codec[Any] | None, loader: Load | None, load_many: LoadMany | None) -> Any:
    """Return the codec that a group gets: one that takes its type from its loader, or the given one."""
    if is_open(codec):
        from kamacache.typed import chosen as by_type  # noqa: PLC0415 - as above

        return by_type(codec, loader, load_many)
    return codec
