"""Hellos and pings: the messages by which a node and the other members learn of each other.

It runs on the thread of the membership, but for hellos that come in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kamacache._engine import monotonic
from kamacache.cluster.contact import Reading
from kamacache.cluster.differences import Differences
from kamacache.cluster.peer import JOINED
from kamacache.deadline import Deadline
from kamacache.errors import ConfigError, KamaCacheError, PeerError
from kamacache.log import log
from kamacache.net.messages import Hello
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.cluster.membership import Membership
    from kamacache.cluster.peers import Peer
    from kamacache.groups import View
    from kamacache.member import Member
    from kamacache.net.messages import Contact
    from kamacache.runtime import Runtime

PROBE_INTERVAL = 1.0  # seconds
HELLO_TIMEOUT = 1.0  # seconds
_UNREACHED = "others may not reach this node at "
DENIED = "no trust between this node and "


class Exchange:
    """The hellos and pings of one membership."""

    def __init__(self, membership: Membership, runtime: Runtime, groups: View) -> None:
        self._membership = membership
        self._runtime = runtime
        self._groups = groups
        self._reading = Reading(runtime.lane, groups.values)
        self._differences = Differences()
        self._probed: float | None = None  # when the members were last probed; None: probe them now

    def again(self) -> None:
        """Probe all members at the next turn."""
        self._probed = None

    def forget(self, peer: Peer) -> None:
        """Drop what is known of a member that is gone."""
        self._membership.troubles.forget(DENIED + peer.address)
        self._differences.forget(peer.id)
        if peer.present and not (peer.left or peer.dead):  # else that was logged
            text = "%(kind)s %(member)s at %(peer)s has ended"
            log.info(text, kind=_kind(peer.member), member=peer.id, peer=peer.address)
        if peer.left or peer.ended:  # its id never comes back
            self._reading.forget_member(peer.id)

    # -- hellos ------------------------------------------------------------------------------------------------------

    def hello(self, to: str) -> Hello:
        """Return what this node says of itself to the member of that id."""
        contact = self._runtime.lane.contacts.shown(to)._replace(has=self._reading.has(to))
        groups, peers = self._groups.states(), self._membership.peers
        me, clock = self._membership.me, self._runtime.hlc.latest()
        return Hello(me, clock, groups, contact, gone=peers.gone(), left=peers.left())

    def greet(self) -> bool:
        """Say hello to each peer that has not answered one yet. Return whether all writes of those that do are here."""
        peers = self._membership.peers.ungreeted()  # before the hellos are made
        whole = True
        deadline = Deadline.after(HELLO_TIMEOUT)
        call = self._runtime.lane.call
        calls = [(peer, number, call(peer.address, self.hello(peer.id), deadline)) for peer, number in peers]
        for peer, number, one in calls:
            try:
                answer: Hello = Wait(one, deadline).run()
            except (KamaCacheError, TimeoutError) as error:
                self._unanswered(peer, error)
            else:
                self._note(answer, answered=True)
                if self._membership.peers.greeted(peer, number):
                    self._membership.troubles.mended(DENIED + peer.address, f"{peer.address} answers again")
                whole &= self._catch_up(peer, answer.contact)
        return whole

    def take_in(self, hello: Hello) -> None:
        """Take in the hello or goodbye of a peer."""
        self._note(hello, answered=False)
        if self._reading.is_behind(hello.contact):
            self.again()  # its answer to a ping says what to fetch

    def _note(self, hello: Hello, *, answered: bool) -> None:
        """Take in what a hello says: its member, its clock, its groups."""
        me, peers, troubles = self._membership.me, self._membership.peers, self._membership.troubles
        good = self._runtime.saw(hello.clock)
        self._runtime.hlc.heard(hello.contact.now_ms)
        if hello.member.address in (None, me.address):
            return
        clock = f"the clock of {hello.member.address} is wrong, or this node's"
        if not good:
            ahead = PeerError("it is more than a day ahead; writes that it orders are not taken in here")
            troubles.note(clock, ahead, peer=hello.member.address)
        else:
            troubles.mended(clock, f"the clocks of {hello.member.address} and this node agree again")
        news = peers.heard(hello.member, leaving=hello.leaving, answered=answered, has=hello.contact.has)
        if news and (self._membership.joined or news != JOINED):  # before, it was this node that joined
            text = "%(kind)s %(member)s at %(peer)s %(news)s"
            log.info(text, kind=_kind(hello.member), member=hello.member.id, peer=hello.member.address, news=news)
        peers.departed(hello.left)
        peers.ended(hello.gone)
        for state in hello.groups:
            if (core := self._groups.get(state.name)) is not None:
                if list(state.options) != core.state().options:
                    self._differences.look(me, core.shown(), hello.member, state)
                core.writes.heard_of(state.floor)

    # -- the own address ---------------------------------------------------------------------------------------------

    def call_oneself(self) -> None:
        """Call the address at which others are to find this node. Raise ConfigError if another node answers there."""
        me = self._membership.me
        if me.address is None:
            return
        (answer,) = self._ping([me.address])
        self._answered_oneself(answer)
        if not isinstance(answer, Exception) and answer.id != me.id:
            raise ConfigError(
                f"another node, {answer.id}, answers at {me.address}, the address of this one, {me.id}; "
                "give each node an address of its own (listen=, advertise=)"
            )

    def _answered_oneself(self, answer: Contact | Exception) -> None:
        """Warn if the own address is not answered, or by another node."""
        me, troubles = self._membership.me, self._membership.troubles
        if isinstance(answer, Exception):
            troubles.note(_UNREACHED + str(me.address), answer)
        elif answer.id != me.id:
            troubles.note(_UNREACHED + str(me.address), PeerError(f"another node, {answer.id}, answers, not {me.id}"))
        else:
            troubles.mended(_UNREACHED + str(me.address), f"this node answers at its address {me.address} again")

    # -- pings -------------------------------------------------------------------------------------------------------

    def probe(self) -> None:
        """Ping all peers at once, so that the silence of one delays no other, and fetch what was missed of theirs.

        Do so once in a second, or now after `again`.
        """
        now = monotonic()  # not the node's clock, which a test may stop
        if self._probed is not None and now - self._probed < PROBE_INTERVAL:
            return
        self._probed = now
        peers = self._membership.peers
        peers.alive(self._runtime.lane.contacts.heard())
        asked = peers.all()
        *answers, own = self._ping([*(peer.address for peer in asked), str(self._membership.me.address)])
        if self._membership.stopped:  # nothing listens here any more
            return
        self._answered_oneself(own)
        for peer, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Exception):
                self._unanswered(peer, answer)
            elif not (self._is_other(peer, answer) or peer.left or peers.answered(peer)) and peer.greeted:
                self._catch_up(peer, answer)

    def went_on(self, knows_all: bool, *, joins: bool) -> bool:
        """Fetch all that this process has missed while it stood still. Return whether its stores may answer again.

        `knows_all` tells whether the list of members was read since, with this node on it. A process that `joins` may
        have been dropped: then only a member that has answered its hello since tells it of writes.
        """
        whole, members = knows_all, self._membership.peers
        peers = members.known()  # also the dead and those that said goodbye: they may have come back meanwhile
        until = Deadline.after(HELLO_TIMEOUT)  # if this process stood still, others may have had no time either
        while peers:
            missing: dict[Peer, Exception] = {}
            for peer, answer in zip(peers, self._ping([peer.address for peer in peers]), strict=True):
                if not isinstance(answer, Exception):
                    if not self._is_other(peer, answer) and not peer.left:
                        members.answered(peer)
                        whole &= self._catch_up(peer, answer)
                elif not peer.dead:
                    missing[peer] = answer
                else:
                    members.died(peer, answer)  # it may not refuse any more, and have joined meanwhile
            again = [peer for peer, error in missing.items() if not getattr(error, "refused", False)]
            peers = [] if until.passed else again
            for peer, error in missing.items():
                if peer not in peers:
                    self._unanswered(peer, error)
                    whole = False
        if joins:
            whole &= self.greet()
            if not (knows_all and members.settled()):
                return False
        if not whole:
            self._reading.forget()
        return True

    def _is_other(self, peer: Peer, answer: Contact) -> bool:
        """Return whether another process answers at the address of a peer, and take note of it."""
        if other := peer.member.protocol > 0 and answer.id != peer.id:
            self._membership.peers.taken_over(peer)
        return other

    def _catch_up(self, peer: Peer, contact: Contact) -> bool:
        """Fetch what was missed of a member's writes, and let it know. Return whether this node has them all."""
        behind = 0 < self._reading.has(contact.id) < contact.begun
        whole = self._reading.catch_up(peer, contact)
        if behind and whole:
            self._membership.peers.greet(peer)
            self._membership.refresh()
        return whole

    def _ping(self, addresses: list[str]) -> list[Contact | Exception]:
        answers = self._runtime.lane.ping_many(self._membership.me.id, addresses)
        for answer in answers:
            if not isinstance(answer, Exception):
                self._runtime.hlc.heard(answer.now_ms)
        return answers

    def _unanswered(self, peer: Peer, error: Exception) -> None:
        if getattr(error, "denied", False):
            self._membership.troubles.note(DENIED + peer.address, error, peer=peer.address)
        self._membership.peers.unanswered(peer, error)
        if not peer.dead:
            self.again()
            self._membership.refresh()


def _kind(member: Member) -> str:
    return "client node" if member.client else "node"
