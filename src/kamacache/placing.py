"""Who owns a group's keys: the members that have the group, and the table of candidates made from them."""

from __future__ import annotations

from collections.abc import Container, Mapping

from kamacache._engine import Placement
from kamacache.messages import Member

HANDED_OVER = 600.0  # seconds for which a new owner asks the one before it


class Peer:
    """A member as this node sees it. Liveness is private: others may see it differently.

    Its fields change under Membership's lock; `dead` may be read without it.
    """

    __slots__ = ("address", "dead", "greeted", "heard", "id", "left", "member", "refused", "registered", "unanswered")

    def __init__(self, member: Member, heard: float) -> None:
        self.update(member)
        self.heard = heard  # when it last gave a sign of life
        self.registered = False
        self.greeted = False  # answered our hello
        self.dead = False
        self.refused = False  # nothing listens at its address
        self.left = False  # said goodbye
        self.unanswered = 0  # probes in a row

    def update(self, member: Member) -> None:
        """It has said, or the registry has, who it is now."""
        self.member = member
        self.id = member.id
        self.address = member.address or ""

    def __repr__(self) -> str:
        return f"<Peer {self.address}{' dead' if self.dead else ''}>"


class Route:
    """An immutable answer to "who owns this key?" for one group and one view of the members.

    `peers` are the group's owners, None in the place of this node. `before` is the route that this one replaced, asked
    until `until` for what changed hands.
    """

    __slots__ = ("_placement", "_table", "before", "key", "me", "peers", "until")

    def __init__(self, peers: list[tuple[str, float, Peer | None]]) -> None:
        self.key = tuple(sorted((address, weight) for address, weight, _ in peers))
        self.peers = [peer for *_, peer in peers]
        self.me = self.peers.index(None) if None in self.peers else -1
        self._placement = Placement([(address, weight) for address, weight, _ in peers]) if len(peers) > 1 else None
        self.before: Route | None = None
        self.until = 0.0

    @property
    def placement(self) -> Placement | None:
        """The table; None where this node is alone."""
        return self._placement

    def follow(self, before: Route, until: float) -> None:
        """Remember whom to ask for what changed hands."""
        before.before = None  # one step back is enough: what was not fetched by then is loaded
        self.before, self.until = before, until

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

    def holder(self, key: str, skipped: Mapping[str, Peer], now: float) -> Peer | None:
        """Who may still hold what is about to be loaded here: a skipped one alive after all, or the owner before."""
        for peer in self.candidates(key):
            if peer.id in skipped and not peer.dead:
                return peer
        if self.before is not None and now < self.until:
            return self.before.first(key)
        return None
