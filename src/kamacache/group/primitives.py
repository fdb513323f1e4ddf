"""The methods of a group that an owner decides on, one step each: two callers never both win."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, overload

from kamacache import codecs
from kamacache._engine import check_key
from kamacache.entry import Entry, Removed
from kamacache.errors import CodecError
from kamacache.group.lock import Lock
from kamacache.group.writes import GroupWrites
from kamacache.steps import Path
from kamacache.units import UNSET, Duration, Missing, parse_duration

V = TypeVar("V")
T = TypeVar("T")


class GroupPrimitives(GroupWrites[V]):
    """Change a key by what its owner has of it, and look at what it has.

    The owner alone decides. If it does not answer, the methods that change a key raise PeerError. Its text says whether
    it is known that nothing was done. They are atomic while the members agree on who owns the key.
    """

    __slots__ = ()

    def add(self, key: str, value: V, ttl: Duration | Missing | None = UNSET) -> bool:
        """Set a value if the key has none. Return True for the one caller whose value was set.

        A key has none if it has expired, or if it is known that the source lacks it. A load under way does not
        overwrite the value that was added.

        Raises:
            PeerError: The owner of the key does not answer.

        """
        return self._run(self._add(key, value, ttl))

    async def aadd(self, key: str, value: V, ttl: Duration | Missing | None = UNSET) -> bool:
        """Do what add does, without blocking the event loop. A cancelled caller does not stop it half-way."""
        return await self._arun(self._add(key, value, ttl))

    def _add(self, key: str, value: V, ttl: Duration | Missing | None) -> Path[bool]:
        core = self._core
        ((key, raw, seconds, *_),) = core.set_one(key, value, ttl)
        assert raw is not None  # noqa: S101 - it is a set
        return (yield from core.primitives.add(key, raw, seconds)) > 0

    def incr(self, key: str, delta: int = 1, initial: int | None = None, ttl: Duration | Missing | None = UNSET) -> int:
        """Add to an integer, and return the sum. What get returns from then on is an int, under every codec.

        Args:
            key: The key. Its value is an int, or a str or bytes of decimal digits.
            delta: What is added, also a negative number.
            initial: What a key without a value counts as. The sum is kept for `ttl`; any other sum keeps the time that
                the value had left.
            ttl: As in set, for a key without a value.

        Raises:
            KeyError: The key has no value, and there is no `initial`.
            TypeError: The value, `delta` or `initial` is not an integer, or the group's codec cannot read the value.
            OverflowError: The sum does not fit into 64 bits. The value stays as it is.
            PeerError: The owner of the key does not answer.

        """
        return self._run(self._incr(key, delta, initial, ttl))

    async def aincr(
        self, key: str, delta: int = 1, initial: int | None = None, ttl: Duration | Missing | None = UNSET
    ) -> int:
        """Do what incr does, without blocking the event loop. A cancelled caller does not stop it half-way."""
        return await self._arun(self._incr(key, delta, initial, ttl))

    def _incr(self, key: str, delta: int, initial: int | None, ttl: Duration | Missing | None) -> Path[int]:
        core = self._core
        return (yield from core.primitives.incr(core.checked(key), delta, initial, core.seconds(ttl, keeps=True)))

    def touch(self, key: str, ttl: Duration | None) -> bool:
        """Give a value another time to live, from now on. Return False if the key has no value.

        None: it never expires. Zero or less: it is gone at once.
        """
        return self._run(self._touch(key, ttl))

    async def atouch(self, key: str, ttl: Duration | None) -> bool:
        """Do what touch does, without blocking the event loop."""
        return await self._arun(self._touch(key, ttl))

    def _touch(self, key: str, ttl: Duration | None) -> Path[bool]:
        core = self._core
        return (yield from core.primitives.touch(core.checked(key), core.seconds(ttl))).existed

    @overload
    def pop(self, key: str) -> V | None: ...
    @overload
    def pop(self, key: str, default: T) -> V | T: ...
    def pop(self, key: str, default: Any = None) -> Any:
        """Delete a key and return the value that it had, or `default`. Of several callers one gets the value.

        A value that the group's codec cannot read stays.
        """
        return self._run(self._pop(key, default))

    @overload
    async def apop(self, key: str) -> V | None: ...
    @overload
    async def apop(self, key: str, default: T) -> V | T: ...
    async def apop(self, key: str, default: Any = None) -> Any:
        """Do what pop does, without blocking the event loop."""
        return await self._arun(self._pop(key, default))

    def _pop(self, key: str, default: Any) -> Path[Any]:
        core = self._core
        return (yield from core.primitives.pop(core.checked(key), default))

    def remove(self, key: str, *, if_version: int | None = None) -> Removed:
        """Delete a key as delete does, and return whether it existed and whether every node has confirmed.

        If another member stands in for the owner, `confirmed` is False.

        Raises:
            Conflict: The entry has another version than `if_version`, or is gone.
            PeerError: With `if_version`: the owner of the key does not answer.

        """
        return self._run(self._remove(key, if_version))

    async def aremove(self, key: str, *, if_version: int | None = None) -> Removed:
        """Do what remove does, without blocking the event loop."""
        return await self._arun(self._remove(key, if_version))

    def _remove(self, key: str, version: int | None) -> Path[Removed]:
        core = self._core
        return (yield from core.primitives.remove(core.checked(key), version))

    def contains(self, key: str) -> bool:
        """Return whether this node's memory or the owner's has a value for the key. Never load."""
        return self._run(self._find(key, bare=True)) is not None

    async def acontains(self, key: str) -> bool:
        """Return what contains returns, without blocking the event loop."""
        return await self._arun(self._find(key, bare=True)) is not None

    def __contains__(self, key: object) -> bool:
        return self.contains(key)  # type: ignore[arg-type] # it checks

    def ttl(self, key: str) -> float | None:
        """Return the seconds that the owner's copy has left, math.inf if it never expires, None without a value."""
        entry = self._run(self._find(key, near=False, bare=True))
        return None if entry is None else entry.ttl

    async def attl(self, key: str) -> float | None:
        """Return what ttl returns, without blocking the event loop."""
        entry = await self._arun(self._find(key, near=False, bare=True))
        return None if entry is None else entry.ttl

    def get_entry(self, key: str) -> Entry[V] | None:
        """Return the value with its version and what else is known of it, from this memory or the owner's. Never load.

        `set` and `remove` take the version as `if_version`. None: neither has a value for the key, or the group's codec
        cannot read it.
        """
        return self._entry(self._run(self._find(key, stale=True)))

    async def aget_entry(self, key: str) -> Entry[V] | None:
        """Return what get_entry returns, without blocking the event loop."""
        return self._entry(await self._arun(self._find(key, stale=True)))

    def _find(
        self, key: str, *, near: bool = True, stale: bool = False, bare: bool = False
    ) -> Path[Entry[bytes] | None]:
        core = self._core
        return (yield from core.find(core.checked(key), near=near, stale=stale, bare=bare))

    def _entry(self, found: Entry[bytes] | None) -> Entry[V] | None:
        if found is None:
            return None
        try:
            value = codecs.decode(self._core.options.codec, found.value)
        except CodecError:
            return None
        return found._replace(value=value)  # type: ignore[return-value]

    def lock(self, key: str, lease: Duration = "10s", wait: Duration = 0.0) -> Lock:
        """Return a lock for `with` and `async with`: one holder at a time, for `lease` at most.

        It is an entry of the group that is added, and removed if it is still the same. It excludes others while the
        members agree on who owns the key, and is lost with its owner: use a consensus store for what must never happen
        twice.

        Raises:
            LockTaken: `with` could not have it within `wait`.

        """
        core = self._core
        seconds = parse_duration(lease, name="lease", least=1e-3)
        return Lock(
            core.checked(key),
            core.primitives,
            seconds,
            parse_duration(wait, name="wait"),
            run=self._run,
            arun=self._arun,
        )

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys in this node's memory that have a value, and begin so, for people and tests."""
        self._core.misses.check_open()
        if prefix:
            check_key(prefix)
        return map(self._core.key_of, self._core.store.keys(prefix))

    def __len__(self) -> int:
        """Return how many values this node's memory has."""
        return len(self._core.store.keys(""))

    def __bool__(self) -> bool:
        return True
