"""The writes of which a member has told another one, as both agree, and the two rules that follow from it.

A node numbers the writes that it remembers, its own and those that it was told of. Its contact with another member
*begins* at a number: of every later write it tells that member, or the contact ends. Pings and hellos say how far the
numbers are and where the contact began, so that both sides know the same. The engine keeps this (contacts.rs), and
answers pings without Python.

Reading. A node that has fewer of a member's writes than the number at which their contact began has missed some. It
fetches those by number, and forgets the entries of a group if some are not remembered there any more; the store finds
nothing until that is done. A process that stood still does so with every member that it knows, and forgets all if one
of them does not answer: the engine shuts the stores when the process goes on, after one tick of 100 ms at most. After
more than half the lease others may not list the process any more, and new members may not know it: it also registers
anew, reads the list, and waits until each member on it has answered a hello or is considered dead.

Writing. A write is only confirmed without a member of which it is *known* that it serves nothing any more. It said
goodbye; or its process has ended, as its free lock shows; or nothing, or another process, listens at the address where
this very member has answered before, as this node found or another one that says so; or the registry, which notices
deaths, does not list it, and it left as many pings unanswered as copies live, some of them since it left the list: a
registry that lost its data lists it again soon. If the registry notices no deaths, such pings are enough. Nor is a
write confirmed in whose course the process stood still: it may not know all members.

A refusal says less of a member that registered, or said hello, and has never answered: it lives, and may have given
an address that is not its own. If only the address is known, from a list or as another process answers there now,
none is at it for as long as it refuses. A process that begins to listen there is a listener when it has answered, or
said hello, and fetches the writes until then. It may have joined while this process did not reach it, or stood still:
so a ping that is left unanswered in another way takes the refusal back, and others are not told of it.

Invariant: for each member M and group, this node has all writes of M up to `core.has[M]`, or its store is shut, or the
group was emptied since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError
from kamacache.log import log

if TYPE_CHECKING:
    from kamacache._engine import Contacts
    from kamacache.cluster.peers import Peer
    from kamacache.core import GroupCore
    from kamacache.net.lane import Lane
    from kamacache.net.messages import Contact

_MEMBERS = 10_000  # whose last numbers are remembered; most of them never come back
_changed = [object()]  # another after each change of what is Watched
_FETCH = 5.0  # seconds for the missed writes of one group


def has_ended(peer: Peer) -> bool:
    """Return whether it is known that the process of this member has ended, or never was."""
    return peer.ended or (peer.refused and (peer.confirmed or not peer.member.protocol))


def must_be_told(peer: Peer, silence: int, *, notices_deaths: bool) -> bool:
    """Return whether a write is only confirmed once this member was told: the rule of writing.

    `silence` is the number of pings that a member that is gone has left unanswered.
    """
    if peer.left or has_ended(peer):
        return False
    return (peer.registered and notices_deaths) or peer.silent < max(silence, peer.bound)


class Watched:
    """Hold what the rule of writing reads. A change of it voids what Listeners found before, or meanwhile."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        _changed[0] = object()
        object.__setattr__(self, name, value)
        _changed[0] = object()


class Listeners:
    """The peers that must be told of writes. A write asks for them twice, and they seldom change."""

    def __init__(self, find: Callable[[int], Iterable[Peer]]) -> None:
        self._find = find
        self._found: tuple[object, int, tuple[Peer, ...]] = (None, 0, ())

    def get(self, silence: int) -> tuple[Peer, ...]:
        """Return those that `find` returns after the last change: the same tuple until there is another."""
        found = self._found
        if found[0] is not _changed[0] or found[1] != silence:
            changed = _changed[0]  # before the search, which may miss what changes meanwhile
            self._found = found = changed, silence, tuple(self._find(silence))
        return found[2]


class Standstill:
    """The times in which this process stood still, of those with which it has not caught up."""

    def __init__(self, contacts: Contacts, lease: float) -> None:
        self._contacts = contacts
        self._lease = lease
        self._caught_up = self._asleep = 0.0  # seconds of all
        self.number = 0  # of the last one; 0: it has caught up
        self.dropped = False  # others may have dropped this process

    def look(self) -> bool:
        """See whether this process stood still. Return whether others may have dropped it since the last call."""
        before, self.number = self.number, self._contacts.stood
        self._asleep = self._contacts.asleep
        self.dropped = self._asleep - self._caught_up > self._lease / 2
        if self.number in (0, before):
            return False
        log.info("this process stood still; it asks the members for the writes that it has missed")
        return self.dropped

    def over(self) -> None:
        """Let the stores answer again, unless the process has stood still once more."""
        self._caught_up = self._asleep
        self._contacts.catch_up(self.number)


class Reading:
    """The rule of reading, for all groups of a node."""

    def __init__(self, lane: Lane, cores: Callable[[], Iterable[GroupCore]]) -> None:
        self._lane = lane
        self._cores = cores

    def has(self, member: str) -> int:
        """Return the number up to which this node has a member's writes; 0: it was never told of any."""
        return min((core.has[member] for core in self._cores() if member in core.has), default=0)

    def is_behind(self, contact: Contact) -> bool:
        """Return whether this node has missed writes of a member that says this."""
        return any(core.has.get(contact.id, 0) < contact.begun for core in self._cores())

    def catch_up(self, peer: Peer, contact: Contact) -> bool:
        """Fetch what this node has missed of a member's writes. Return whether it has all now."""
        return all(self._catch_up(core, peer, contact) for core in self._cores())  # one that fails ends it

    def _catch_up(self, core: GroupCore, peer: Peer, contact: Contact) -> bool:
        has = core.has.get(contact.id, 0)
        if has < contact.begun:
            core.store.shut |= has > 0  # else it remembers nothing of a time before, or what it has is of this moment
            try:
                if not self._lane.fetch_missed(peer.address, core.store, has, Deadline.after(_FETCH)):
                    core.store.forget()
            except KamaCacheError as error:  # the next ping begins anew
                text = "the writes that %(peer)s remembers could not be fetched: %(error)s"
                log.info(text, peer=peer.address, group=core.name, error=error)
                return False
            finally:
                core.store.shut = self._lane.contacts.stood > 0
        core.has.pop(contact.id, None)  # members that spoke last stand at the end
        core.has[contact.id] = max(has, contact.number, contact.begun)
        if len(core.has) > _MEMBERS:
            del core.has[next(iter(core.has))]
        return True

    def forget_member(self, member: str) -> None:
        """Drop what is known of a member that never comes back."""
        for core in self._cores():
            core.has.pop(member, None)

    def forget(self) -> None:
        """Forget the entries of all groups: they may be older than writes that no member can tell."""
        for core in self._cores():
            core.store.forget()
