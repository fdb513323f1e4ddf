"""Having keys loaded by their candidates: the owner, the next in line, and in the end this node.

A candidate that does not answer is passed over and named to the next one. All waiting on those who do not answer shares
a second per call.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kamacache._engine import Store
from kamacache.errors import KamaCacheError, PeerError, UnknownGroup
from kamacache.load.answers import failure_told
from kamacache.load.flight import Failure, Flight, Flights, Outcome, timed_out
from kamacache.load.loader import CHAIN
from kamacache.load.local import Origin
from kamacache.load.outcome import ABSENT, PEER_LOADS
from kamacache.load.peek import Asking
from kamacache.net.lane import HOT
from kamacache.net.messages import Answer, LoadReply, LoadRequest
from kamacache.steps import Path, Wait

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.runtime import Runtime

PATIENCE = 1.0  # seconds that one call waits in all on peers not known to be alive


class Candidates:
    """The loads of one group that other nodes may do."""

    def __init__(
        self,
        name: str,
        store: Store,
        timeout: float | None,
        runtime: Runtime,
        *,
        asking: Asking,
        origin: Origin,
        flights: Flights,
    ) -> None:
        self._name = name
        self._store = store
        self._timeout = timeout
        self._runtime = runtime
        self._asking = asking
        self._origin = origin
        self._flights = flights

    def load(self, led: dict[str, Flight], todo: list[str], end: Callable[[str, Outcome], None]) -> Path[None]:
        """End the flights of the keys `todo`, all owners at once, next in line where one does not answer."""
        skipped: dict[str, Peer] = {}
        refused: set[str] = set()  # answered once with something older than what is known here
        wasted = 0.0
        while todo:
            by_peer, here = self._assign(todo, skipped, give_up=wasted >= PATIENCE)
            asked = self._runtime.clock.now()
            calls = [(peer, keys, self._ask(peer, keys, skipped)) for peer, keys in by_peer.items()]
            if here:
                outcomes = yield from self._origin.load(here, skipped, wholes=led)
                for key, outcome in outcomes.items():
                    end(key, outcome)
            todo = []
            for peer, keys, call in calls:
                began = time.monotonic()
                try:
                    reply: LoadReply = yield Wait(call, max(led[key].deadline or 0 for key in keys) or None)
                except (PeerError, UnknownGroup) as error:
                    wasted += time.monotonic() - began
                    self._runtime.suspect(peer, error)
                    skipped[peer.id] = peer
                    todo += keys
                except TimeoutError:
                    for key in keys:
                        end(key, timed_out(led[key], PEER_LOADS))
                except KamaCacheError as error:
                    for key in keys:
                        end(key, Outcome(how=PEER_LOADS, failure=Failure(type(error), str(error))))
                else:
                    self._runtime.saw(reply.clock)
                    for key, answer in zip(keys, reply.answers, strict=True):
                        if answer.too_large:  # it does not travel
                            outcomes = yield from self._origin.load([key], skipped, wholes=led)
                            end(key, outcomes[key])
                        elif not answer.error_type and answer.version < self._store.known(key) and key not in refused:
                            refused.add(key)
                            self._flights.seal(led[key])  # the next answer may be refused, too
                            todo.append(key)
                        else:
                            end(key, self._taken(led[key], answer, asked))

    def _assign(
        self, keys: list[str], skipped: Mapping[str, Peer], *, give_up: bool
    ) -> tuple[dict[Peer, list[str]], list[str]]:
        """Who is to load which keys; the second list is to be loaded here."""
        by_peer: dict[Peer, list[str]] = defaultdict(list)
        here = []
        route = self._runtime.route(self._name)
        for key in keys:
            peer = None if give_up else route.first(key, skipped)
            if peer is None:
                here.append(key)
            else:
                by_peer[peer].append(key)
        return by_peer, here

    def _ask(self, peer: Peer, keys: list[str], skipped: Mapping[str, Peer]) -> Future[Any]:
        route = self._runtime.route(self._name)
        dead = {candidate.id for key in keys for candidate in route.candidates(key) if candidate.dead}
        latest = self._runtime.hlc.latest()
        request = LoadRequest(self._name, keys, sorted(dead | set(skipped)), CHAIN.get().depth, latest)
        return self._runtime.lane.call(peer.address, request, self._timeout)

    def _taken(self, flight: Flight, answer: Answer, asked: float) -> Outcome:
        """What a peer answered, as the end of a flight; what is hot there stays here as a near copy."""
        if (failure := failure_told(answer)) is not None:
            return Outcome(how=PEER_LOADS, failure=failure)
        found = (answer.value, answer.version, answer.remaining, HOT if answer.hot else 0)
        self._asking.keep_near(flight.key, found, asked, flight)
        how = ABSENT if self._origin.loader.missing and answer.value is None else PEER_LOADS
        return Outcome(answer.value, answer.version, answer.remaining, how)
