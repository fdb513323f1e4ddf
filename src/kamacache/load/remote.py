"""Have keys loaded by their candidates: the owner, the next in line, and in the end this node.

A candidate that does not answer is passed over and named to the next one. One call waits for a second in all for
candidates that do not answer; on a node that cannot load, until no member is left that it can ask.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from kamacache._engine import Store, monotonic
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, PeerError, UnknownGroup
from kamacache.load.fills import Fills
from kamacache.load.flight import Flying, Start, chain, depth_of, land
from kamacache.load.lease import Asking
from kamacache.load.loaded import too_large
from kamacache.load.local import Local
from kamacache.load.outcome import (
    ABORTED,
    ABSENT,
    LOADS,
    PEER_LOADS,
    Outcome,
    caused,
    failed,
    failure_in,
    timed_out,
)
from kamacache.log import log
from kamacache.net.lane import HOT
from kamacache.net.messages import Answer, LoadReply, LoadRequest, TellRequest
from kamacache.steps import Path, Wait, adrive, drive, needed_loop, running_loop

if TYPE_CHECKING:
    from kamacache._engine import Lead, Promise
    from kamacache.cluster.peers import Peer
    from kamacache.load.given import Given
    from kamacache.load.lease import Lease
    from kamacache.load.peek import Peeks
    from kamacache.runtime import Runtime

PATIENCE = 1.0  # seconds that one call waits in all for peers that are not known to be alive
NOTHING: Mapping[str, int] = MappingProxyType({})


class _Forsaken(Exception):
    """Every caller of a load has gone."""


class Remote:
    """The loads of one group that this node requests from other nodes."""

    def __init__(
        self, name: str, store: Store, timeout: float | None, local: Local, peeks: Peeks, runtime: Runtime
    ) -> None:
        self._name = name
        self._store = store
        self._timeout = timeout
        self._local = local
        self._peeks = peeks
        self._runtime = runtime
        self._fills = Fills(runtime.lane, timeout)
        self.send_again = self._fills.send_again
        self._calls: dict[Lead, list[Promise]] = {}  # those under way; changes in single steps

    def drop_unwanted(self) -> None:
        """Cancel the calls for loads that no caller waits for any more. The sweeper calls this."""
        for lead, calls in list(self._calls.items()):
            for call in calls if not lead.wanted else ():
                if call.set_exception(_Forsaken()):
                    self._runtime.lane.cancel(call)

    def start(
        self, keys: list[str], own: list[str], timeout: float | None, given: Given | None = None
    ) -> Path[list[Flying]]:
        """Lead or join the loads of `keys`, which others own, and of `own`, which this node owns.

        On a thread the own keys are loaded while the others answer. With a `given` function, the owners are asked for
        leases, under which it loads here.
        """
        outer, local = chain(), self._local
        depth = depth_of(outer, given=given is not None)
        flying: list[Flying] = []
        lead = local.flights.lead(keys, False, timeout, outer, depth, running_loop(), given=given is not None)
        with lead as joined:
            if not lead.ended:

                def inline() -> None:
                    drive(self._lead(lead, own, flying, given))

                def elsewhere() -> None:
                    loop = needed_loop()
                    if given is not None:  # which this loop runs
                        lead.drive(loop)
                    self._runtime.home.task(loop, adrive(self._lead(lead, [], flying, given)), lead.abandon)

                yield Start(lead, inline, elsewhere)
        if own and not flying:
            flying.append((yield from local.start(own, timeout, given=given)))
        return [Flying(lead, joined or {}), *flying]

    def _lead(
        self,
        lead: Lead,
        own: list[str],
        flying: list[Flying],
        given: Given | None,
        old: Mapping[str, int] = NOTHING,
    ) -> Path[None]:
        """End every flight: from memory, by the owner, by the next in line, or by loading here."""
        leases = Asking(self._name, given, lead, old, self._fills, self._runtime)
        try:
            yield from self._ask_all(lead, own, flying, leases)
        except KamaCacheError as error:
            for key in lead.keys:
                lead.end(key, failed(error, PEER_LOADS))
        except Exception as error:
            key = next(iter(lead.keys), "")
            log.exception("the load of %(group)s[%(key)r] failed inside the library", group=self._name, key=key)
            for key in lead.keys:
                lead.end(key, Outcome(how=PEER_LOADS, failure=caused(error)))
        finally:
            self._calls.pop(lead, None)
            lead.abandon()
            leases.give_back(self._local.turns)

    def _ask_all(self, lead: Lead, own: list[str], flying: list[Flying], leases: Asking) -> Path[None]:
        """Ask all owners at once. If one does not answer, ask the next in line.

        Loads of other callers are waited for after the leases of this one have been filled.
        """
        skipped: dict[str, Peer] = {}
        told: dict[str, list[tuple[str, int]]] = {}  # the writes that the owners of these keys had missed
        wasted = 0.0
        before: list[str] = []
        while todo := lead.keys:
            helpless = self._local.is_helpless(leases.given)
            by_peer, here = self._assign(todo, skipped, give_up=wasted >= PATIENCE, helpless=helpless)
            if leases.given is not None and todo == before:  # others load them all: wait for those of one owner
                by_peer = dict(list(by_peer.items())[:1])
            before = todo
            asked = self._runtime.clock.now()
            deadline = Deadline.after(lead.left())
            calls = []
            due: dict[str, int] = {}
            for peer, keys in by_peer.items():
                lease = leases.ask(peer, keys)
                call = self._ask(lead, peer, keys, skipped, deadline, lease, len(by_peer) > 1)
                calls.append((peer, keys, lease, call))
            self._calls[lead] = [call for *_, call in calls]
            if leases.given is not None:  # the owner hears of it before leases of this node are given back
                self._local.turns.led(leases.given, todo)
            if own:
                flying.append((yield from self._local.start(own, self._timeout, given=leases.given)))
                own = []
            for peer, keys, lease, call in calls:
                began = monotonic()
                try:
                    reply = yield from self._reply(lead, peer, keys, call, deadline)
                except _Forsaken:
                    if not lead.wanted:  # else another caller has come meanwhile, and the keys are asked for again
                        return
                    continue
                if reply is None:
                    wasted += monotonic() - began
                    skipped[peer.id] = peer
                    continue
                self._runtime.saw(reply.clock)
                leases.answered(lease, reply.answers)
                pairs = zip(keys, reply.answers, strict=True)
                due |= {key: one.version for key, one in pairs if one.due and not one.granted}
                mine, behind = self._sort(lead, keys, reply.answers, asked, told, with_lease=lease is not None)
                here += mine
                if behind:
                    told.update(behind)
                    yield from self._tell(peer, [write for newer in behind.values() for write in newer], deadline)
            if due and leases.given is not None:
                self._load_anew(due, leases.given.again())
            yield from leases.load(self._local.loaded, self._local.times, self._local.options)
            yield from self._load_here(lead, here, skipped, leases.given)

    def _reply(
        self, lead: Lead, peer: Peer, keys: list[str], call: Promise, deadline: Deadline
    ) -> Path[LoadReply | None]:
        """Return the reply of a peer; None if there is none, so that the next in line is asked, or its keys failed."""
        try:
            return (yield Wait(call, deadline))  # type: ignore[no-any-return]
        except (PeerError, UnknownGroup) as error:
            self._runtime.suspect(peer, error)
        except TimeoutError:
            for key in keys:
                lead.end(key, timed_out(key, self._timeout, PEER_LOADS))
        except KamaCacheError as error:
            for key in keys:
                lead.end(key, failed(error, PEER_LOADS))
        return None

    def _sort(
        self,
        lead: Lead,
        keys: list[str],
        answers: Iterable[Answer],
        asked: float,
        told: Mapping[str, list[tuple[str, int]]],
        *,
        with_lease: bool,
    ) -> tuple[list[str], dict[str, list[tuple[str, int]]]]:
        """Take the answers that are good. Return the keys that this node must load, and those whose owner is behind.

        Those come with the writes that the owner has missed. The others are asked for again. An owner is not behind if
        it knows the writes that were known here when the flight began: no caller that began later waits for it.
        """
        mine: list[str] = []
        behind: dict[str, list[tuple[str, int]]] = {}
        for key, answer in zip(keys, answers, strict=True):
            newer = [] if answer.error_type else self._store.newer(key, answer.version, answer.value)
            if newer and answer.version >= lead.flight(key).version:
                newer = [write for write in newer if write[0] != key]
            if answer.later or answer.granted:
                continue
            can_load = with_lease or not self._local.loader.missing
            again = can_load and self._local.unread.has(key, answer.value)
            if answer.too_large and not can_load:
                lead.end(key, too_large(self._name, key, PEER_LOADS))
                continue
            bad = key in told and (can_load or newer == told[key])  # although its owner was told
            if answer.too_large or again or (newer and bad):  # too large: it does not travel
                mine.append(key)
            elif newer:
                behind[key] = newer
            else:
                self._taken(lead, key, answer, asked, with_lease=with_lease)
        return mine, behind

    def _tell(self, peer: Peer, writes: list[tuple[str, int]], deadline: Deadline) -> Path[None]:
        """Tell a member of writes that it has missed, as its answers show, so that its next answers are not older."""
        request = TellRequest(self._name, writes, 0, self._runtime.hlc.latest())
        (reply,) = yield from self._runtime.lane.send_all([(peer.address, request)], deadline)
        if isinstance(reply, Exception) and not isinstance(reply, UnknownGroup):
            self._runtime.suspect(peer, reply)

    def _assign(
        self, keys: Iterable[str], skipped: Mapping[str, Peer], *, give_up: bool, helpless: bool
    ) -> tuple[dict[Peer, list[str]], list[str]]:
        """Return the keys that each peer must load, and those of this node, which gives up only if it can load."""
        by_peer: dict[Peer, list[str]] = defaultdict(list)
        here = []
        route = self._runtime.route(self._name)
        for key in keys:
            peer = None if give_up and not helpless else route.first(key, skipped, helpless=helpless)
            if peer is None:
                here.append(key)
            else:
                by_peer[peer].append(key)
        return by_peer, here

    def _ask(
        self,
        lead: Lead,
        peer: Peer,
        keys: list[str],
        skipped: Mapping[str, Peer],
        deadline: Deadline,
        lease: Lease | None,
        at_once: bool,
    ) -> Promise:
        route = self._runtime.route(self._name)
        dead = {candidate.id for key in keys for candidate in route.candidates(key) if candidate.skipped}
        depth = depth_of(chain(), given=lease is not None)
        latest = self._runtime.hlc.latest()
        request = LoadRequest(self._name, keys, sorted(dead | set(skipped)), depth, latest, self._local.unread.of(keys))
        if lease is None:  # else its function runs here
            request = request._replace(context=self._runtime.carried.packed())
        if lease is not None:
            me = self._runtime.membership.me.id
            request = request._replace(lease=lease.name, holder=me, at_once=at_once, anew=lead.anew)
        lane, telemetry = self._runtime.lane, self._runtime.telemetry
        if telemetry is None:
            return lane.call(peer.address, request, deadline)
        return telemetry.call(peer.address, request, lambda request: lane.call(peer.address, request, deadline))

    def _load_anew(self, old: Mapping[str, int], given: Given) -> None:
        """Load old values of these versions anew under leases, in the background."""
        loop, home = (running_loop() if given.is_async else None), self._runtime.home
        lead = self._local.flights.lead(list(old), False, self._timeout, None, 0, loop, anew=True, given=True)

        def begin() -> None:
            if loop is not None:
                home.task(loop, adrive(self._lead(lead, [], [], given, old)), lead.abandon)
                return
            self._runtime.pool(0).lead(lead, lambda: drive(self._lead(lead, [], [], given, old)))

        with lead:
            if not lead.ended:
                Start(lead, None, begin).begin()

    def _load_here(self, lead: Lead, keys: list[str], skipped: Mapping[str, Peer], given: Given | None) -> Path[None]:
        """Load keys in this node after all, in the time that is left."""
        flights = self._local.flights
        while todo := [key for key in keys if not lead.flight(key).ended]:
            left = lead.left()
            if left <= 0:
                for key in todo:
                    lead.end(key, timed_out(key, self._timeout, LOADS))
                return
            flying = yield from self._local.start(todo, left, skipped, given=given)
            try:
                outcomes = yield from land(flights, flying, self._timeout)
            finally:
                flying.lead.leave(flying.joined)
            if given is not None:
                outcomes = self._local.for_function(outcomes, flying.joined)
            for key, outcome in outcomes.items():
                if outcome is not ABORTED:
                    lead.end(key, outcome)

    def _taken(self, lead: Lead, key: str, answer: Answer, asked: float, *, with_lease: bool) -> None:
        """End a flight with the answer of a peer, and keep a value that is hot there as a near copy."""
        if (failure := failure_in(answer)) is not None:
            lead.end(key, Outcome(how=PEER_LOADS, failure=failure))
            return
        found = (answer.value, answer.version, answer.remaining, HOT if answer.hot else 0)
        self._peeks.keep_near(key, found, asked, lead)
        absent = self._local.loader.missing and answer.value is None
        how, unloaded = ABSENT if absent else PEER_LOADS, absent and not with_lease
        lead.end(key, Outcome(answer.value, answer.version, answer.remaining, how, unloaded=unloaded))
