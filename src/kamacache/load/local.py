"""Loading here: once at a time per key for callers and peers, the value kept at the version noted before.

The version of a loaded value is the greatest write of its key known here *when the load began*, so that any later write
refuses it wherever it arrives.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import Histogram, Store
from kamacache.errors import LoadError
from kamacache.load.call import Raised, RunLoader
from kamacache.load.flight import ABORTED, TRIES, Failure, Flight, Flights, Outcome, interrupted, timed_out, wait_for
from kamacache.load.outcome import ABSENT, HITS, JOINED, LOAD_ERRORS, LOADS, PEER_HITS, in_memory
from kamacache.options import UNSET, Missing
from kamacache.steps import Path, Twofold
from kamacache.value import Value

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.load.loader import Loader
    from kamacache.load.peek import Asking
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime


async def _here() -> int:
    return threading.get_ident()


LOOP_THREAD = Twofold(lambda: None, _here)  # the thread whose event loop drives this path, if one does


class Origin:
    """The loads that run here. Their flights never wait for another node's load, so nodes cannot wait in a ring."""

    def __init__(
        self, name: str, store: Store, loader: Loader, options: GroupOptions, asking: Asking, runtime: Runtime
    ) -> None:
        self.loader = loader
        self.flights = Flights(store.known)
        self.times = Histogram()  # of the calls of the loader
        self._name = name
        self._store = store
        self._options = options
        self._asking = asking
        self._runtime = runtime

    def load(
        self,
        keys: list[str],
        skipped: Mapping[str, Peer],
        depth: int = 0,
        wholes: Mapping[str, Flight] = MappingProxyType({}),
    ) -> Path[dict[str, Outcome]]:
        """Load these keys here, having passed over the peers in `skipped`, in the time that `wholes` have left."""
        outcomes: dict[str, Outcome] = {}
        loop_thread = yield LOOP_THREAD
        for _ in range(TRIES):
            todo = [key for key in keys if key not in outcomes]
            if not todo:
                break
            led, joined = self.flights.join(todo, self._options.load_timeout, loop_thread, wholes)
            if led:
                ended = yield from self._lead(led, skipped, depth)
                outcomes |= {key: outcome for key, outcome in ended.items() if not outcome.aborted}
            for key, flight in joined.items():
                outcome = yield from wait_for(self.flights, flight, JOINED)
                if not outcome.aborted:
                    outcomes[key] = outcome._replace(how=JOINED)
        return outcomes | {key: interrupted(key, JOINED) for key in keys if key not in outcomes}

    def _lead(self, led: dict[str, Flight], skipped: Mapping[str, Peer], depth: int) -> Path[dict[str, Outcome]]:
        ended: dict[str, Outcome] = {}

        def end(key: str, outcome: Outcome) -> None:
            if ended.setdefault(key, outcome) is outcome:
                self.flights.finish(led[key], outcome)

        try:
            for key in led:  # who asks for what is no longer owned has not seen that yet: it is as good as for a peek
                if (outcome := in_memory(self._store, key, former=True)) is not None:
                    end(key, outcome)
            yield from self._from_former(led, skipped, ended, end)
            for key in [key for key in led if key not in ended]:
                if not self.flights.begin(led[key]):
                    end(key, ABORTED)
                elif (outcome := in_memory(self._store, key, former=True)) is not None:  # came while peers were asked
                    end(key, outcome)
            keys = [key for key in led if key not in ended]
            if keys:
                yield from self._from_loader({key: led[key] for key in keys}, skipped, depth, end)
            return ended
        finally:
            for flight in led.values():
                self.flights.finish(flight, ABORTED)

    def _from_former(
        self, led: dict[str, Flight], skipped: Mapping[str, Peer], ended: Mapping[str, Outcome], end: Any
    ) -> Path[None]:
        """Take what the owners before changes of members still hold, or a skipped one that is alive after all.

        This node may be such a former owner itself, and stand in for the one it gave the key to.
        """
        route = self._runtime.route(self._name)
        by_peer: dict[Peer, list[str]] = defaultdict(list)
        for key, flight in led.items():
            if key in ended:
                continue
            if route.acts(key, skipped) and (own := self._store.find(key)) is not None:
                value, version, remaining, _ = own
                self._keep(flight, value, version, remaining, Store.MAIN)
                end(key, Outcome(value, version, remaining, ABSENT if value is None else HITS))
            else:
                for peer in route.holders(key, skipped, self._runtime.clock.now()):
                    by_peer[peer].append(key)
        found = yield from self._asking.peek_all(by_peer, former=True)
        for key, (value, version, remaining, _) in found.items():
            self._keep(led[key], value, version, remaining, Store.MAIN, foreign=True)
            end(key, Outcome(value, version, remaining, ABSENT if value is None else PEER_HITS))

    def _from_loader(self, led: dict[str, Flight], skipped: Mapping[str, Peer], depth: int, end: Any) -> Path[None]:
        versions = {key: flight.version for key, flight in led.items()}
        deadlines = [flight.deadline for flight in led.values() if flight.deadline is not None]

        def loaded(key: str, value: Any) -> None:
            if led[key].late and not led[key].ended:
                self._store.count(LOAD_ERRORS)
            route = self._runtime.route(self._name)  # who owns it now: the load may have taken long
            kind = Store.MAIN if route.acts(key, skipped) else Store.NEAR
            end(key, self._loaded(led[key], value, versions[key], kind))

        if self.loader.missing:
            for key in led:
                end(key, Outcome(version=versions[key], how=ABSENT))
            return
        run = RunLoader(
            self.loader,
            list(led),
            loaded,
            group=id(self._store),
            depth=depth,
            deadline=max(deadlines, default=None),
            home=self._runtime.home,
            pool=self._runtime.pool,
            times=self.times,
        )
        try:
            yield run
        except TimeoutError:
            for key, flight in led.items():
                late = timed_out(flight, LOADS)
                if not flight.ended:
                    self._store.count(LOAD_ERRORS)
                self.flights.expire(flight, late)
                end(key, late)

    def _loaded(self, flight: Flight, value: Any, version: int, kind: int) -> Outcome:
        """What the loader brought: encoded, kept where it may be."""
        options, key = self._options, flight.key
        if isinstance(value, Raised):
            return self._failed(key, value.error)
        try:
            own: float | Missing | None = UNSET
            if isinstance(value, Value):
                value, own = value.value, value.ttl
            raw = None if value is None else codecs.encode(options.codec, value)
        except Exception as error:  # noqa: BLE001 - the codec does not take it: a failed load like any other
            return self._failed(key, error)
        ttl = own if own is not UNSET else self._usual_ttl(raw)
        if raw is not None and not self.fits(key, raw):
            return Outcome(raw, version, ttl, LOADS, too_large=True)
        self._keep(flight, raw, version, ttl, kind)
        return Outcome(raw, version, ttl, LOADS)

    def _failed(self, key: str, error: BaseException) -> Outcome:
        self._store.count(LOAD_ERRORS)
        text = f"{self._name}[{key!r}]: {type(error).__name__}: {error}"
        return Outcome(how=LOADS, failure=Failure(LoadError, text, error, type(error).__name__))

    def _usual_ttl(self, raw: bytes | None) -> float | None:
        options = self._options
        if raw is None:
            return options.negative_ttl
        if options.ttl is None or not options.jitter:
            return options.ttl
        import random  # noqa: PLC0415 - not cheap to import, and only needed here

        return options.ttl * (1 - options.jitter * random.random())  # noqa: S311 - it only spreads expiries

    def fits(self, key: str, raw: bytes) -> bool:
        """Whether an entry may be kept and travel."""
        return len(raw) <= self._runtime.max_value and self._store.fits(key, len(raw))

    def _keep(
        self, flight: Flight, raw: bytes | None, version: int, ttl: float | None, kind: int, *, foreign: bool = False
    ) -> None:
        if not self._runtime.joined:  # others may not know that it is here: a main copy would make them drop theirs
            kind = Store.NEAR
        if kind == Store.NEAR:
            near = self._options.near_ttl
            ttl = near if ttl is None else min(near, ttl)
        if ttl is not None and ttl <= 0:
            return
        key, put = flight.key, self._store.put
        self.flights.keep(key, flight, lambda: put(key, raw, version, ttl, kind, foreign=foreign))
