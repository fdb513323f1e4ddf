"""A member as another node sees it."""

from __future__ import annotations

import math

from kamacache._engine import Flag, monotonic
from kamacache.cluster.contact import Watched
from kamacache.member import Member

_BREAKING = 1.0  # seconds
JOINED, RETURNED, LEFT = "has joined", "is back", "said goodbye"


class Peer(Watched):
    """A member as this node sees it. Other nodes may see it differently.

    Its fields change under the lock of Peers. A peer that is `dead` is notified of no write. A peer that is `behind` is
    notified, but has not fetched yet what it missed. One that is `doubted` did not answer a get in time, and has not
    answered a ping since. Requests for values skip all three: the engine reads that as `down`.
    """

    __slots__ = (
        "_behind",
        "_dead",
        "_doubted",
        "address",
        "bound",
        "broke",
        "confirmed",
        "down",
        "due",
        "ended",
        "fixed",
        "hello",
        "id",
        "left",
        "member",
        "present",
        "refused",
        "registered",
        "said",
        "silent",
        "unanswered",
    )

    def __init__(self, member: Member) -> None:
        self.update(member)
        self.registered = False
        self.fixed = False  # on a list of addresses: it stays known after its goodbye, as the list still has it
        self.confirmed = False  # it has answered at its address
        self.due = 1  # the number of the hello that it must answer; another is due when what this node says changes
        self.hello = 0  # the number of the last one that it answered
        self.down = Flag()
        self._dead = self._behind = self._doubted = False
        self.said = False  # since the contact began, it has said what it has of our writes
        self.present: bool | None = None  # it was heard last, or considered dead; None: neither yet
        self.broke = -math.inf  # when it was considered dead by a sign that its process is about to end
        self.refused = False  # nothing listens at its address
        self.ended = False  # its process, as the registry knows
        self.left = False  # said goodbye
        self.unanswered = 0  # probes in a row
        self.silent = 0  # probes in a row without any sign of life, as its own pings are
        self.bound = 0  # below which it cannot be gone, by the moment at which the registry's list came to lack it

    @property
    def greeted(self) -> bool:
        """Return whether it has answered the hello that is due."""
        return self.hello == self.due

    @property
    def skipped(self) -> bool:
        """Return whether requests for values skip it."""
        return bool(self.down)

    @property
    def dead(self) -> bool:
        """Return whether it is considered dead."""
        return self._dead

    @dead.setter
    def dead(self, dead: bool) -> None:
        self._dead = dead
        self._show()

    @property
    def behind(self) -> bool:
        """Return whether it has missed writes of this node."""
        return self._behind

    @behind.setter
    def behind(self, behind: bool) -> None:
        self._behind = behind
        self._show()

    @property
    def doubted(self) -> bool:
        """Return whether it left a get unanswered, and every ping since."""
        return self._doubted

    @doubted.setter
    def doubted(self, doubted: bool) -> None:
        self._doubted = doubted
        self._show()

    def _show(self) -> None:
        self.down.set(self._dead or self._behind or self._doubted)

    @property
    def breaking(self) -> bool:
        """Return whether it is considered dead, and writes still try to notify it: its process may be about to end."""
        return self._dead and monotonic() - self.broke < _BREAKING

    def dies(self, *, ends: bool) -> None:
        """Consider it dead. With `ends` that was a sign that its process is about to end."""
        self.dead = True
        self.broke = monotonic() if ends else -math.inf
        self.present = self.present and False

    def lives(self) -> None:
        """Take note of a sign of life."""
        self.unanswered = self.silent = self.bound = 0
        self.refused = self.ended = self.doubted = False

    def news(self) -> str:
        """Return what is new of a member that was heard, in words; nothing if it is still considered dead."""
        if self._dead or self.present:
            return ""
        before, self.present = self.present, True
        return JOINED if before is None else RETURNED

    def update(self, member: Member) -> None:
        """Take in what the member itself or the registry says of it."""
        self.member = member
        self.id = member.id
        self.address = member.address or ""

    def __repr__(self) -> str:
        state = " dead" if self.dead else " behind" if self.behind else " doubted" if self.doubted else ""
        return f"<Peer {self.address}{state}>"
