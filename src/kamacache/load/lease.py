"""Leases: the owner of a key lets one asker load it, as the leader of a flight at the owner.

After Gray and Cheriton, "Leases" (SOSP 1989), and Nishtala et al., "Scaling Memcache at Facebook" (NSDI 2013). The
flight ends when the asker brings its value or its failure, or gives the lease back. It is aborted when the asker is
considered dead, or when its time is over: then those who wait ask again, and the first of them is the next holder.

Nobody waits for another one's load while it holds a lease. So holders cannot wait for each other in a ring. This file
is the asker's side; grant.py is the owner's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from kamacache._engine import Promise
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, Overloaded
from kamacache.load.call import Call
from kamacache.load.outcome import ABORTED, LOADS, Outcome, answer_of, timed_out
from kamacache.net.messages import Answer, FillRequest
from kamacache.steps import Path, Wait, drive
from kamacache.thread import after

if TYPE_CHECKING:
    from kamacache._engine import Lead
    from kamacache.cluster.peers import Peer
    from kamacache.load.fills import Fills
    from kamacache.load.given import Given
    from kamacache.load.loaded import Loaded
    from kamacache.load.turns import Turns
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime

_NUMBERS = itertools.count(1)
_PATIENCE = 1.0  # seconds for which a caller waits until the owner has its value
_MESSAGE = 16 * 1024 * 1024  # bytes of values in one message that has several


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

    def __init__(
        self, group: str, given: Given | None, lead: Lead, old: Mapping[str, int], fills: Fills, runtime: Runtime
    ) -> None:
        """Begin without any. `old` are the versions of the values that are to be loaded anew."""
        self.given = given
        self._group = group
        self._fills = fills
        self._lead = lead
        self._old = old
        self._runtime = runtime
        self._leases: dict[Lease, None] = {}  # whose owners may wait for this node; changes in single steps
        self._brought: dict[str, Outcome] = {}  # by the function
        self._returned: dict[str, float] = {}  # when it had loaded each key
        self._moved = False  # a thread of the pool runs the function, and gives back what is left

    def ask(self, peer: Peer, keys: list[str]) -> Lease | None:
        """Return the lease that a request asks for, from before it is sent."""
        if self.given is None:
            return None
        lease = Lease(peer, keys, self._runtime.membership.me.id)
        self._leases[lease] = None
        return lease

    def answered(self, lease: Lease | None, answers: list[Answer]) -> None:
        """Take in what was granted. If nothing was, the owner does not wait for this node.

        A key that was written since its old value was found is not loaded anew.
        """
        if lease is not None:
            granted = {key: one for key, one in zip(lease.keys, answers, strict=True) if one.granted}
            lease.since = self._runtime.clock.now()
            lease.versions = {key: answer.version for key, answer in granted.items()}
            lease.old = {key: answer for key, answer in granted.items() if answer.due}
            for key, version in lease.versions.items():
                if version != self._old.get(key, version):
                    self._lead.end(key, ABORTED)
            if not lease.versions:
                self._leases.pop(lease, None)

    def load(self, loaded: Loaded, times: Any, options: GroupOptions) -> Path[None]:
        """Run the function for all granted keys, and bring the results to their owners.

        The callers get an owner's old value, if there is one, in the place of a failure, and after soft_timeout. Then
        the load goes on: that of a plain function was begun on a thread of the pool.
        """
        granted = [lease for lease in self._leases if lease.versions]
        old = {key: answer for lease in granted for key, answer in lease.old.items()}
        soft = None if options.rules is None or not old else options.rules.soft_timeout
        load = self._load(granted, old, loaded, times, options)
        if soft is not None:
            after(soft, lambda: self._overtake(granted, old, loaded), unless=self._lead)
        if soft is None or self.given is None or self.given.is_async:  # else callers do not wait for this task
            yield from load
        else:
            yield from self._elsewhere(load, options)

    def _overtake(self, granted: list[Lease], old: Mapping[str, Answer], loaded: Loaded) -> None:
        """Give the callers the old values. Those who wait for no other granted key ask again for the rest."""
        for key, answer in old.items():
            if not self._lead.flight(key).ended and (outcome := loaded.old(key, answer)) is not None:
                self._lead.end(key, outcome)
        if not any(key in lease.versions for lease in granted for key in self._lead.keys):
            self._lead.abandon()

    def _elsewhere(self, load: Path[None], options: GroupOptions) -> Path[None]:
        """Carry the load to its end on a thread of the pool, and wait for that as long as callers wait for it."""
        lead, done = self._lead, Promise()

        def work() -> None:
            self._moved = True
            try:
                lead.take_over()
                drive(load)
            finally:
                self._moved = False
                self.give_back()

        try:
            job = self._runtime.pool(lead.depth - 1).submit(work, own=True)
        except Overloaded:
            yield from load
            return
        for one in (job, lead):
            if not one.wake(lambda: done.set_result(None)):
                done.set_result(None)
        try:
            yield Wait(done, Deadline.after(lead.left()))
        except TimeoutError:
            for key in lead.keys:
                lead.end(key, timed_out(key, options.load_timeout, LOADS))
        if job.ended:
            job.result()

    def _load(
        self, granted: list[Lease], old: Mapping[str, Answer], loaded: Loaded, times: Any, options: GroupOptions
    ) -> Path[None]:
        given, home = self.given, self._runtime.home
        mine = [lease for lease in granted if lease in self._leases]  # not given back meanwhile
        versions = {key: version for lease in mine for key, version in lease.versions.items()}
        if given is None or not versions:
            return

        def end(key: str, value: Any) -> None:
            if key not in self._brought:
                self._returned[key] = self._runtime.clock.now()
                outcome = self._brought[key] = loaded.result(key, value)._replace(version=versions[key])
                given.ended[key] = loaded.instead(key, outcome, old.get(key))

        keys = [key for key in self._lead.keys if key in versions]  # in the order asked
        if keys:
            late = partial(self._bring, mine)
            self._fills.limit(late)
            try:
                yield Call(given, self._lead, keys, end, home=home, pool=None, times=times, options=options)
            finally:
                self._fills.end(late)
        sent = [call for lease in mine for call in self._fill(lease)]
        deadline = Deadline.after(_PATIENCE)
        for call in sent:
            try:
                yield Wait(call, deadline)
            except (KamaCacheError, TimeoutError):  # the caller has its value all the same
                continue
        for key in versions.keys() & given.ended.keys():
            self._lead.end(key, given.ended[key])

    def _bring(self, leases: list[Lease]) -> None:
        """Bring what a late function has loaded so far, and give back the rest: the owner may have more patience."""
        for lease in leases:
            if lease in self._leases:
                self._fill(lease)

    def give_back(self, turns: Turns | None = None) -> None:
        """Give back what this node may still hold, so that no caller waits for it, unless a load still goes on.

        If other functions wait here, do so when one has asked for a lease: gets at the owner are to wait for that.
        """
        for lease in [] if self._moved else list(self._leases):
            turn = None if turns is None else turns.soon(lease.keys)
            if turn is None:
                self._fill(lease)
                continue
            after(_PATIENCE, self.give_back, unless=turn)
            if not turn.wake(self.give_back):
                self.give_back()

    def _fill(self, lease: Lease) -> list[Promise]:
        """Send what was loaded under a lease, and give back the rest of its keys.

        Nothing was under a lease that was not seen: the owner may grant it only now, after later writes.
        """
        keys = list(lease.versions) or lease.keys
        brought = self._brought if lease.versions else {}
        answers = [self._answer(brought.get(key), self._returned.get(key, lease.since) - lease.since) for key in keys]
        calls = []
        for some, theirs in _messages(keys, answers):
            request = FillRequest(self._group, lease.name, some, theirs, self._runtime.hlc.latest())
            calls.append(self._fills.send(lease.peer, request))
        self._leases.pop(lease, None)
        return calls

    def _answer(self, outcome: Outcome | None, took: float) -> Answer:
        """Return the answer for the owner, of a load that took so long, counted from the grant as its times in a fill.

        It does not keep a value that is too large, so that others load it themselves.
        """
        if outcome is None or outcome.late:
            return Answer(later=True)
        if len(outcome.value or b"") > self._runtime.max_value:
            return Answer(too_large=True, later=True)  # an owner of an older release reads only that it is given back
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
