"""Serve one group in one life of its node: its store, misses and writes. Imported when a group is made."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import PREFIX, Store, check_key
from kamacache.cluster.routes import NO_PLACE
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, InvalidKey, LoadError, ValueTooLarge
from kamacache.load.failures import ASKED, Failures
from kamacache.load.miss import Misses
from kamacache.load.outcome import JOINED, failed
from kamacache.net.messages import ALWAYS, APPLIED, PRESENT, SAME, GroupState, Terms, WriteItem
from kamacache.packed import Packed, unpacked
from kamacache.stats import GroupStats
from kamacache.tags import Tags, parse_tags, tagged
from kamacache.units import KEEP, TTL, UNSET, check_version, parse_ttl_of_write
from kamacache.value import check_settable
from kamacache.write.behind import WriteBehind
from kamacache.write.cut import at_once
from kamacache.write.decision import Decisions
from kamacache.write.drops import Drops
from kamacache.write.primitives import Primitives
from kamacache.write.write import Writes

if TYPE_CHECKING:
    from kamacache._engine import Clock
    from kamacache.entry import Entry
    from kamacache.errors import KamaCacheError
    from kamacache.load.loader import Loader
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime
    from kamacache.steps import Path

_ONE_KEY = (str, bytes)  # iterables that are no list of keys
_REMEMBER = 10.0  # seconds for which writes are remembered at least
_FLUSH = 1.0  # seconds for which forget waits for pending writes
_COUNTERS = (*Store.OUTCOMES, "evictions", "expirations", "unremembered")


class GroupCore:
    """The parts of a group in one life of its node."""

    __slots__ = (
        "_before",
        "_began",
        "behind",
        "decisions",
        "drops",
        "failures",
        "has",
        "misses",
        "options",
        "own",
        "primitives",
        "runtime",
        "store",
        "writes",
    )

    def __init__(self, name: str, store: Store, loader: Loader, options: GroupOptions, runtime: Runtime) -> None:
        self.store = store
        self.options = options
        self.runtime = runtime
        self._began = runtime.clock.now()
        self.misses = Misses(name, store, loader, options, runtime)
        self.writes = Writes(name, store, runtime)
        self.drops = Drops(name, store, self.writes, runtime)
        self.decisions = Decisions(name, store, self.writes, runtime)
        find = functools.partial(self.misses.peeks.find, near=False)
        self.primitives = Primitives(
            name, options.codec, self.writes, self.decisions, self.misses.wait_for_writes, find
        )
        self.failures = Failures(name, ASKED)
        self.has: dict[str, int] = {}  # by member: the number up to which all its writes are known here
        self._before: dict[str, int] = {}  # the counters when they were reset
        self.own: Loader | None = None  # while a test has put another loader in its place
        self.behind = WriteBehind(name, store, self.writes, self.drops, runtime)
        self.misses.pending = self.behind.pending
        if runtime.telemetry is not None:
            runtime.telemetry.trace_writes(self)
        store.order_by(runtime.hlc)
        if runtime.client:
            store.place(None, NO_PLACE)

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def age(self) -> float:
        """Return the seconds since the group was made."""
        return self.runtime.clock.now() - self._began

    @property
    def remembered(self) -> float:
        """Return the seconds for which the writes of the group are remembered at least."""
        return remembered(self.options)

    @property
    def loader(self) -> Loader:
        """The group's own loader, also while a test has put another in its place."""
        return self.own or self.misses.loader

    @loader.setter
    def loader(self, loader: Loader) -> None:
        if self.own is None:
            self.misses.local.loader = loader
        else:
            self.own = loader

    def renewed(self, runtime: Runtime, clock: Clock) -> GroupCore:
        """Return new parts with an empty store, for a new life of the node."""
        store = make_store(self.name, self.options, clock)
        core = GroupCore(self.name, store, self.misses.loader, self.options, runtime)
        core.own = self.own
        return core

    def state(self) -> GroupState:
        """Return what a hello says of this group."""
        codec = codecs.codec_name(self.options.codec)
        options = [f"{name}: {value}" for name, value in self.shown().items()]
        return GroupState(self.store.name, codec, self.store.floor, options)

    def shown(self) -> dict[str, Any]:
        """Return the loader and the options by name, as nodes compare them."""
        return self.loader.identity() | self.options.shown()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of Node.group that make another group like this one."""
        single, many = self.misses.loader.given
        codec = unpacked(self.options.codec)
        return {"loader": single, "load_many": many} | self.options.arguments() | {"codec": codec}

    def key_of(self, text: str) -> Any:
        """Return the key that users know by this text."""
        if self.options.key_codec is None:
            return text
        from kamacache.keycodec import decode  # noqa: PLC0415 - few groups have one

        return decode(text)

    def text_of(self, key: Any) -> str:
        """Return the text of a key as users give it. Raises TypeError."""
        if self.options.key_codec is None:
            return key  # type: ignore[no-any-return] # its user checks it
        from kamacache.keycodec import encode  # noqa: PLC0415 - few groups have one

        return encode(key)

    def stats(self) -> GroupStats:
        """Return the counters of this process since the group was made or reset."""
        now = self.store.stats()
        return GroupStats(**now | {name: now[name] - before for name, before in self._before.items()})

    def forget(self) -> None:
        """Drop what this node keeps and what it loads, after its pending writes. A waiting caller gets a LoadError."""
        self.behind.flush(Deadline.after(_FLUSH))
        self.misses.local.flights.end_all(failed(LoadError("a test has reset the group")))
        self.store.forget()
        self.store.sweep()  # on_evict hears of none of it
        self.misses.unread.marks.clear()
        self.misses.unread.again.clear()
        if self.misses.local.freshness is not None:
            self.misses.local.freshness.forget()

    def reset(self) -> None:
        """Do what forget does, and count from zero."""
        self.forget()
        now = self.store.stats()
        self._before = {name: now[name] for name in _COUNTERS}

    def gave_up(self, keys: int) -> None:
        """Count the outcome of keys whose caller gave up before the node was started. They are in gets already."""
        self.store.count(JOINED, keys)

    def listed(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Return the keys as a tuple. Raises TypeError for a single str."""
        if isinstance(keys, _ONE_KEY):
            raise TypeError(f"keys must be an iterable of keys, not one {type(keys).__name__}")
        return tuple(keys)

    def item(self, key: str, raw: bytes | None, ttl: float | None = None) -> WriteItem:
        """Return a set of these bytes, or with None a delete. Raises ValueTooLarge."""
        if raw is not None and not (len(raw) <= self.runtime.max_value and self.store.fits(key, len(raw))):
            limits = (
                f"max_value is {self.runtime.max_value:,} B, an eighth of max_bytes {self.options.max_bytes // 8:,} B"
            )
            raise ValueTooLarge(f"{self.store.name}[{key[:40]!r}]: {len(raw):,} B are too many: {limits}")
        return WriteItem(key, raw, ttl)

    def sets(self, values: Mapping[str, Any], ttl: TTL, tags: Tags = ()) -> list[WriteItem]:
        """Return items that set these values. Raises InvalidKey, TypeError, CodecError, ValueTooLarge, ConfigError."""
        if not isinstance(values, Mapping):
            raise TypeError(f"set_many takes a mapping of key to value, not {type(values).__name__}")
        seconds, tags = self.seconds(ttl), parse_tags(tags)
        return [self._set(key, value, seconds, tags) for key, value in values.items()]

    def terms(self, ttl: TTL, wait: bool, if_present: bool, if_version: int | None) -> Terms | None:
        """Return the terms of a set that has conditions. Raises ConfigError if it cannot be sent later."""
        if ttl is not KEEP and not if_present and if_version is None:
            return None
        if not wait:
            raise ConfigError("wait=False: a condition and KEEP are for writes that are waited for")
        only = SAME if if_version is not None else PRESENT if if_present else ALWAYS
        return Terms(only, 0 if if_version is None else check_version(if_version), keep_ttl=ttl is KEEP)

    def set_on(self, item: WriteItem, terms: Terms) -> Path[bool]:
        """Set a value on terms. Return whether it was set; if there is no condition, whether all have confirmed."""
        outcome, confirmed = yield from self.primitives.put(item._replace(terms=terms))
        return outcome.verdict == APPLIED and (confirmed or terms.only != ALWAYS)

    def set_one(self, key: str, value: Any, ttl: TTL, tags: Tags = ()) -> list[WriteItem]:
        """Return the list of one item that sets one value, as `sets` does."""
        return [self._set(key, value, self.seconds(ttl, keeps=True), parse_tags(tags) if tags != () else ())]

    def seconds(self, ttl: TTL, *, keeps: bool = False) -> float | None:
        """Return the seconds of a ttl, 0.0 for what is gone at once. KEEP is that of the group where one `keeps`.

        Raises ConfigError.
        """
        if ttl is KEEP and not keeps:
            raise ConfigError("ttl=KEEP: this gives a new time; set keeps the time that a value has left")
        return self.options.ttl if ttl is UNSET or ttl is KEEP else parse_ttl_of_write(ttl)

    def checked(self, key: str) -> str:
        """Return the key. Raises InvalidKey."""
        check_key(key)
        return key

    def find(self, key: str, *, near: bool, stale: bool = False, bare: bool = False) -> Path[Entry[bytes] | None]:
        """Do what Peeks.find does, after pending writes of the key."""
        yield from self.misses.wait_for_writes((key,))
        return (yield from self.misses.peeks.find(key, near=near, stale=stale, bare=bare))

    def _set(self, key: str, value: Any, seconds: float | None, tags: tuple[str, ...] = ()) -> WriteItem:
        check_key(key)
        check_settable(value, none=self.options.cache_none)
        return self.item(key, tagged(codecs.encode(self.options.codec, value, none=True), tags), seconds)

    def deletes(self, keys: Iterable[str]) -> list[WriteItem]:
        """Return the items that delete these keys. Raises InvalidKey, TypeError."""
        return [WriteItem(key, None) for key in distinct(self.listed(keys))]

    def write_alone(self, items: list[WriteItem]) -> bool:
        """Set and delete if no other node has to know, and return whether that was so. It costs a tenth of `write`."""
        return self.misses.alone and not self.store.pending and self.writes.write_alone(items)

    def write_directly(self, items: list[WriteItem]) -> list[WriteItem]:
        """Set and delete on this thread, which is started. Return what `write` has to do: nothing, if all went well."""
        if self.store.pending:
            return items
        if len(items) == 1:
            return self.writes.write_directly(items)
        return [rest for part in at_once(items) for rest in self.writes.write_directly(part)]

    def write(self, items: list[WriteItem], *, wait: bool = True) -> Path[bool | None]:
        """Set and delete keys, after the pending writes of these keys."""
        if not items:
            return True if wait else None
        if not wait:
            yield from self.behind.submit(items)
            return None
        yield from self.misses.wait_for_writes([item.key for item in items])
        return (yield from self.writes.write(items))

    def clear(self, *, wait: bool = True) -> Path[bool | None]:
        """Forget every key, after all pending writes."""
        yield from self.behind.settled()
        floor = self.drops.clear_here()
        if not wait:
            self.behind.submit_clear(floor)
            return None
        return (yield from self.drops.clear(floor))

    def delete_prefix(self, prefix: str) -> Path[bool]:
        """Delete every key that begins so, after all pending writes."""
        if not isinstance(prefix, str):
            raise TypeError(f"a prefix is a str, not {type(prefix).__name__}")
        if not prefix:
            raise InvalidKey("a prefix has at least one byte: use clear() for all keys")
        check_key(prefix)
        check_key(prefix)
        check_key(key := PREFIX + prefix)
        yield from self.behind.settled()
        return (yield from self.drops.delete_prefix(key))

    def close(self, error: KamaCacheError) -> None:
        """Have every call raise `error` from now on."""
        self.misses.close(error)
        self.behind.close()
        self.store.close()


def make_store(name: str, options: GroupOptions, clock: Clock) -> Store:
    """Return an empty store for a group."""
    codec = options.codec
    plain = isinstance(codec, codecs.BytesCodec)
    return Store(
        name,
        max_bytes=options.max_bytes,
        policy=options.policy,
        clock=clock,
        near_ttl=options.near_ttl,
        remember=remembered(options),
        decode=None if plain else functools.partial(codecs.decode, codec),
        shareable=codecs.is_shareable(codec),
        keep_evicted=options.on_evict is not None,
        packs=isinstance(codec, Packed),
        plain=isinstance(codec, Packed) and codec.is_plain,
        freshness=None if options.rules is None else options.rules[:4],
    )


def remembered(options: GroupOptions) -> float:
    """Return the seconds for which the writes of a group are remembered at least."""
    return max(_REMEMBER, options.near_ttl, options.load_timeout or 0.0)


def distinct(keys: Sequence[str]) -> list[str]:
    """Return every key once, in order. Raises InvalidKey."""
    for key in keys:
        check_key(key)
    return list(dict.fromkeys(keys))
