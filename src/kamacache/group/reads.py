"""The methods of a group that read. A get that hits never leaves the native store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kamacache._engine import MISSING
from kamacache.group.base import GroupBase
from kamacache.steps import adrive, drive

if TYPE_CHECKING:
    from kamacache.load.given import Given

V = TypeVar("V")
T = TypeVar("T")
_Many = tuple[dict[str, Any], list[str], dict[str, Exception]]  # here, not here, not decoded


class GroupReads(GroupBase[V]):
    """Read values, from memory, from their owners, or by loading them."""

    __slots__ = ()

    if TYPE_CHECKING:  # a default is for groups with cache_none=True, which nones.py makes

        @overload
        def get(self, key: str, /) -> V | None: ...
        @overload
        def get(self, key: str, default: T, /) -> V | T: ...
        def get(self, key: str, default: Any = None, /) -> Any: ...
        @overload
        async def aget(self, key: str) -> V | None: ...
        @overload
        async def aget(self, key: str, default: T) -> V | T: ...
        async def aget(self, key: str, default: Any = None) -> Any: ...

    async def aget(self, key: str) -> V | None:  # type: ignore[no-redef] # as it is without cache_none
        """Return the value for `key` as get does, without blocking the event loop.

        An async loader runs as a task of the node's event loop, a plain one on a thread of the node's pool. Cancelling
        the caller does not cancel the load. Raises what get raises, and NoEventLoop without a running asyncio loop.
        """
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        core, question = self._core, None
        if (remote := core.store.remote) is None:
            if not (core.misses.alone and core.runtime.home.is_here()):
                await self._aensure_for(1)
        elif (question := remote.ask(core.store, key)) and (value := await question) is not MISSING:
            return value  # type: ignore[return-value]
        return await core.misses.aget(key, question is not None)  # type: ignore[no-any-return]

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return a dict of those of the keys that have a value, in the order asked.

        Keys that are not in memory are requested from all owners at once, and loaded together by load_many if there is
        one.

        Raises:
            LoadError: A key failed: `key` names the first, `loaded` has the values of the others.
            TypeError: `keys` is a str.

        """
        asked, (found, missing, failed) = self._look_up(keys)
        if not missing and not failed:
            return found
        return self._fetch(asked, found, missing, failed)

    def _fetch(
        self,
        asked: tuple[str, ...],
        found: dict[str, Any],
        missing: list[str],
        failed: dict[str, Exception],
        given: Given | None = None,
    ) -> dict[str, V]:
        """Return what was asked for after the store had only a part of it. A `given` function loads what is left."""
        whole = not found
        missing, peeked = self._ask_owners(found, missing, failed)
        whole &= peeked and not missing
        if missing or failed:
            drive(self._core.misses.get_many(missing, found, failed, peeked=peeked, given=given))
        return found if whole else in_order(asked, found)

    def _ask_owners(
        self, found: dict[str, Any], missing: list[str], failed: dict[str, Exception]
    ) -> tuple[list[str], bool]:
        """Return what is still missing after the owners were asked natively, and whether they were."""
        core = self._core
        try:
            self._ensure()
        except BaseException:
            core.gave_up(len(missing))
            raise
        if core.store.pending or (remote := core.store.remote) is None:
            return missing, False
        return remote.get_many(core.store, missing, found, failed), True

    async def aget_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return what get_many returns, without blocking the event loop."""
        asked, (found, missing, failed) = self._look_up(keys)
        if missing or failed:
            await self._aensure_for(len(missing))
            await adrive(self._core.misses.get_many(missing, found, failed))
        return in_order(asked, found) if missing else found

    def _look_up(self, keys: Iterable[str]) -> tuple[tuple[str, ...], _Many]:
        core = self._core
        asked = tuple(keys) if type(keys) is list else core.listed(keys)
        if not asked:
            core.misses.check_open()
        return asked, core.store.get_many(asked)

    def peek(self, key: str) -> V | None:
        """Return the value in this process's memory, or None. Never load, ask another node, or count as a use."""
        self._core.misses.check_open()
        value: V | None = self._core.store.peek(key)
        return value

    async def apeek(self, key: str) -> V | None:
        """Return what peek returns."""
        return GroupReads.peek(self, key)


def in_order(asked: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
    """Return what was found in the order asked."""
    return {key: found[key] for key in asked if key in found}
