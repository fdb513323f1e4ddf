"""The other members as this node sees them: what the registry lists, what they say, whether they answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kamacache._engine import Flag
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Clock

log = logging.getLogger("kamacache")

_UNANSWERED = 2  # probes in a row after which a peer is considered dead


class Peer:
    """A member as this node sees it. Other nodes may see it differently.

    Its fields change under the lock of Peers. `dead` may be read without it; the engine reads the same as `down`.
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
        """Whether requests skip it."""
        return bool(self.down)

    @dead.setter
    def dead(self, dead: bool) -> None:
        self.down.set(dead)

    def update(self, member: Member) -> None:
        """Take in what the member itself or the registry says of it."""
        self.member = member
        self.id = member.id
        self.address = member.address or ""

    def __repr__(self) -> str:
        return f"<Peer {self.address}{' dead' if self.dead else ''}>"


class Peers:
    """All peers seen and not yet forgotten. Nothing here uses the network.

    Invariant, under `_lock`: `_peers` has them by address, and never this node (`own`).
    """

    def __init__(self, clock: Clock) -> None:
        self.own: str | None = None
        self._clock = clock
        self._lock = threading.Lock()
        self._peers: dict[str, Peer] = {}
        self._revived = False

    def __len__(self) -> int:
        return len(self._peers)

    # -- what is there -----------------------------------------------------------------------------------------------

    def all(self) -> list[Peer]:
        """Return the peers that have not said goodbye."""
        with self._lock:
            return [peer for peer in self._peers.values() if not peer.left]

    def known(self) -> list[Peer]:
        """Return all peers, the dead and the leaving included, in the order of their addresses."""
        with self._lock:
            return sorted(self._peers.values(), key=lambda peer: peer.address)

    def registered(self) -> list[Peer]:
        """Return the peers that the registry lists."""
        with self._lock:
            return [peer for peer in self._peers.values() if peer.registered]

    def listeners(self, silence: float) -> list[Peer]:
        """Return the peers that must be notified of writes: not gone, nor silent for longer than `silence` seconds."""
        now = self._clock.now()
        with self._lock:
            return [peer for peer in self._peers.values() if _listens(peer, now, silence)]

    def ungreeted(self) -> list[Peer]:
        """Return the peers that have not answered a hello and may do so."""
        with self._lock:
            return [
                peer
                for peer in self._peers.values()
                if not (peer.greeted or peer.left) and (not peer.dead or not peer.unanswered)
            ]

    def settled(self) -> bool:
        """Return whether each registered peer has answered a hello or is considered dead."""
        with self._lock:
            return all(peer.greeted or peer.dead or not peer.registered for peer in self._peers.values())

    def by_id(self, ids: Iterable[str]) -> dict[str, Peer]:
        """Return those of these members that are known here."""
        wanted = set(ids)
        with self._lock:
            return {peer.id: peer for peer in self._peers.values() if peer.id in wanted}

    # -- what happens ------------------------------------------------------------------------------------------------

    def listed(self, members: Iterable[Member]) -> None:
        """Take in the list of the registry."""
        listed = {member.address: member for member in members if member.address not in (None, self.own)}
        with self._lock:
            for address, member in listed.items():
                peer = self._known(address, member)
                if member.protocol:  # a list without more than addresses says less than a hello
                    peer.update(member)
                peer.registered = not peer.left
            for address, peer in self._peers.items():
                if address not in listed:
                    peer.registered = False

    def heard(self, member: Member, *, leaving: bool, answered: bool) -> float:
        """Take in a hello, `answered` to ours or sent by itself. Return for how many seconds its member was silent.

        A peer that was considered dead is alive only after it has answered a hello of ours, which says what it missed.
        """
        with self._lock:
            peer = self._known(member.address, member)
            if peer.left:  # sent before its goodbye: an id never comes back
                return 0.0
            now = self._clock.now()
            silent = now - peer.heard if peer.member.protocol else 0.0  # we missed nothing of a member that never spoke
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
        """Note that a peer has answered a hello."""
        with self._lock:
            peer.greeted = True

    def greet(self, *peers: Peer) -> None:
        """Have these peers greeted again; all, if none are given."""
        with self._lock:
            for peer in peers or self._peers.values():
                peer.greeted = False

    def answered(self, peer: Peer) -> bool:
        """Note an answer to a probe. Return whether the peer was considered dead, so that it must be greeted first."""
        with self._lock:
            peer.unanswered = 0
            peer.refused = False
            if peer.dead:
                peer.greeted = False
            else:
                peer.heard = self._clock.now()
            return peer.dead

    def unanswered(self, peer: Peer, error: Exception) -> None:
        """Note that a peer did not answer a probe or a hello, and consider it dead if that is enough."""
        with self._lock:
            peer.unanswered += 1
            dead = peer.unanswered >= _UNANSWERED or getattr(error, "refused", False)
        if dead:
            self.died(peer, error)

    def died(self, peer: Peer, error: Exception) -> bool:
        """Consider a peer dead. Return whether that is new."""
        with self._lock:
            peer.refused |= getattr(error, "refused", False)
            new, peer.dead = not peer.dead, True
        if new:
            log.info("%s is considered dead: %s; requests skip it until it answers", peer.address, error)
        return new

    def take_revived(self) -> bool:
        """Return whether any peer has revived since the last call, and reset that."""
        with self._lock:
            revived, self._revived = self._revived, False
        return revived

    def forget(self, silence: float) -> list[Peer]:
        """Drop the peers that are neither registered nor listeners any more, and return them."""
        now = self._clock.now()
        with self._lock:
            gone = [peer for peer in self._peers.values() if not (peer.registered or _listens(peer, now, silence))]
            for peer in gone:
                del self._peers[peer.address]
        return gone

    def _known(self, address: str | None, member: Member) -> Peer:
        """Return the peer at an address, a new one if another process has taken the address over. Holds the lock."""
        peer = self._peers.get(address or "")
        if peer is None or (member.protocol and peer.member.protocol and peer.id != member.id):
            peer = self._peers[address or ""] = Peer(member, self._clock.now())
        return peer


def _listens(peer: Peer, now: float, silence: float) -> bool:
    return not (peer.left or peer.refused or now - peer.heard > silence)
