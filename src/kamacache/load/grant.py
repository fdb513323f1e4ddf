"""Leases at the owner of the keys: grant them to askers, and note which are granted. lease.py is the asker's side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kamacache.load.loader import Loader

if TYPE_CHECKING:
    from kamacache._engine import Clock, Lead
    from kamacache.cluster.peers import Peer
    from kamacache.load.flight import Holder
    from kamacache.load.loop import HomeLoop

_REVOKED = 1_000  # leases that were given back too early, which are remembered


class Granting(Loader):
    """The loader of a request with a lease: it grants the keys to the asker."""

    __slots__ = ("_clock", "_holder", "_lead", "_leases", "_name", "_since", "overdue", "skipped", "versions")
    grants = True

    def __init__(self, leases: Leases, name: str, holder: Holder, skipped: Mapping[str, Peer], clock: Clock) -> None:
        self.single = self.many = None
        self.is_async = self.lean = False
        self.skipped = skipped
        self.versions: dict[str, int] = {}  # of the granted keys
        self.overdue: set[str] = set()  # those whose flights ended with an old value, while the holder goes on
        self._clock = clock
        self._since = 0.0  # when the keys were granted
        self._lead: Lead | None = None
        self._leases = leases
        self._name = name
        self._holder = holder

    @property
    def missing(self) -> bool:
        return False

    def driver(self, _home: HomeLoop) -> Any:
        return self._holder

    def grant(self, lead: Lead, keys: list[str]) -> bool:
        self._lead, self._since = lead, self._clock.now()
        self._holder.begin()
        self.versions = {key: lead.flight(key).version for key in keys}
        if not self._leases.add(self._name, self):
            self.versions = {}
            return False
        lead.hand_over()
        if not lead.wake(self._end):
            self._end()
        return True

    def _end(self) -> None:
        if not self.overdue:
            self._leases.remove(self._name)

    def over(self, key: str) -> None:
        """Take note that the holder has brought this key or given it back, and end the lease with the last one."""
        self.overdue.discard(key)
        if self._lead is not None and self._lead.ended:
            self._end()

    @property
    def age(self) -> float:
        """Return the seconds since the keys were granted, from which the times in a fill count."""
        return self._clock.now() - self._since

    @property
    def revoked(self) -> bool:
        """Return whether the asker has given the lease back already, so that it waits no more."""
        return self._leases.is_revoked(self._name)

    def lead(self, key: str) -> Lead | None:
        """Return the lead of a granted key; None if its lease is over, or never was."""
        lead = self._lead
        if lead is None or key not in self.versions:
            return None
        return None if lead.flight(key).ended and key not in self.overdue else lead


class Leases:
    """The leases that this node has granted for one group, until their flights have ended.

    A lease that was given back before it was granted is remembered, and never granted: its request may have been
    overtaken. Both change `_granted` in one step, so that one of the two sees the other.
    """

    def __init__(self) -> None:
        self._granted: dict[str, Granting | None] = {}  # None: it was given back
        self._revoked: dict[str, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._granted) - len(self._revoked)

    def add(self, name: str, granting: Granting) -> bool:
        """Add a lease. Return False if it was given back."""
        return self._granted.setdefault(name, granting) is granting

    def remove(self, name: str) -> None:
        """Remove a lease that is over."""
        self._granted.pop(name, None)

    def is_revoked(self, name: str) -> bool:
        """Return whether a lease was given back before it was granted."""
        return self._granted.get(name, self) is None

    def get(self, name: str) -> Granting | None:
        """Return a lease; None if it is over or never was."""
        return self._granted.get(name)

    def given_back(self, name: str) -> Granting | None:
        """Return a lease that its holder gives back; if there is none, never grant it."""
        granting = self._granted.setdefault(name, None)
        if granting is None:
            self._revoked[name] = None
            if len(self._revoked) > _REVOKED:
                oldest = next(iter(self._revoked))
                self._revoked.pop(oldest, None)
                self._granted.pop(oldest, None)
        return granting
