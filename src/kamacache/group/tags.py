"""The methods of a group that delete many keys at once, by tag or by prefix."""

from __future__ import annotations

from typing import Literal, TypeVar, overload

from kamacache import tags
from kamacache.group.primitives import GroupPrimitives

V = TypeVar("V")


class GroupTags(GroupPrimitives[V]):
    """Delete by tag and by prefix."""

    __slots__ = ()

    @overload
    def delete_tag(self, tag: str, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    def delete_tag(self, tag: str, *, wait: bool) -> bool | None: ...
    def delete_tag(self, tag: str, *, wait: bool = True) -> bool | None:
        """Delete everything that was kept with a tag, on every node, after pending writes. Return what delete returns.

        Values get tags by `Value(value, tags=...)`, `set(..., tags=...)` and `cached(tags=...)`. It costs what one
        delete costs, however many entries have the tag. A load that is under way is given to those who wait for it, but
        not kept if it brings the tag, and nobody joins a load of this group that began before.

        Raises TypeError for a tag that is no str, InvalidKey for one that is empty or has more than 1,024 bytes.
        """
        return self._write(self._core.deletes([tags.key_of(tag)]), wait)

    @overload
    async def adelete_tag(self, tag: str, *, wait: Literal[True] = ...) -> bool: ...
    @overload
    async def adelete_tag(self, tag: str, *, wait: bool) -> bool | None: ...
    async def adelete_tag(self, tag: str, *, wait: bool = True) -> bool | None:
        """Do what delete_tag does, without blocking the event loop."""
        return await self._awrite(self._core.deletes([tags.key_of(tag)]), wait)

    def delete_prefix(self, prefix: str) -> bool:
        """Delete every key that begins so, on every node, after the pending writes. Return what delete returns.

        Each node looks at all its entries of the group for that, and for some seconds each miss looks at the prefixes
        that were deleted: it is for small groups, and for now and then. Tags cost the same for any number of entries.

        Raises TypeError for a prefix that is no str, InvalidKey for one that is empty (use clear) or longer than a key.
        """
        return self._run(self._core.delete_prefix(prefix))

    async def adelete_prefix(self, prefix: str) -> bool:
        """Do what delete_prefix does, without blocking the event loop."""
        return await self._arun(self._core.delete_prefix(prefix))
