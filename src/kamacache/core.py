"""What serves one group in one life of its node: store, loads and writes. Imported when a group is made."""

from __future__ import annotations

import functools

from kamacache import codecs
from kamacache._engine import Clock, Store
from kamacache.errors import ValueTooLarge
from kamacache.load.loader import Loader
from kamacache.load.miss import Loading
from kamacache.load.outcome import JOINED
from kamacache.net.messages import GroupState, WriteItem
from kamacache.options import GroupOptions
from kamacache.runtime import Runtime
from kamacache.steps import Path
from kamacache.write.behind import WriteBehind
from kamacache.write.write import Writing

_REMEMBER = 10.0  # seconds for which writes are remembered at least


class Parts:
    """What serves one group in one life of its node."""

    __slots__ = ("behind", "loading", "options", "runtime", "store", "writing")

    def __init__(self, name: str, store: Store, loader: Loader, options: GroupOptions, runtime: Runtime) -> None:
        self.store = store
        self.options = options
        self.runtime = runtime
        self.loading = Loading(name, store, loader, options, runtime)
        self.writing = Writing(name, store, self.loading, runtime)
        self.behind = WriteBehind(name, store, self.loading, self.writing)
        self.loading.after_writes = self.behind.pending

    def state(self) -> GroupState:
        """What a hello says of this group."""
        codec = codecs.codec_name(self.options.codec)
        return GroupState(self.store.name, codec, self.store.floor, self.store.recent())

    def gave_up(self, keys: int) -> None:
        """Who asked for these, counted in gets before, and gave up before the node was started: waited for others."""
        self.store.count(JOINED, keys)

    def item(self, key: str, raw: bytes | None, ttl: float | None = None) -> WriteItem:
        """A set of these bytes, or with None a delete; ValueTooLarge."""
        if raw is not None and not self.loading.fits(key, raw):
            greatest = (
                f"max_value is {self.runtime.max_value:,} B, an eighth of max_bytes {self.options.max_bytes // 8:,} B"
            )
            raise ValueTooLarge(f"{self.store.name}[{key[:40]!r}]: {len(raw):,} B are too many: {greatest}")
        return WriteItem(key, raw, ttl)

    def write(self, items: list[WriteItem], *, wait: bool = True) -> Path[bool | None]:
        """Set and delete, after the writes of these keys that are pending."""
        if not items:
            return True if wait else None
        if not wait:
            yield from self.behind.submit(items)
            return None
        yield from self.loading.wait_for_writes([item.key for item in items])
        return (yield from self.writing.write(items))

    def clear(self, *, wait: bool = True) -> Path[bool | None]:
        """Forget every key, after all writes that are pending."""
        yield from self.behind.settled()
        floor = self.writing.clear_here()
        if not wait:
            self.behind.submit_clear(floor)
            return None
        return (yield from self.writing.clear(floor))


def make_store(name: str, options: GroupOptions, clock: Clock) -> Store:
    """The store of a group, which stays the same for the group's life."""
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
    )


def remembered(options: GroupOptions) -> float:
    """Seconds for which the writes of a group are remembered."""
    return max(_REMEMBER, options.near_ttl, options.load_timeout or 0.0)
