"""The other members as this node sees them: what the registry lists, what they say, whether they answer."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kamacache._engine import monotonic
from kamacache.cluster.contact import Listeners, has_ended, must_be_told
from kamacache.cluster.forgotten import Forgotten
from kamacache.cluster.peer import LEFT, Peer
from kamacache.log import log
from kamacache.member import Member

if TYPE_CHECKING:
    from kamacache._engine import Contacts

__all__ = ["Peer", "Peers"]
_ANEW = 3  # probes left unanswered in which a member registers anew if the registry lost its data
_UNANSWERED = 2  # probes in a row after which a peer is considered dead


class Peers:
    """All peers seen and not yet forgotten. Nothing here uses the network.

    Invariant, under `_lock`: `_peers` has them by address, and never this node (`own`). The contact with a peer begins
    after it is told of each write, and ends before it is not. `_peers` only grows by a new Peer, which is Watched, made
    under the lock: so listeners that were found before are void before its contact begins.
    """

    def __init__(self, contacts: Contacts, *, notices_deaths: bool = True, sees_ends: bool = False) -> None:
        self.own: str | None = None
        self.parted = ("", 0.0)  # the last member that began to leave, and when
        self._contacts = contacts
        self._must_be_told = functools.partial(must_be_told, notices_deaths=notices_deaths)
        self._sees_ends = sees_ends  # the registry soon knows of each process that it has ended
        self._lock = threading.Lock()
        self._listeners = Listeners(self._to_tell)
        self._peers: dict[str, Peer] = {}
        self._forgotten = Forgotten()
        self._turned = False

    def __len__(self) -> int:
        return len(self._peers)

    # -- what is there -----------------------------------------------------------------------------------------------

    def all(self) -> list[Peer]:
        """Return the peers that may answer: also those that left a fixed list, whose addresses others may take."""
        with self._lock:
            return [peer for peer in self._peers.values() if peer.fixed or not peer.left]

    def left(self) -> list[Member]:
        """Return the members of a fixed list that said goodbye, and are not back."""
        with self._lock:
            return [peer.member for peer in self._peers.values() if peer.fixed and peer.left]

    def known(self) -> list[Peer]:
        """Return all peers, the dead and the leaving included, in the order of their addresses."""
        with self._lock:
            return sorted(self._peers.values(), key=lambda peer: peer.address)

    def registered(self) -> list[Peer]:
        """Return the peers that the registry lists."""
        with self._lock:
            return [peer for peer in self._peers.values() if peer.registered]

    def listeners(self, silence: int) -> tuple[Peer, ...]:
        """Return the peers that must be notified of writes."""
        return self._listeners.get(silence)

    def _to_tell(self, silence: int) -> list[Peer]:
        with self._lock:
            return [peer for peer in self._peers.values() if self._must_be_told(peer, silence)]

    def ungreeted(self) -> list[tuple[Peer, int]]:
        """Return the peers that have not answered the hello that is due and may do so, and its number for each."""
        with self._lock:
            return [
                (peer, peer.due)
                for peer in self._peers.values()
                if not (peer.greeted or peer.left) and (not peer.dead or not peer.unanswered)
            ]

    def gone(self) -> list[str]:
        """Return the ids and addresses of the peers that were known, and have ended.

        If a list says no more than addresses, these are the ids of members that have not spoken yet.
        """
        with self._lock:
            ended = [peer for peer in self._peers.values() if has_ended(peer) and peer.member.protocol]
        return [name for peer in ended for name in (peer.id, peer.address)]

    def settled(self) -> bool:
        """Return whether each registered peer has answered a hello or is considered dead."""
        with self._lock:
            return all(peer.greeted or peer.dead or not peer.registered for peer in self._peers.values())

    def remaining(self, lost: Iterable[Member], drop: Callable[[Member], None]) -> list[Member]:
        """Return those of the lost members that may live, and drop those that are known not to answer."""
        remaining = []
        for member in lost:
            with self._lock:
                keep, gone = self._remains(member, self._peers.get(member.address or ""))
            if gone:
                drop(member)
            elif keep:
                remaining.append(member)
        return remaining

    def _remains(self, member: Member, peer: Peer | None) -> tuple[bool, bool]:
        """Return whether to go on with a lost member, and whether it is gone. Holds the lock.

        Neither is so while it is not known who answers at its address now.
        """
        if self._forgotten.has_ended(member.id):
            return False, True
        if peer is None or peer.id == member.id:
            gone = peer is not None and (peer.dead or peer.left)
            return not gone, gone
        return peer.dead, not peer.dead and peer.member.protocol > 0

    def by_id(self, ids: Iterable[str]) -> dict[str, Peer]:
        """Return those of these members that are known here."""
        wanted = set(ids)
        with self._lock:
            return {peer.id: peer for peer in self._peers.values() if peer.id in wanted}

    # -- what happens ------------------------------------------------------------------------------------------------

    def listed(self, members: Iterable[Member], is_dead: Callable[[str], bool] = lambda _: False) -> None:
        """Take in the list of the registry, and which members it knows to be dead.

        It may list a member after its goodbye: until its lease ends, if that member could not deregister.
        """
        with self._lock:
            listed = {member.address: member for member in members if self._may_be(member)}
            for address, member in listed.items():
                peer = self._known(address, member)
                if member.protocol:  # else the list says less than a hello
                    self._update(peer, member)
                peer.fixed, peer.registered = not member.protocol, not peer.left
            for address, peer in self._peers.items():
                if address not in listed:
                    if peer.registered:
                        peer.bound = peer.silent + _ANEW
                    peer.registered = peer.fixed = False
                    peer.ended |= is_dead(peer.id)

    def introduced(self, members: Iterable[Member]) -> None:
        """Take in members that another one lists, if they are not known here."""
        with self._lock:
            for member in members:
                if member.address not in self._peers and self._may_be(member):
                    self._known(member.address, member).registered = True

    def heard(self, member: Member, *, leaving: bool, answered: bool, has: int = 0) -> str:
        """Take in a hello, `answered` to ours or sent by itself. Return what is new of it, in words.

        A known process that was considered dead is alive only after it has answered a hello of ours. It `has` all our
        writes up to a number; 0: it was never told of any before, and remembers nothing that could be older.
        """
        with self._lock:
            if self._forgotten.left(member.id) or (peer := self._known(member.address, member)).left:
                return ""  # sent before its goodbye: an id never comes back
            first = not peer.member.protocol  # of its address: a new member, as one that no list had before
            self._update(peer, member)
            was = peer.skipped
            peer.lives()
            peer.confirmed |= answered
            if leaving or member.leaving:
                self.parted = (peer.id, monotonic())
            if leaving:
                self._leave(peer)
                return LEFT
            peer.registered |= not answered
            if peer.dead and (answered or first):
                peer.dead = False
                self._begin(peer)
            elif peer.dead:
                peer.due += 1
            if peer.behind or not peer.said:  # else this is an answer that its last hello has overtaken
                peer.behind = 0 < has < self._contacts.shown(peer.id).begun
                peer.said = True
            self._turned |= was and not peer.skipped
            return peer.news()

    def departed(self, members: Iterable[Member]) -> None:
        """Take in that members said goodbye to another one, unless they were heard since."""
        with self._lock:
            for member in members:
                peer = self._peers.get(member.address or "")
                if peer and not peer.left and (peer.id == member.id or not (peer.member.protocol or peer.confirmed)):
                    self._update(peer, member)
                    self._leave(peer)

    def _leave(self, peer: Peer) -> None:
        """Note that a peer said goodbye: from now on it owns nothing, whatever the list says. Holds the lock."""
        self._contacts.end(peer.id)
        peer.left, peer.dead, peer.registered = True, True, False

    def greeted(self, peer: Peer, number: int) -> bool:
        """Note that a peer has answered the hello of a number. Return whether no other is due since."""
        with self._lock:
            peer.hello = number
            return peer.greeted

    def greet(self, *peers: Peer) -> None:
        """Have these peers greeted again; all, if none are given."""
        with self._lock:
            for peer in peers or self._peers.values():
                peer.due += 1

    def answered(self, peer: Peer) -> bool:
        """Note an answer to a probe. Return whether the peer was considered dead, so that it must be greeted first."""
        with self._lock:
            was = peer.skipped
            peer.lives()
            peer.confirmed = True
            self._turned |= was and not peer.skipped
            if peer.dead:
                peer.due += 1
            return peer.dead

    def taken_over(self, peer: Peer) -> None:
        """Note that another process answers at the address of a peer. It is to be told of writes, and greeted."""
        with self._lock:
            if self._peers.get(peer.address) is peer:
                other = self._put(Peer(Member(peer.address, peer.address, protocol=0)))
                other.registered, other.fixed = peer.registered or peer.fixed, peer.fixed

    def alive(self, ids: Iterable[str]) -> None:
        """Note that these members have given a sign of life."""
        for peer in self.by_id(ids).values():
            peer.silent = peer.bound = 0

    def unanswered(self, peer: Peer, error: Exception) -> None:
        """Note that a peer did not answer a probe or a hello, and consider it dead if that is enough."""
        with self._lock:
            peer.unanswered, peer.silent = peer.unanswered + 1, peer.silent + 1
            dead = peer.unanswered >= _UNANSWERED or getattr(error, "refused", False)
        if dead:
            self.died(peer, error)

    def doubt(self, peer: Peer) -> bool:
        """Have requests for values skip a peer until it gives a sign of life. Return whether that is new."""
        with self._lock:
            new, peer.doubted = not (peer.dead or peer.doubted), True
        return new

    def died(self, peer: Peer, error: Exception) -> bool:
        """Consider a peer dead. Return whether that is new."""
        with self._lock:
            refused = getattr(error, "refused", False)
            peer.refused = refused or (peer.refused and peer.member.protocol > 0)  # else one may listen there by now
            if new := not peer.dead:
                self._contacts.end(peer.id)
                peer.dies(ends=getattr(error, "broken", False) or (self._sees_ends and refused))
                self._turned = True
        if new:
            text = "%(peer)s is considered dead: %(error)s; requests skip it until it answers"
            log.info(text, peer=peer.address, error=error)
        return new

    def ended(self, ids: Iterable[str]) -> None:
        """Note that others know these members to have ended."""
        for peer in self.by_id(ids).values():
            peer.ended |= peer.dead

    def take_turned(self) -> bool:
        """Return whether any peer has revived or died since the last call, and reset that."""
        with self._lock:
            turned, self._turned = self._turned, False
        return turned

    def forget(self, silence: int) -> list[Peer]:
        """Drop the peers that are neither on the list nor listeners any more, and return them."""
        with self._lock:
            gone = [p for p in self._peers.values() if not (p.registered or p.fixed or self._must_be_told(p, silence))]
            for peer in gone:
                self._contacts.forget(peer.id)
                del self._peers[peer.address]
                self._forgotten.add(peer)
        return gone

    def _may_be(self, member: Member) -> bool:
        """Return whether a member is another one than this, and has not said goodbye. Holds the lock."""
        return member.address not in (None, self.own) and not self._forgotten.left(member.id)

    def _known(self, address: str | None, member: Member) -> Peer:
        """Return the peer at an address, a new one if another process has taken the address over. Holds the lock."""
        peer = self._peers.get(address or "")
        if peer is None or (member.protocol and peer.member.protocol and peer.id != member.id):
            peer = self._put(Peer(member))
            if (before := self._forgotten.take(member.id)) is not None:
                peer.confirmed, peer.ended = before
                peer.behind, peer.present = True, False  # it is behind until its hello says what it has
                if peer.ended:
                    self._contacts.end(peer.id)
                    peer.dead = True
        return peer

    def _put(self, peer: Peer) -> Peer:
        """Put a peer in the place of the one at its address, if there is any. Holds the lock."""
        before, self._peers[peer.address] = self._peers.get(peer.address), peer
        if before is not None:
            self._contacts.forget(before.id)
        self._begin(peer)
        return peer

    def _begin(self, peer: Peer) -> None:
        """Begin a contact. Holds the lock."""
        self._contacts.begin(peer.id)
        peer.said = False

    def _update(self, peer: Peer, member: Member) -> None:
        """Take in what a member said of itself, unless it has changed that since. Holds the lock.

        Until it spoke, its address may have been its id.
        """
        if member.id == peer.id and member.revision < peer.member.revision:
            return
        before = peer.id
        peer.update(member)
        if peer.id != before:
            self._contacts.forget(before)
            if not peer.dead:
                self._begin(peer)
