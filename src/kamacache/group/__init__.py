"""A group: a named set of keys with a loader, as users see it. Its methods stand in parts, one file for each."""

from __future__ import annotations

from typing import TypeVar

from kamacache.deadline import Deadline
from kamacache.errors import GroupClosed
from kamacache.group.tags import GroupTags
from kamacache.stats import GroupStats

V = TypeVar("V")
_FLUSH = 1.0  # seconds for which close waits for pending writes


class Group(GroupTags[V]):
    """A group of a node, made by Node.group. Methods that may wait have a twin for asyncio, whose name begins with a.

    All of them raise GroupClosed or NodeClosed once the group or its node is closed, and InvalidKey for a key that is
    not a str of 1 to 65,536 bytes in UTF-8.
    """

    __slots__ = ()

    def stats(self) -> GroupStats:
        """Return the counters of this process since the group was made."""
        return self._core.stats()

    async def astats(self) -> GroupStats:
        """Return what stats returns."""
        return self.stats()

    def close(self) -> None:
        """Forget everything here and free the name. Later calls raise GroupClosed, but a second close does nothing."""
        if not isinstance(self._core.misses.closed, GroupClosed):
            self._core.behind.flush(Deadline.after(_FLUSH))
            self._leave(self, GroupClosed(f"the group {self.name!r} was closed"))

    async def aclose(self) -> None:
        """Do what close does, without blocking the event loop."""
        import asyncio  # noqa: PLC0415 - it is running

        await asyncio.to_thread(self.close)
