"""Bring what was loaded under leases to the owners, again if it was lost on its way.

An owner answers every FillRequest: it takes what comes, or the lease is over, as it is after the first of two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kamacache.cluster.contact import has_ended
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, PeerError

if TYPE_CHECKING:
    from kamacache._engine import Promise
    from kamacache.cluster.peers import Peer
    from kamacache.net.lane import Lane
    from kamacache.net.messages import FillRequest

_LONGEST = 60.0  # seconds that a value may travel to the owner


class Fills:
    """The fills that one group of this node has sent and that no owner has answered."""

    def __init__(self, lane: Lane, timeout: float | None) -> None:
        self._lane = lane
        self._timeout = timeout  # of the lease, at the owner
        self._running: dict[Callable[[], None], Deadline] = {}  # changes in single steps, as the next
        self._sent: dict[Promise, tuple[Peer, FillRequest, Deadline]] = {}  # changes in single steps

    def send(self, peer: Peer, request: FillRequest) -> Promise:
        """Send a fill, and return its first call: it fails if that was lost."""
        return self._send(peer, request, Deadline.after(self._timeout).sooner(_LONGEST))

    def _send(self, peer: Peer, request: FillRequest, deadline: Deadline) -> Promise:
        call = self._lane.call(peer.address, request, deadline)
        self._sent[call] = peer, request, deadline
        return call

    def limit(self, late: Callable[[], None]) -> None:
        """Have `late` called, by the sweeper, when the time of a load that begins now is over."""
        self._running[late] = Deadline.after(self._timeout)

    def end(self, late: Callable[[], None]) -> None:
        """Take note that this load has ended."""
        self._running.pop(late, None)

    def send_again(self) -> None:
        """Send again what was lost, unless its owner has gone, and give back the leases of late loads.

        The sweeper calls this. Nothing is sent to an owner that is considered dead, until it is back.
        """
        for late, limit in list(self._running.items()):
            if limit.passed and self._running.pop(late, None) is not None:
                late()
        for call, (peer, request, deadline) in list(self._sent.items()):
            gone = deadline.passed or peer.left or has_ended(peer)
            if gone or (call.ended and not _is_lost(call)):
                self._sent.pop(call, None)
            elif call.ended and not peer.dead:
                self._send(peer, request, deadline)
                self._sent.pop(call, None)


def _is_lost(call: Promise) -> bool:
    """Return whether a call has ended without an answer, and another one may get it."""
    try:
        call.result()
    except PeerError as error:
        return not error.denied
    except (KamaCacheError, TimeoutError):
        return False
    return False
