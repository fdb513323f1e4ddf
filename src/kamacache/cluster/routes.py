"""Who owns a group's keys: the members that have the group, and the table of candidates made from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING

from kamacache._engine import Placement
from kamacache.cluster.peers import Peer
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Clock

HANDED_OVER = 600.0  # seconds for which a new owner asks those before it
_STEPS = 4  # changes that are remembered, each with a table of half a megabyte


class Route:
    """An immutable answer to "who owns this key?" for one group and one view of the members.

    `peers` are the group's owners, None in the place of this node. `before` is the route that this one replaced, asked
    until `until` for what changed hands; that one may have another before it.
    """

    __slots__ = ("_owners", "_placement", "before", "me", "peers", "until")

    def __init__(self, peers: list[tuple[str, float, Peer | None]]) -> None:
        self._owners = set(peers)
        self.peers = [peer for *_, peer in peers]
        self.me = self.peers.index(None) if None in self.peers else -1
        self._placement = Placement([(address, weight) for address, weight, _ in peers]) if len(peers) > 1 else None
        self.before: Route | None = None
        self.until = 0.0

    @property
    def placement(self) -> Placement | None:
        """The table; None where this node is alone."""
        return self._placement

    @property
    def alone(self) -> bool:
        """Whether no other member owns these keys, or did before."""
        return self._placement is None and self.me == 0 and self.before is None

    def same(self, peers: list[tuple[str, float, Peer | None]]) -> bool:
        """Whether these are the owners it was made for."""
        return self._owners == set(peers)

    def follow(self, before: Route, until: float) -> None:
        """Remember whom to ask for what changed hands, in earlier changes too: not all was fetched since."""
        self.before, self.until = before, until
        last = self
        for _ in range(_STEPS):
            if last.before is None:
                return
            last = last.before
        last.before = None

    def all_candidates(self, key: str) -> list[Peer | None]:
        """The owner, the next in line, …; None is this node."""
        if self._placement is None:
            return list(self.peers)
        return [self.peers[i] for i in self._placement.candidates(key)]

    def candidates(self, key: str) -> list[Peer]:
        """The same without this node."""
        return [peer for peer in self.all_candidates(key) if peer is not None]

    def first(self, key: str, skipped: Container[str] = ()) -> Peer | None:
        """The first candidate not held for dead nor skipped; None: this node, or nobody is left."""
        if self._placement is None:
            peer = self.peers[0]
            return None if peer is None or peer.dead or peer.id in skipped else peer
        peers = self.peers
        for i in self._placement.candidates(key):
            peer = peers[i]
            if peer is None or not (peer.dead or peer.id in skipped):
                return peer
        return None

    def acts(self, key: str, skipped: Container[str] = ()) -> bool:
        """Whether this node is the owner of the key, or acts as such for the dead and the skipped before it."""
        if self._placement is None:
            return self.me == 0
        for i in self._placement.candidates(key):
            peer = self.peers[i]
            if peer is None:
                return True
            if not peer.dead and peer.id not in skipped:
                return False
        return False

    def is_candidate(self, key: str) -> bool:
        """Whether this node is any of the key's candidates."""
        return None in self.all_candidates(key)

    def holders(self, key: str, skipped: Mapping[str, Peer], now: float) -> list[Peer]:
        """Who may still hold what is about to be loaded here: a skipped one alive after all, or the owners before."""
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
        self._placed = placed  # told of every new route
        self._building = threading.Lock()
        self._routes: dict[str, Route] = {}

    def get(self, group: str) -> Route:
        """Who owns the keys of a group; this node alone, where nobody else is known to have it."""
        return self._routes.get(group, _ALONE)

    def build(self, view: Callable[[], tuple[Member, Iterable[Peer], bool]]) -> None:
        """Make new routes where the owners have changed.

        `view` gives this node, the registered others, and whether one of them was back: then what was done in its place
        is its own again, and every group is told of its route once more.
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
        if before is not None and before.same(owners):
            if tell:
                self._placed(name, before)
            return
        route = Route(owners)
        if before is None and len(owners) > 1:  # the others were here first, and what is owned now was theirs
            before = Route(owners[1:])
        if before is not None:
            route.follow(before, self._clock.now() + HANDED_OVER)
        self._routes[name] = route
        self._placed(name, route)
