"""Keep facts of peers that were forgotten, by their ids: a list may name them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kamacache.cluster.peer import Peer

_MOST = 10_000


class Known(NamedTuple):
    """Facts of a forgotten peer: it had answered once; it was known to have ended."""

    confirmed: bool = False
    ended: bool = False


class Forgotten:
    """The last forgotten peers. Their owner holds its lock."""

    def __init__(self) -> None:
        self._left: dict[str, None] = {}  # they said goodbye, and never come back
        self._others: dict[str, Known] = {}

    def add(self, peer: Peer) -> None:
        """Take note of a peer that is forgotten."""
        if peer.left:
            self._left[peer.id] = None
        else:
            self._others[peer.id] = Known(peer.confirmed, peer.ended)
        for ids in (self._left, self._others):
            while len(ids) > _MOST:
                del ids[next(iter(ids))]

    def left(self, id_: str) -> bool:
        """Return whether a member said goodbye."""
        return id_ in self._left

    def has_ended(self, id_: str) -> bool:
        """Return whether a member said goodbye, or is known to have ended."""
        return id_ in self._left or self._others.get(id_, Known()).ended

    def take(self, id_: str) -> Known | None:
        """Return what is known of a member that is back, once."""
        return self._others.pop(id_, None)
