"""The methods of a group that load where their caller is, under a lease of the key's owner."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, Union

from kamacache._engine import MISSING
from kamacache.errors import KamaCacheError, LoadError
from kamacache.group.reads import GroupReads, in_order
from kamacache.steps import adrive, drive
from kamacache.value import Value

if TYPE_CHECKING:
    from kamacache.load.given import Given

V = TypeVar("V")
_Loaded = Union[V, Value[V], None]  # noqa: UP007 - V has no | at run time


class GroupLoads(GroupReads[V]):
    """Read values, and on a miss load them with a function of the caller's own."""

    __slots__ = ()

    def _or_load(self, key: str, load: Callable[[str], _Loaded[V]]) -> V | None:
        """Answer a get_or_load of a key that the store does not have. The rest of it is native: see hit.rs."""
        function = self._for_thread(load, "aget_or_load")
        core, peeked = self._core, False
        if (remote := core.store.remote) is not None and not core.store.pending:
            found: dict[str, Any] = {}
            failed: dict[str, Any] = {}
            if not remote.get_many(core.store, [key], found, failed):
                if failed:
                    raise failed[key]
                return found.get(key)
            peeked = True
        try:
            return self._miss(key, peeked, function)  # type: ignore[no-any-return]
        except LoadError:
            if function.misused is not None:
                raise function.misused from None
            raise

    async def aget_or_load(self, key: str, load: Callable[[str], _Loaded[V] | Awaitable[_Loaded[V]]]) -> V | None:
        """Do what get_or_load does, without blocking the event loop.

        An async function runs as a task of this event loop, a plain one on a thread of the node's pool. Both have a
        copy of the caller's context. Cancelling the caller does not cancel the load, which goes on for those who wait.
        """
        value = self._lookup(key)
        if value is not MISSING:
            return value  # type: ignore[return-value]
        return await self._aor_load(key, load)

    async def _aor_load(self, key: str, load: Callable[[str], _Loaded[V] | Awaitable[_Loaded[V]]]) -> V | None:
        """Answer an aget_or_load of a key that the store does not have, as the lookup has shown and counted."""
        core, question = self._core, None
        function = self._for_task(load)
        if (remote := core.store.remote) is None:
            await self._aensure_for(1)
        elif (question := remote.ask(core.store, key)) and (value := await question) is not MISSING:
            return value  # type: ignore[no-any-return]
        return await core.misses.aget(key, question is not None, function)  # type: ignore[no-any-return]

    def get_many_or_load(
        self, keys: Iterable[str], load_many: Callable[[list[str]], Mapping[str, _Loaded[V]]]
    ) -> dict[str, V]:
        """Return a dict of those of the keys that have a value, as get_many does, loading as get_or_load does.

        `load_many` is called on this thread with a list of the keys that this caller is to load, and returns a mapping
        of key to value; it does not get those that others load meanwhile. It may be called more than once: with the
        keys that this node owns, with those that other members own, and with those that others gave up.

        Raises:
            LoadError: A key failed: `key` names the first, `loaded` has the values of the others.
            TypeError: `keys` is a str, or `load_many` is async: use aget_many_or_load.

        """
        asked, (found, missing, failed) = self._look_up(keys)
        if not missing and not failed:
            return found
        function = self._for_thread(load_many, "aget_many_or_load", keys=len(missing), many=True)
        try:
            return self._fetch(asked, found, missing, failed, function)
        except LoadError:
            if function.misused is not None:
                raise function.misused from None
            raise

    async def aget_many_or_load(
        self,
        keys: Iterable[str],
        load_many: Callable[[list[str]], Mapping[str, _Loaded[V]] | Awaitable[Mapping[str, _Loaded[V]]]],
    ) -> dict[str, V]:
        """Do what get_many_or_load does, without blocking the event loop; load_many runs as in aget_or_load."""
        asked, (found, missing, failed) = self._look_up(keys)
        if missing or failed:
            core = self._core
            function = self._for_task(load_many, keys=len(missing), many=True)
            await self._aensure_for(len(missing))
            await adrive(core.misses.get_many(missing, found, failed, given=function))
        return in_order(asked, found) if missing else found

    def _held(self, keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        """Return what is in memory, here or at the owners, and of which keys nothing is. Those are to be loaded."""
        _, (found, missing, failed) = self._look_up(keys)
        if missing:
            missing, peeked = self._ask_owners(found, missing, failed)
            if missing and not peeked:
                missing = drive(self._core.misses.held(missing, found))
        return self._unless_failed(found, missing, failed)

    async def _aheld(self, keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
        _, (found, missing, failed) = self._look_up(keys)
        if missing:
            await self._aensure_for(len(missing))
            missing = await adrive(self._core.misses.held(missing, found))
        return self._unless_failed(found, missing, failed)

    def _unless_failed(
        self, found: dict[str, Any], missing: list[str], failed: dict[str, Exception]
    ) -> tuple[dict[str, Any], list[str]]:
        for error in failed.values():
            self._core.gave_up(len(missing))
            raise error
        return found, missing

    def _for_thread(self, load: Callable[..., Any], twin: str, *, keys: int = 1, many: bool = False) -> Given:
        try:
            self._core.misses.check_open()  # before an import, which fails while the interpreter ends
            from kamacache.load.given import for_thread  # noqa: PLC0415 - importing the package leaves it alone

            return self._traced(for_thread(load, twin, many=many))
        except (KamaCacheError, TypeError):
            self._core.gave_up(keys)
            raise

    def _for_task(self, load: Callable[..., Any], *, keys: int = 1, many: bool = False) -> Given:
        from kamacache.load.given import for_task  # noqa: PLC0415 - the same

        try:
            return self._traced(for_task(load, self._core.runtime, many=many))
        except TypeError:
            self._core.gave_up(keys)
            raise

    def _traced(self, given: Given) -> Given:
        if (telemetry := self._core.runtime.telemetry) is not None:
            telemetry.trace_loader(self._core.name, given)
        return given
