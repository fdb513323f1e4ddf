"""Values that a group's codec cannot read: each counts as a miss, and its bytes do not come back.

Native code and miss.py `note` such bytes. They leave this process's memory at once. Until the key is loaded, no copy of
the same bytes is taken from others, and a request to the owner has their mark, so that the owner loads the key too. A
loader that returns the same bytes again, for a node of another release, does not run for them a second time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kamacache import codecs
from kamacache._engine import Store
from kamacache.load.outcome import UNDECODABLE
from kamacache.log import Seldom, log

if TYPE_CHECKING:
    from kamacache.load.local import Local
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime

_MOST = 10_000  # keys


class Unread:
    """The unreadable bytes of one group, by key. `local` is set by miss.py."""

    local: Local

    def __init__(self, name: str, store: Store, options: GroupOptions, runtime: Runtime) -> None:
        self.marks: dict[str, int] = {}  # of bytes that are not to come back
        self.again: dict[str, int] = {}  # of bytes that the loader has returned again
        self._name = name
        self._store = store
        self._options = options
        self._seldom = Seldom(runtime.clock.now)

    def note(self, key: str, data: bytes, error: Exception) -> None:
        """Take note that these bytes cannot be read here; `error` says why. The store calls this, too."""
        if self.marks.get(key) != (mark := mark_of(data)):
            _put(self.marks, key, mark)
            self._store.count(UNDECODABLE)
            self._log(key, error)
        self._drop(key, data)

    def told(self, keys: Sequence[str], marks: Sequence[int]) -> None:
        """Take note of what a peer cannot read, before the load that it requests."""
        for key, mark in zip(keys, marks, strict=False):
            if not mark or self.again.get(key) == mark:
                continue
            _put(self.marks, key, mark)
            found = self._store.find(key)
            if found is not None and found[0] is not None and mark_of(found[0]) == mark:
                self._drop(key, found[0])

    def make_way(self, keys: Sequence[str]) -> None:
        """Drop the unreadable bytes that a group without a loader has kept, for a caller that brings a function."""
        for key in keys if self.marks else ():
            found = self._store.find(key)
            if found is not None and found[0] is not None and self.has(key, found[0]):
                self._store.discard(key, found[0])

    def has(self, key: str, data: bytes | None) -> bool:
        """Return whether these bytes are known to be unreadable."""
        mark = self.marks.get(key) if self.marks else None
        return mark is not None and data is not None and mark == mark_of(data)

    def of(self, keys: Sequence[str]) -> list[int]:
        """Return the marks of these keys for a request to their owner; an empty list if there are none."""
        marks = [self.marks.get(key, 0) for key in keys] if self.marks else []
        return marks if any(marks) else []

    def loaded(self, key: str, data: bytes | None) -> None:
        """Take note of what the loader returned."""
        mark = self.marks.pop(key, None) or self.again.pop(key, None)
        if mark is not None and data is not None and mark_of(data) == mark:
            _put(self.again, key, mark)

    def _drop(self, key: str, data: bytes) -> None:
        """Drop the bytes from memory. A group without a loader keeps them, because another release may read them."""
        if self.local.loader.missing:
            found = self._store.find(key)
            if found is None or found[3] != Store.NEAR:
                return
        self._store.discard(key, data)

    def _log(self, key: str, error: Exception) -> None:
        if not (noted := self._seldom.note()):
            return
        log.warning(
            "group %(group)r: values that codec %(codec)s cannot read: %(count)s since the last line like this; they "
            "are loaded again. The last is that of %(key)r: %(error)s. If another release writes them, give the group "
            "of this one a version=",
            group=self._name,
            codec=codecs.codec_name(self._options.codec),
            count=noted,
            key=key[:100],
            error=error,
        )


def mark_of(data: bytes) -> int:
    """Return a number that tells bytes from others; never 0."""
    from hashlib import blake2b  # noqa: PLC0415 - most groups never need it

    return int.from_bytes(blake2b(codecs.untagged(data), digest_size=8).digest()) or 1


def _put(marks: dict[str, int], key: str, mark: int) -> None:
    marks[key] = mark
    if len(marks) > _MOST:
        marks.pop(next(iter(tuple(marks))), None)
