"""The other members as this node sees them: what the registry lists, what they say, and whether they answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kamacache._engine import Flag
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Clock

_UNANSWERED = 2  # probes in a row after which a member counts as dead


class Peer:
    """A member as this node sees it. Liveness is private: others may see it differently.

    Its fields change under the lock of Peers; `dead` may be read without it, as the engine does by `down`.
    """

    __slots__ = ("address", "down", "greeted", "heard", "id", "left", "member", "refused", "registered", "unanswered")

    def __init__(self, member: Member, heard: float) -> None:
        self.update(member)
        self.heard = heard  # when it last gave a sign of life
        self.registered = False
        self.greeted = False  # answered our hello
        self.down = Flag()
        self.refused = False  # nothing listens at its address
        self.left = False  # said goodbye
        self.unanswered = 0  # probes in a row

    @property
    def dead(self) -> bool:
        """Whether requests pass over it."""
        return bool(self.down)

    @dead.setter
    def dead(self, dead: bool) -> None:
        self.down.set(dead)

    def update(self, member: Member) -> None:
        """It has said, or the registry has, who it is now."""
        self.member = member
        self.id = member.id
        self.address = member.address or ""

    def __repr__(self) -> str:
        return f"<Peer {self.address}{' dead' if self.dead else ''}>"


class Peers:
    """Everyone seen and not yet forgotten; knows no network.

    Invariant, under `_lock`: `_peers` has them by address, this node (`own`) never among them.
    """

    def __init__(self, clock: Clock) -> None:
        self.own: str | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {}
        self._revived = False

    def __len__(self) -> int:
        return len(self._peers)

    # -- who is there ------------------------------------------------------------------------------------------------

    def all(self) -> list[Peer]:
        """Everyone who has not said goodbye."""
        with self._lock:
            return [peer for peer in self._peers.values() if not peer.left]

    def known(self) -> list[Peer]:
        """Everyone, by address."""
        with self._lock:
            return sorted(self._peers.values(), key=lambda peer: peer.address)

    def registered(self) -> list[Peer]:
        """Those that the registry lists."""
        with self._lock:
            return [peer for peer in self._peers.values() if peer.registered]

    def listeners(self, silence: float) -> list[Peer]:
        """Those who must be told of writes: not gone, and not silent for longer than that many seconds."""
        if not self._peers:
            return []
        now = self._clock.now()
        with self._lock:
            return [peer for peer in self._peers.values() if _listens(peer, now, silence)]

    def ungreeted(self) -> list[Peer]:
        """Those who have not answered a hello and may do so."""
        with self._lock:
            return [
                peer
                for peer in self._peers.values()
                if not (peer.greeted or peer.left) and (not peer.dead or not peer.unanswered)
            ]

    def settled(self) -> bool:
        """Whether everyone who is registered has answered a hello, or is held for dead."""
        with self._lock:
            return all(peer.greeted or peer.dead or not peer.registered for peer in self._peers.values())

    def by_id(self, ids: Iterable[str]) -> dict[str, Peer]:
        """Those of these members that are known here."""
        wanted = set(ids)
        with self._lock:
            return {peer.id: peer for peer in self._peers.values() if peer.id in wanted}

    # -- what happens ------------------------------------------------------------------------------------------------

    def listed(self, members: Iterable[Member]) -> None:
        """The registry's list as it is now."""
        listed = {member.address: member for member in members if member.address not in (None, self.own)}
        with self._lock:
            for address, member in listed.items():
                peer = self._known(address, member)
                if member.protocol:  # what a hello says is known better than a bare list
                    peer.update(member)
                peer.registered = not peer.left
            for address, peer in self._peers.items():
                if address not in listed:
                    peer.registered = False

    def heard(self, member: Member, *, leaving: bool, answered: bool) -> float:
        """A hello came in, in answer to ours or by itself: the seconds since the member was last heard of.

        Who was held for dead is alive only once it has answered a hello of ours, and with it learned what it missed.
        """
        with self._lock:
            peer = self._known(member.address, member)
            if peer.left:  # said before its goodbye, and late: an id never comes back
                return 0.0
            now = self._clock.now()
            silent = now - peer.heard if peer.member.protocol else 0.0  # what never spoke, we have not missed
            peer.update(member)
            peer.heard = now
            peer.unanswered = 0
            peer.refused = False
            peer.left = leaving
            if leaving:
                peer.dead = True
                peer.registered = False
                return silent
            peer.registered |= not answered
            if peer.dead and answered:
                peer.dead = False
                self._revived = True
            elif peer.dead:
                peer.greeted = False
        return silent

    def greeted(self, peer: Peer) -> None:
        """It answered a hello."""
        with self._lock:
            peer.greeted = True

    def greet(self, *peers: Peer) -> None:
        """Have these greeted again; all, if none are given."""
        with self._lock:
            for peer in peers or self._peers.values():
                peer.greeted = False

    def answered(self, peer: Peer) -> bool:
        """It answered a probe: whether it was held for dead, and is to be greeted first."""
        with self._lock:
            peer.unanswered = 0
            peer.refused = False
            if peer.dead:
                peer.greeted = False
            else:
                peer.heard = self._clock.now()
            return peer.dead

    def unanswered(self, peer: Peer, error: Exception) -> bool:
        """It did not answer a probe or a hello: whether it counts as dead from now on."""
        with self._lock:
            peer.unanswered += 1
            dead = peer.unanswered >= _UNANSWERED or getattr(error, "refused", False)
        return dead and self.died(peer, error)

    def died(self, peer: Peer, error: Exception) -> bool:
        """It is held for dead: whether that is new."""
        with self._lock:
            peer.refused |= getattr(error, "refused", False)
            new, peer.dead = not peer.dead, True
        return new

    def take_revived(self) -> bool:
        """Whether someone was back since the last call."""
        with self._lock:
            revived, self._revived = self._revived, False
        return revived

    def forget(self, silence: float) -> list[Peer]:
        """Let go of whoever is not registered and no listener any more."""
        now = self._clock.now()
        with self._lock:
            gone = [peer for peer in self._peers.values() if not (peer.registered or _listens(peer, now, silence))]
            for peer in gone:
                del self._peers[peer.address]
        return gone

    def _known(self, address: str | None, member: Member) -> Peer:
        """Under the lock: the peer at an address; a new one where another process has taken the address over."""
        peer = self._peers.get(address or "")
        if peer is None or (member.protocol and peer.member.protocol and peer.id != member.id):
            peer = self._peers[address or ""] = Peer(member, self._clock.now())
        return peer


def _listens(peer: Peer, now: float, silence: float) -> bool:
    return not (peer.left or peer.refused or now - peer.heard > silence)
