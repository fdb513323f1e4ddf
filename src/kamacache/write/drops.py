"""The writes that no owner orders, as no node owns their keys: to clear a group, and to delete what begins alike.

Any node gives them a version, drops what is older here, and notifies every listener, which does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kamacache.deadline import Deadline
from kamacache.load.outcome import WRITES
from kamacache.net.messages import TellRequest
from kamacache.steps import Path
from kamacache.write.write import ROUNDS, SILENCE

if TYPE_CHECKING:
    from kamacache._engine import Store
    from kamacache.runtime import Runtime
    from kamacache.write.write import Writes


class Drops:
    """The clears of one group, and the deletes of prefixes."""

    def __init__(self, name: str, store: Store, writes: Writes, runtime: Runtime) -> None:
        self._name = name
        self._store = store
        self._writes = writes
        self._runtime = runtime

    def clear_here(self) -> int:
        """Clear this node's copy, and return its floor."""
        self._store.count(WRITES)
        return self._writes.cleared(self._runtime.hlc.next(self._store.floor))

    def clear(self, floor: int) -> Path[bool]:
        """Have every member clear what is older than `floor`, as this node has. Return whether all confirmed."""
        return self._drop(floor, lambda floor: TellRequest(self._name, [], floor), self._writes.cleared)

    def delete_prefix(self, key: str) -> Path[bool]:
        """Have every member drop the keys that begin as `key` says. Return whether all confirmed."""
        self._store.count(WRITES)

        def here(version: int) -> int:
            return max(version, *self._writes.note([(key, version)]))

        version = here(self._runtime.hlc.next(self._store.known(key)))
        return self._drop(version, lambda version: TellRequest(self._name, [(key, version)]), here)

    def _drop(self, version: int, notice: Callable[[int], TellRequest], here: Callable[[int], int]) -> Path[bool]:
        """Have every member drop what is older than a version, as this node has.

        What a listener still knows to be greater after the last round has come later: see Writes.order_and_tell.
        """
        confirmed = self._runtime.joined
        deadline = Deadline.after(SILENCE)
        listeners = set(self._runtime.membership.listeners())
        with self._runtime.lane.contacts.writing() as writing:
            for again in range(ROUNDS):
                told, greater = yield from self._writes.tell(notice(version), deadline)
                confirmed &= told
                known = max(greater.values(), default=0)
                # Someone's clock was ahead: a write that went before this one may have a version above it.
                ahead = not again and self._runtime.hlc.latest() > version
                if not known and not ahead:
                    return confirmed and writing.current
                if again == ROUNDS - 1:
                    break
                if not self._runtime.saw(known):
                    return False
                version = here(self._runtime.hlc.next(known))
            same = listeners.issuperset(self._runtime.membership.listeners())
            return confirmed and writing.current and same
