"""Leases: the owner of a key lets one asker load it, as the leader of a flight at the owner.

After Gray and Cheriton, "Leases" (SOSP 1989), and Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013). The
flight ends when the asker brings its value or its failure, or gives the lease back. It is aborted when the asker is
considered dead, or when its time is over: then those who wait ask again, and the first of them is the next holder.

Nobody waits for another one's load while it holds a lease. So holders cannot wait for each other in a ring.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError
from kamacache.load.call import Call
from kamacache.load.loader import Loader
from kamacache.load.outcome import Outcome, answer_of
from kamacache.net.messages import Answer, FillRequest
from kamacache.steps import Path, Wait

if TYPE_CHECKING:
    from kamacache._engine import Clock, Lead, Promise
    from kamacache.cluster.peers import Peer
    from kamacache.load.fills import Fills
    from kamacache.load.flight import Holder
    from kamacache.load.given import Given
    from kamacache.load.loaded import Loaded
    from kamacache.load.loop import HomeLoop
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime

_NUMBERS = itertools.count(1)
_PATIENCE = 1.0  # seconds for which a caller waits until the owner has its value
_REVOKED = 1_000  # leases that were given back too early, which are remembered
_MESSAGE = 16 * 1024 * 1024  # bytes of values in one message that has several


# -- at the owner ----------------------------------------------------------------------------------------------------


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


# -- at the asker ----------------------------------------------------------------------------------------------------


class Lease:
    """Note what one request to one owner may bring: the versions of the keys that it was granted."""

    __slots__ = ("keys", "name", "old", "peer", "since", "versions")

    def __init__(self, peer: Peer, keys: list[str], member: str) -> None:
        self.peer = peer
        self.keys = keys
        self.name = f"{member}/{next(_NUMBERS)}"
        self.since = 0.0  # when the grant was here
        self.versions: dict[str, int] = {}
        self.old: dict[str, Answer] = {}  # with the values for a load that fails


class Asking:
    """The leases that one call asks for, with the function that is `given`. Without one it asks for none."""

    def __init__(self, group: str, given: Given | None, lead: Lead, fills: Fills, runtime: Runtime) -> None:
        self.given = given
        self._group = group
        self._fills = fills
        self._lead = lead
        self._runtime = runtime
        self._leases: list[Lease] = []  # whose owners may wait for this node
        self._returned: dict[str, float] = {}  # when the function had loaded each key

    def ask(self, peer: Peer, keys: list[str]) -> Lease | None:
        """Return the lease that a request asks for, from before it is sent."""
        if self.given is None:
            return None
        lease = Lease(peer, keys, self._runtime.membership.me.id)
        self._leases.append(lease)
        return lease

    def answered(self, lease: Lease | None, answers: list[Answer]) -> None:
        """Take in what was granted. If nothing was, the owner does not wait for this node."""
        if lease is not None:
            granted = {key: one for key, one in zip(lease.keys, answers, strict=True) if one.granted}
            lease.since = self._runtime.clock.now()
            lease.versions = {key: answer.version for key, answer in granted.items()}
            lease.old = {key: answer for key, answer in granted.items() if answer.due}
            if not lease.versions:
                self._leases.remove(lease)

    def load(self, loaded: Loaded, times: Any, options: GroupOptions) -> Path[None]:
        """Run the function for all granted keys, and bring the results to their owners.

        The caller gets the owner's old value, if there is one, in the place of a failure.
        """
        given, granted = self.given, [lease for lease in self._leases if lease.versions]
        versions = {key: version for lease in granted for key, version in lease.versions.items()}
        if given is None or not versions:
            return
        ended = given.ended

        def end(key: str, value: Any) -> None:
            if key not in ended:
                self._returned[key] = self._runtime.clock.now()
                ended[key] = loaded.result(key, value)._replace(version=versions[key])

        home = self._runtime.home
        keys = [key for key in self._lead.keys if key in versions]  # in the order asked
        if keys:
            yield Call(given, self._lead, keys, end, home=home, pool=None, times=times, options=options)
        sent = [call for lease in granted for call in self._fill(lease, ended)]
        deadline = Deadline.after(_PATIENCE)
        for call in sent:
            try:
                yield Wait(call, deadline)
            except (KamaCacheError, TimeoutError):  # the caller has its value all the same
                continue
        old = {key: answer for lease in granted for key, answer in lease.old.items()}
        for key in versions.keys() & ended.keys():
            ended[key] = loaded.instead(key, ended[key], old.get(key))
            self._lead.end(key, ended[key])

    def give_back(self) -> None:
        """Give back what this node may still hold, so that no caller waits for it."""
        for lease in list(self._leases):
            # Nothing under a lease that was not seen: the owner may grant it only now, after later writes.
            self._fill(lease, self.given.ended if self.given is not None and lease.versions else {})

    def _fill(self, lease: Lease, ended: Mapping[str, Outcome]) -> list[Promise]:
        """Send what was loaded under a lease, and give back the rest of its keys."""
        keys = list(lease.versions) or lease.keys
        answers = [self._answer(ended.get(key), self._returned.get(key, lease.since) - lease.since) for key in keys]
        calls = []
        for some, theirs in _messages(keys, answers):
            request = FillRequest(self._group, lease.name, some, theirs, self._runtime.hlc.latest())
            calls.append(self._fills.send(lease.peer, request))
        self._leases.remove(lease)
        return calls

    def _answer(self, outcome: Outcome | None, took: float) -> Answer:
        """Return the answer for the owner, of a load that took so long, counted from the grant as its times in a fill.

        It does not keep a value that is too large, so that others load it themselves.
        """
        if outcome is None or outcome.late or len(outcome.value or b"") > self._runtime.max_value:
            return Answer(later=True)
        answer = answer_of(outcome)
        return answer._replace(remaining=answer.remaining + took) if answer.remaining else answer


def _messages(keys: list[str], answers: list[Answer]) -> Iterable[tuple[list[str], list[Answer]]]:
    """Cut a fill into messages of a size that travels."""
    start = size = 0
    for place, answer in enumerate(answers):
        size += len(answer.value or b"")
        if size > _MESSAGE and place > start:
            yield keys[start:place], answers[start:place]
            start, size = place, len(answer.value or b"")
    yield keys[start:], answers[start:]
