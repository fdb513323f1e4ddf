"""The owners of a group's keys, and the table of candidates made from them.

The owners are the registered members that can load the group. If none can, they are all members that have it. A client
node owns nothing. Of a member that has not spoken yet, as those of static:// at first, this is not known: it counts as
one that may load, and not as a sign that any does. One that said goodbye is not registered, whatever a fixed list says.
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from kamacache._engine import Placement
from kamacache.cluster.peers import Peer
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Clock

Owner = tuple[str, float, Peer | None]  # an address, a weight, and the peer; None is this node
Tables = dict[tuple[tuple[str, float], ...], Placement]  # by the addresses and weights of owners
NO_PLACE = 65_535  # a position that no owner has in a table
HANDED_OVER = 600.0  # seconds for which a new owner asks the owners before it
SETTLING = 60.0  # seconds in which any member may have what it owned by a table that this node never had
_STEPS = 4  # earlier routes that are remembered, each with a table of half a megabyte


class Route:
    """The owners of one group's keys by one view of the members. Only `leaving` changes after it is published.

    `peers` are the owners, None in the place of this node. `placement` is their table, None if there is no other;
    `me` is the position of this node in it, one that no owner has if this node is none. `loads` is whether a
    member is known to load the keys. `before` is the route that this one replaced, and may itself have one before it;
    its owners are asked for keys that changed hands, until `until`. So are the peers in `leaving`, for any key: each
    may have taken over what others had, and owns nothing any more. Until `settling`, see by_decider.
    """

    __slots__ = ("before", "leaving", "loads", "me", "owners", "peers", "placement", "settling", "until")

    def __init__(self, owners: list[Owner], *, loads: bool = False, tables: Tables | None = None) -> None:
        self.owners = set(owners)
        self.peers = [peer for *_, peer in owners]
        self.me = self.peers.index(None) if None in self.peers else NO_PLACE
        several = self.peers and self.peers != [None]
        self.placement = _table(owners, {} if tables is None else tables) if several else None
        self.loads = loads
        self.before: Route | None = None
        self.until = self.settling = 0.0
        self.leaving: tuple[Peer, ...] = ()

    @property
    def alone(self) -> bool:
        """Return whether no other member owns these keys, or did before."""
        return self.peers == [None] and self.before is None

    def may_load(self, now: float) -> bool:
        """Return whether a member can load these keys, could a while ago, or may, as far as is known here."""
        route: Route | None = self
        until = math.inf
        while route is not None and now < until:
            if route.loads or any(peer and not (peer.member.protocol or peer.skipped) for peer in route.peers):
                return True
            until, route = route.until, route.before
        return False

    def follow(self, before: Route, now: float) -> None:
        """Remember the owners of before, in earlier changes too: not every key that changed hands was fetched since."""
        self.before, self.until, self.settling = before, now + HANDED_OVER, now + SETTLING
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

    def first(self, key: str, skipped: Container[str] = (), *, helpless: bool = False) -> Peer | None:
        """Return the first candidate that is neither considered dead nor skipped; None: this node, or none is left.

        A node that is `helpless` cannot load. If none is left, it asks doubted candidates, and then any owner.
        """
        for peer in self.all_candidates(key):
            if peer is None or not (peer.skipped or peer.id in skipped):
                return peer
        if not helpless or None in self.peers:
            return None
        owners = sorted(filter(None, self.peers), key=lambda peer: peer.address)
        asked = (peer for peer in (*self.candidates(key), *owners) if not (peer.dead or peer.behind))
        return next((peer for peer in asked if peer.id not in skipped), None)

    def is_served(self, group: str) -> bool:
        """Return whether one of the owners is known to load the group, and lives, as far as is known here."""
        loading = (peer for peer in self.peers if peer is not None and group in peer.member.loads)
        return any(not (peer.dead or peer.ended or peer.member.leaving) for peer in loading)

    def acts(self, key: str, skipped: Container[str] = ()) -> bool:
        """Return whether this node owns the key, or stands in for dead and skipped candidates before it.

        If no member can own it, any node acts.
        """
        for peer in self.all_candidates(key):
            if peer is None:
                return True
            if not peer.skipped and peer.id not in skipped:
                return False
        return not self.peers

    def keeps(self, key: str, skipped: Container[str] = ()) -> bool:
        """Return whether the main copy of the key belongs here: this node owns it, or stands in for its owner."""
        return None in self.peers and self.acts(key, skipped)

    def is_candidate(self, key: str) -> bool:
        """Return whether this node is one of the key's candidates."""
        return None in self.all_candidates(key)

    def holders(self, key: str, skipped: Mapping[str, Peer], now: float) -> list[Peer]:
        """Return the peers that may have what is to be loaded here: a skipped one that lives, or the owners before."""
        for peer in self.candidates(key):
            if peer.id in skipped and not peer.skipped:
                return [peer]
        found = [peer for peer in self.leaving if not peer.skipped]
        until, before = self.until, self.before
        while before is not None and now < until:
            if (owner := before.first(key)) is not None and owner not in found:
                found.append(owner)
            until, before = before.until, before.before
        return found

    def by_decider(self, keys: list[str], now: float) -> dict[Peer, list[str]]:
        """Return the keys of which each peer may have decided before this node: all peers while the members settle.

        Of several that join at once, one may decide for a moment by a table that the others never had.
        """
        if now >= self.settling:
            return self.by_holder(keys, {}, now)
        found: dict[Peer | None, list[str]] = dict.fromkeys((*self.leaving, *self.peers), keys)
        before = self.before
        while before is not None:
            found |= dict.fromkeys(before.peers, keys)
            before = before.before
        return {peer: asked for peer, asked in found.items() if peer is not None and not peer.skipped}

    def by_holder(self, keys: Iterable[str], skipped: Mapping[str, Peer], now: float) -> dict[Peer, list[str]]:
        """Return the keys that each peer may have; see holders."""
        found: dict[Peer, list[str]] = defaultdict(list)
        for key in keys:
            for peer in self.holders(key, skipped, now):
                found[peer].append(key)
        return found


def _table(owners: list[Owner], tables: Tables) -> Placement:
    """Return the table of these owners, of which many groups may have the same: one takes milliseconds to make."""
    members = tuple((address, weight) for address, weight, _ in owners)
    found = tables.get(members)
    if found is None:
        found = tables[members] = Placement(list(members))
    return found


_ALONE = Route([("", 1.0, None)])
_NONE = Route([])


class Routes:
    """The route of every group of this node. Reading one takes no lock.

    Invariant: `_routes` changes under `_building` alone, so that an older view never replaces a newer one.
    """

    def __init__(self, clock: Clock, placed: Callable[[str, Route], None], *, client: bool = False) -> None:
        self._clock = clock
        self._placed = placed  # called with every new route
        self._default = _NONE if client else _ALONE
        self._building = threading.Lock()
        self._routes: dict[str, Route] = {}

    def get(self, group: str) -> Route:
        """Return the owners of a group's keys: this node alone, if no other is known to have the group."""
        return self._routes.get(group, self._default)

    def build(self, view: Callable[[], tuple[Member, Iterable[Peer], bool]]) -> None:
        """Make new routes for the groups whose owners have changed.

        `view` returns this node, its registered peers, and whether one of them has revived or died. Others stand in for
        it no more, or from now on, so every group gets its route once more.
        """
        with self._building:
            me, registered, turned = view()
            members = [_seen(me), *(_seen(peer.member, peer) for peer in registered)]
            before = self._routes
            self._routes = {name: before[name] for name in me.groups if name in before}
            tables: Tables = {}
            for name in me.groups:
                self._build(name, members, tables, tell=turned)

    def _build(self, name: str, members: list[_Seen], tables: Tables, *, tell: bool) -> None:
        owners, loads = _owners(name, members)
        leaving = tuple(seen.peer for seen in members if seen.peer and seen.member.leaving and name in seen.groups)
        before = self._routes.get(name)
        if not loads and before is not None and before.is_served(name):  # the registry has lost what it knew of them
            owners = list(before.owners)
        if before is not None and before.owners == set(owners):
            before.leaving = leaving
            if tell:
                self._placed(name, before)
            return
        route = Route(owners, loads=loads, tables=tables)
        route.leaving = leaving
        if before is None and None in route.peers and (first := _owners(name, members[1:], leaving=True)[0]):
            before = Route(first, tables=tables)  # they were here first and owned these keys
        if before is not None:
            route.follow(before, self._clock.now())
        self._routes[name] = route
        self._placed(name, route)


class _Seen(NamedTuple):
    """A member as a build sees it; `peer` is None for this node. It has sets, as every group is looked for in them."""

    peer: Peer | None
    member: Member
    groups: frozenset[str]
    loads: frozenset[str]

    @property
    def owner(self) -> Owner:
        return self.member.address or "", self.member.weight, self.peer


def _seen(member: Member, peer: Peer | None = None) -> _Seen:
    return _Seen(peer, member, frozenset(member.groups), frozenset(member.loads))


def _owners(name: str, members: Iterable[_Seen], *, leaving: bool = False) -> tuple[list[Owner], bool]:
    """Return the owners of a group among these members, and whether a member is known to load it.

    With `leaving`, those count that do not own it any more.
    """
    having = [
        seen
        for seen in members
        if not (seen.member.client or (seen.member.leaving and not leaving))
        and (name in seen.groups or not seen.member.protocol)
    ]
    loads = any(name in seen.loads for seen in having)
    owners = [seen.owner for seen in having if not loads or name in seen.loads or not seen.member.protocol]
    return owners, loads
