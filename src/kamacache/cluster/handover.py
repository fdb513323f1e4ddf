"""The hand-over: when the owner of keys changes, the node that owned them sends their entries to the new owner.

A table changes in one way, whether a member joins or leaves: so there is one hand-over. A node that *leaves* first says
so, and owns nothing by any table from then on. It goes on listening and answering until it has handed over what it
has, and then says goodbye. The invariant: for each key with an entry at its owner, the owner by every table has it, or
can ask for it one that lives and is told of writes.

1. Its own table comes first. Every write of a key is ordered at this node under the lock of its shard before the table
   demotes the entry, and is handed over with it, or after that, and is refused: its writer asks the new owner.
2. Then its hello brings all members its clock. So new owners give writes versions above all that was ordered here.
3. A new owner that lacks a key asks the owners before it and those that leave, for a load and for a write on terms.
   While the members settle, it asks all of them about the latter: of several that join at once, one may have decided
   by a table that this one never had. An entry that was handed over stays here, as a former copy, until this node ends.
4. An entry travels with a number of the receiver's, read before the entry was: a write that arrived there since, or was
   forgotten, refuses it (crates/engine/src/store/handover.rs). So does an owner that has the entry in its version, has
   not joined, or does not tell this node of its writes.
5. An entry that is refused because views differ stays, and is sent again when they have changed.
6. If an owner is away, and still in the table, the next candidate that lives takes over its entries, as gets ask that
   one. It refuses them until it finds the owner away, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache._engine import hand_over
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed, Overloaded, PeerError

if TYPE_CHECKING:
    from kamacache.cluster.membership import Membership
    from kamacache.groups import View
    from kamacache.runtime import Runtime

_JOINING = 60.0  # seconds that a new owner has to join, and to see the same table
_PAUSE, _LONGEST = 0.05, 0.8  # seconds between two looks
_STEP = 60.0  # seconds for one group


class HandOver:
    """The hand-over of one node. Invariant, under `_lock`: `_thread` runs and sees `_wanted`, or is None."""

    def __init__(self, membership: Membership, runtime: Runtime, groups: View) -> None:
        self._membership = membership
        self._runtime = runtime
        self._groups = groups
        self._lock = threading.Lock()
        self._bell = Bell()
        self._wanted = False
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Hand over on a thread what other members own now."""
        with self._lock, suppress(Overloaded):  # then the owners ask for what they need
            self._wanted = True
            if self._thread is None:
                self._thread = thread.start("kamacache-handover", self._run)
        self._bell.ring()

    def _run(self) -> None:
        while True:
            self._wanted = False
            self.finish(Deadline.after(_JOINING))
            with self._lock:
                if not self._wanted or self._membership.stopped:
                    self._thread = None
                    return

    def finish(self, deadline: Deadline, is_replaced: Callable[[], bool] = lambda: False) -> None:
        """Hand over until nothing is left that an owner would take.

        If no member is left that owns anything, and others `is_replaced` with this one, wait for one.
        """
        pause, lingers = _PAUSE, False
        while not (deadline.passed or self._membership.stopped):
            handed, left, waiting = self._hand_over(deadline)
            lingers = lingers or (waiting and is_replaced())
            if not (left or (waiting and lingers)):
                return
            self._bell.wait(deadline.sooner(pause))
            pause = _PAUSE if handed else min(pause * 2, _LONGEST)

    def _hand_over(self, deadline: Deadline) -> tuple[int, int, bool]:
        """Return how many entries were handed over, how many are left for later, and whether some have no owner."""
        handed = left = 0
        waiting = False
        for core in self._groups.values():
            route = self._membership.route(core.name)
            waiting |= not route.peers and core.store.stats()["entries"] > 0
            if route.placement is None or deadline.passed:
                continue
            owners = [None if peer is None or peer.dead else (peer.address, peer.id) for peer in route.peers]
            me, carrier = self._membership.me.id, self._runtime.lane.carrier
            with suppress(NodeClosed, PeerError):  # this node is closed, or a forked child
                seconds = deadline.sooner(_STEP).left()
                done, rest = hand_over(core.store, route.placement, owners, me, seconds, carrier)
                handed, left = handed + done, left + rest
        return handed, left, waiting
