"""The operations on a key that depend on what its owner has of it, on bytes: for groups, and for clients."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache.entry import Removed
from kamacache.errors import CodecError, Conflict, PeerError
from kamacache.net.messages import (
    ABSENT,
    ADD,
    APPLIED,
    CONFLICT,
    NOT_INTEGER,
    SAME,
    TOO_GREAT,
    TOUCH,
    Outcome,
    Terms,
    WriteItem,
)
from kamacache.steps import Path
from kamacache.tags import retagged
from kamacache.units import check_version, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kamacache.codecs import Codec
    from kamacache.entry import Entry
    from kamacache.write.decision import Decisions
    from kamacache.write.write import Writes

INTEGERS = range(-(1 << 63), 1 << 63)
_TRIES = 20  # of an increment or a pop, if others change the value meanwhile


class Primitives:
    """The writes on terms of one group. If the owner is out of reach, a path raises PeerError."""

    def __init__(
        self,
        name: str,
        codec: Codec[object],
        writes: Writes,
        decisions: Decisions,
        settled: Callable[[Iterable[str]], Path[None]],
        find: Callable[[str], Path[Entry[bytes] | None]],
    ) -> None:
        self._name = name
        self._codec = codec
        self._writes = writes
        self._decisions = decisions
        self._settled = settled  # waits for pending writes of keys
        self._find = find  # returns what the owner has, or a member that stands in for it

    def decide(self, key: str, raw: bytes | None, ttl: float | None, terms: Terms) -> Path[tuple[Outcome, bool, int]]:
        """Return what the owner decided, whether all confirmed, and the version, 0 if nothing changed."""
        return (yield from self._decide(WriteItem(key, raw, ttl, terms=terms)))

    def _decide(self, item: WriteItem) -> Path[tuple[Outcome, bool, int]]:
        yield from self._settled((item.key,))
        return (yield from self._decisions.decide(item))

    def add(self, key: str, raw: bytes, ttl: float | None) -> Path[int]:
        """Set a value if there is none. Return its version, or 0."""
        outcome, _, version = yield from self.decide(key, raw, ttl, Terms(ABSENT))
        return version if outcome.verdict == APPLIED else 0

    def put(self, item: WriteItem) -> Path[tuple[Outcome, bool]]:
        """Set a value on terms. Raises Conflict."""
        outcome, confirmed, _ = yield from self._decide(item)
        self._check(item.key, outcome)
        return outcome, confirmed

    def incr(self, key: str, delta: int, initial: int | None, ttl: float | None) -> Path[int]:
        """Add to an integer and return it. Raises KeyError, TypeError, OverflowError.

        The owner knows the integers that were made so. Any other value is read here, by the group's codec, and replaced
        if it is still the same.
        """
        delta, initial = _integer("delta", delta), None if initial is None else _integer("initial", initial)
        if delta not in INTEGERS or (initial is not None and initial not in INTEGERS):
            raise OverflowError(f"{self._name}[{key!r}]: integers have 64 bits")
        terms = Terms(change=ADD, delta=delta, initial=initial, keep_ttl=True, wants=True)
        for _ in range(_TRIES):
            outcome, _, _ = yield from self.decide(key, None, ttl, terms)
            if outcome.verdict == NOT_INTEGER and (there := outcome.value) is not None:
                number = codecs.integer(self._codec, there)
                if number is None:
                    raise TypeError(f"{self._name}[{key!r}]: the value is not an integer")
                if number + delta not in INTEGERS:
                    outcome = outcome._replace(verdict=TOO_GREAT)
                else:
                    raw = retagged(there, codecs.kept_integer(number + delta))
                    same = Terms(SAME, outcome.held, keep_ttl=True)
                    outcome, _, _ = yield from self.decide(key, raw, None, same)
                    if outcome.verdict == CONFLICT:
                        continue
                    return number + delta
            if outcome.verdict == TOO_GREAT:
                raise OverflowError(f"{self._name}[{key!r}]: the sum does not fit into 64 bits")
            if outcome.verdict != APPLIED:
                raise KeyError(key)
            return outcome.number
        raise self._contended(key)

    def touch(self, key: str, ttl: float | None, *, wants: bool = False) -> Path[Outcome]:
        """Give an entry another ttl. The outcome says whether it existed."""
        outcome, _, _ = yield from self.decide(key, None, ttl, Terms(change=TOUCH, wants=wants))
        return outcome

    def take(self, key: str) -> Path[bytes | None]:
        """Remove a key and return its value."""
        outcome, _, _ = yield from self.decide(key, None, None, Terms(wants=True))
        return outcome.value

    def pop(self, key: str, default: Any) -> Path[Any]:
        """Remove a key and return its value, or the default if there is none that the codec can read.

        Only a reader knows whether it can, so the value is asked for first, and removed if it is still the same.
        """
        if isinstance(self._codec, codecs.BytesCodec):
            raw = yield from self.take(key)
            return default if raw is None else codecs.decode(self._codec, raw)
        for _ in range(_TRIES):
            outcome, _, _ = yield from self.decide(key, None, None, Terms(ABSENT, wants=True))
            if outcome.value is None:
                return default
            try:
                value = codecs.decode(self._codec, outcome.value)
            except CodecError:
                return default  # it stays for another release, which can read it
            outcome, _, _ = yield from self.decide(key, None, None, Terms(SAME, outcome.held))
            if outcome.verdict == APPLIED:
                return value
        raise self._contended(key)

    def remove(self, key: str, version: int | None = None) -> Path[Removed]:
        """Remove a key, or what has this version: Conflict. Without one, any candidate takes the write, as a delete."""
        terms = Terms() if version is None else Terms(SAME, check_version(version))
        try:
            outcome, confirmed, _ = yield from self.decide(key, None, None, terms)
        except PeerError:
            if version is not None:
                raise
            found = yield from self._find(key)
            yield from self._writes.write([WriteItem(key, None)])
            return Removed(existed=found is not None, confirmed=False)
        self._check(key, outcome)
        return Removed(outcome.existed, confirmed)

    def remove_own(self, key: str, raw: bytes) -> Path[bool]:
        """Remove a key if it has these bytes, which no other writer has. Return whether that was so."""
        found = yield from self._find(key)
        if found is None or found.value != raw:
            return False
        yield from self.remove(key, found.version)
        return True

    def _contended(self, key: str) -> PeerError:
        return PeerError(f"{self._name}[{key!r}]: others change the value all the time; nothing was done")

    def _check(self, key: str, outcome: Outcome) -> None:
        if outcome.verdict == CONFLICT:
            raise Conflict(f"{self._name}[{key!r}]: the entry has changed, or is gone")


def _integer(name: str, value: object) -> int:
    """Return an exact int: a range looks for any other number one by one."""
    try:
        return index(value)  # type: ignore[arg-type] # integers of other libraries count too
    except TypeError:
        raise TypeError(f"{name}={shown(value)}: must be an int") from None
