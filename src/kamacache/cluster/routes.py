"""The owners of a group's keys: the members that have the group, and the table of candidates made from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING

from kamacache._engine import Placement
from kamacache.cluster.peers import Peer
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Clock

HANDED_OVER = 600.0  # seconds for which a new owner asks the owners before it
_STEPS = 4  # earlier routes that are remembered, each with a table of half a megabyte


class Route:
    """The owners of one group's keys by one view of the members. It never changes after it is published.

    `peers` are the owners, None in the place of this node. `placement` is their table, None if there is one owner.
    `before` is the route that this one replaced, and may itself have one before it; its owners are asked for keys that
    changed hands, until `until`.
    """

    __slots__ = ("before", "me", "owners", "peers", "placement", "until")

    def __init__(self, peers: list[tuple[str, float, Peer | None]]) -> None:
        self.owners = set(peers)
        self.peers = [peer for *_, peer in peers]
        self.me = self.peers.index(None) if None in self.peers else -1
        self.placement = Placement([(address, weight) for address, weight, _ in peers]) if len(peers) > 1 else None
        self.before: Route | None = None
        self.until = 0.0

    @property
    def alone(self) -> bool:
        """Whether no other member owns these keys, or did before."""
        return self.placement is None and self.me == 0 and self.before is None

    def follow(self, before: Route, until: float) -> None:
        """Remember the owners of before, in earlier changes too: not every key that changed hands was fetched since."""
        self.before, self.until = before, until
        last = self
        for _ in range(_STEPS):
            if last.before is None:
                return
            last = last.before
        last.before = None

    def all_candidates(self, key: str) -> list[Peer | None]:
        """Return the owner of a key and the candidates after it; None is this node."""
        if self.placement is None:
            return self.peers
        return [self.peers[i] for i in self.placement.candidates(key)]

    def candidates(self, key: str) -> list[Peer]:
        """Return the same without this node."""
        return [peer for peer in self.all_candidates(key) if peer is not None]

    def first(self, key: str, skipped: Container[str] = ()) -> Peer | None:
        """Return the first candidate that is neither considered dead nor skipped; None: this node, or none is left."""
        for peer in self.all_candidates(key):
            if peer is None or not (peer.dead or peer.id in skipped):
                return peer
        return None

    def acts(self, key: str, skipped: Container[str] = ()) -> bool:
        """Return whether this node owns the key, or stands in for dead and skipped candidates before it."""
        for peer in self.all_candidates(key):
            if peer is None:
                return True
            if not peer.dead and peer.id not in skipped:
                return False
        return False

    def is_candidate(self, key: str) -> bool:
        """Return whether this node is one of the key's candidates."""
        return None in self.all_candidates(key)

    def holders(self, key: str, skipped: Mapping[str, Peer], now: float) -> list[Peer]:
        """Return the peers that may have what is to be loaded here: a skipped one that lives, or the owners before."""
        for peer in self.candidates(key):
            if peer.id in skipped and not peer.dead:
                return [peer]
        found: list[Peer] = []
        until, before = self.until, self.before
        while before is not None and now < until:
            if (owner := before.first(key)) is not None and owner not in found:
                found.append(owner)
            until, before = before.until, before.before
        return found


_ALONE = Route([("", 1.0, None)])


class Routes:
    """The route of every group of this node. Reading one takes no lock.

    Invariant: `_routes` changes under `_building` alone, so that an older view never replaces a newer one.
    """

    def __init__(self, clock: Clock, placed: Callable[[str, Route], None]) -> None:
        self._clock = clock
        self._placed = placed  # called with every new route
        self._building = threading.Lock()
        self._routes: dict[str, Route] = {}

    def get(self, group: str) -> Route:
        """Return the owners of a group's keys: this node alone, if no other is known to have the group."""
        return self._routes.get(group, _ALONE)

    def build(self, view: Callable[[], tuple[Member, Iterable[Peer], bool]]) -> None:
        """Make new routes for the groups whose owners have changed.

        `view` returns this node, its registered peers, and whether one of them has revived. It owns again what others
        did in its place, so every group gets its route once more.
        """
        with self._building:
            me, registered, revived = view()
            registered = list(registered)
            before = self._routes
            self._routes = {name: before[name] for name in me.groups if name in before}
            for name in me.groups:
                self._build(name, me, registered, tell=revived)

    def _build(self, name: str, me: Member, registered: list[Peer], *, tell: bool) -> None:
        owners: list[tuple[str, float, Peer | None]] = [(me.address or "", me.weight, None)]
        owners += [
            (peer.address, peer.member.weight, peer)
            for peer in registered
            if name in peer.member.groups or not peer.member.protocol
        ]
        before = self._routes.get(name)
        if before is not None and before.owners == set(owners):
            if tell:
                self._placed(name, before)
            return
        route = Route(owners)
        if before is None and len(owners) > 1:  # the others were here first and owned these keys
            before = Route(owners[1:])
        if before is not None:
            route.follow(before, self._clock.now() + HANDED_OVER)
        self._routes[name] = route
        self._placed(name, route)
