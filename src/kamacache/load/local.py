"""Load in this process: one load of a key at a time, for callers and peers, kept unless a newer write is known.

A flight that loads here never waits for another node's load, so nodes cannot wait for each other in a ring. The version
of a loaded value is that of the greatest write of its key that was known here *when the load began*. So a node that
knows of a later write refuses the value.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kamacache._engine import Flights, Histogram, Store
from kamacache.errors import LoadError
from kamacache.load.call import Call, awaited, failed_here
from kamacache.load.flight import CHAIN, Flying, Landing, Start, chain, depth_of
from kamacache.load.freshness import Freshness
from kamacache.load.given import Given
from kamacache.load.grant import Granting
from kamacache.load.loaded import Loaded, no_loader
from kamacache.load.outcome import (
    ABORTED,
    ABSENT,
    PEER_HITS,
    Outcome,
    failed,
    in_memory,
    is_unloaded,
)
from kamacache.load.turns import Turns
from kamacache.log import log
from kamacache.net.messages import Answer
from kamacache.steps import PAUSE, Path, adrive, drive, needed_loop, parts

if TYPE_CHECKING:
    from kamacache._engine import Lead
    from kamacache.cluster.peers import Peer
    from kamacache.load.loader import Loader
    from kamacache.load.peek import Peeks
    from kamacache.load.unread import Unread
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime

_AT_ONCE = 1_000  # keys that are led in one go
_TRAVELS = 64 * 1024  # bytes of an old value that is sent with a lease
NOBODY: Mapping[str, Peer] = MappingProxyType({})


class Local:
    """The loads of one group that run in this process."""

    def __init__(
        self,
        name: str,
        store: Store,
        loader: Loader,
        options: GroupOptions,
        peeks: Peeks,
        unread: Unread,
        runtime: Runtime,
    ) -> None:
        self.loader = loader
        self.times = Histogram()  # of the calls of the loader
        self.flights = Flights(store, Outcome, ABORTED, self.times, runtime.max_value)
        self.turns = Turns(self.flights)
        self.freshness = (
            None if options.rules is None else Freshness(store, options.rules, runtime.clock, options.max_bytes)
        )
        self._name = name
        self._store = store
        self.options = options
        self.alone = False  # no other member owns these keys
        self._peeks = peeks
        self.unread = unread
        self._runtime = runtime
        self.loaded = Loaded(
            name, store, options, unread, self.freshness, self.times, runtime, lambda: self.loader.missing
        )

    # -- one key, on the caller's thread, with no other node to ask -------------------------------------------------

    def get(self, key: str, loader: Loader) -> bytes | Flying | None:
        """Load one key with a plain loader on this thread. Return its bytes, or the flights to wait for.

        Raises LoadError.
        """
        outer, given = None if CHAIN.get() is None else chain(), loader is not self.loader
        depth = depth_of(outer, given=given)
        lead = self.flights.lead(key, True, self.options.load_timeout, outer, depth, given=given)
        with lead as joined:
            if joined is not None:
                lead.leave(joined)
                return Flying(lead, joined)
            single = loader.single
            token = CHAIN.set(lead)
            try:
                value = single(key)  # type: ignore[misc] # a lean loader has it
                if value.__class__ is not bytes and hasattr(value.__class__, "__await__"):
                    value = awaited(loader, value, lead, self._runtime.home)
            except BaseException as error:  # noqa: BLE001 - whatever the user's loader raises
                value = failed_here(error)
            finally:
                CHAIN.reset(token)
            return self.loaded.take(lead, key, value, Store.MAIN if self.alone else Store.NEAR, own=True)

    async def aget(self, key: str, loader: Loader) -> Outcome | None:
        """Load one key with an async loader on this event loop, as a task of its own.

        Return its outcome; None if it runs on another loop, another caller leads, or the leader was interrupted.
        """
        loop = needed_loop()
        if loader.driver(self._runtime.home) is not loop:
            return None
        given = loader is not self.loader
        lead = self.flights.lead(key, True, self.options.load_timeout, None, 0, loop, given=given)
        with lead as joined:
            if joined is not None:
                lead.leave(joined)
                return None
            path = self._lead(lead, loader, NOBODY)
            Start(lead, None, lambda: self._runtime.home.task(loop, adrive(path), lead.abandon)).begin()
        await Landing(lead).arun()
        outcome: Outcome | None = lead.flight(key).outcome
        return None if outcome is ABORTED else outcome

    # -- any keys, written once for threads and tasks ----------------------------------------------------------------

    def start(
        self,
        keys: list[str],
        timeout: float | None,
        skipped: Mapping[str, Peer] = NOBODY,
        depth: int | None = None,
        given: Loader | None = None,
        *,
        anew: bool = False,
    ) -> Path[Flying]:
        """Lead or join the loads of these keys, after the candidates in `skipped` were passed over.

        With a plain loader, a thread has loaded the keys that it leads when this returns. Other loads go on by
        themselves. `given` loads in the place of the group's loader: it belongs to this call. With `anew`, what is in
        memory is no answer.
        """
        loader, runtime = given or self.loader, self._runtime
        if given is not None:
            self.unread.make_way(keys)
        outer = chain()
        depth = depth_of(outer, given=given is not None) if depth is None else depth
        driver = loader.driver(runtime.home)
        first, *rest = parts(keys, _AT_ONCE)
        lead = self.flights.lead(
            first, True, timeout, outer, depth, driver, serial=not loader.is_async, anew=anew, given=given is not None
        )
        with lead as found:
            joined = found or {}
            for part in rest:
                yield PAUSE
                joined |= lead.extend(part) or {}
            if given is not None:
                self.turns.led(given, [key for key in keys if key not in joined])
            if not lead.ended:
                patient = [] if self.freshness is None or anew else self.freshness.patient(lead)
                here = loader.grants or not (loader.is_async or patient)
                inline = (lambda: drive(self._lead(lead, loader, skipped))) if here else None
                yield Start(lead, inline, self._elsewhere(lead, loader, skipped, depth))
                if self.freshness is not None and patient:
                    self.freshness.limit(lead, patient, loader if isinstance(loader, Granting) else None)
        return Flying(lead, joined)

    def _elsewhere(self, lead: Lead, loader: Loader, skipped: Mapping[str, Peer], depth: int) -> Callable[[], None]:
        """Return what begins the work of a lead on a thread of the pool or as a task."""
        home = self._runtime.home

        def begin() -> None:
            if loader.is_async and isinstance(loader, Given):
                home.task(lead.driver, adrive(self._lead(lead, loader, skipped)), lead.abandon)
                return
            if loader.is_async:
                home.begin(lambda: adrive(self._lead(lead, loader, skipped)), lead.abandon)
                return

            def job_of_pool() -> None:
                if lead.wanted:  # else its callers have gone while it waited for its turn
                    drive(self._lead(lead, loader, skipped, wide=True))

            self._runtime.pool(depth).lead(lead, job_of_pool)

        return begin

    # -- old values and remembered failures --------------------------------------------------------------------------

    def ready(self, keys: list[str], given: Loader | None = None) -> dict[str, Outcome]:
        """Return the outcomes of keys that need no load now, and begin to load those anew that are old."""
        if self.freshness is None:
            return {}
        outcomes, anew = self.freshness.ready(keys)
        if given is not None and given.grants:
            return outcomes | {key: outcomes[key]._replace(due=True) for key in anew}
        loader = given.again() if isinstance(given, Given) else self.loader
        if anew and not loader.missing:
            driver, timeout = loader.driver(self._runtime.home), self.options.load_timeout
            lead = self.flights.lead(anew, True, timeout, None, 0, driver, serial=not loader.is_async, anew=True)
            with lead:
                for key in lead.keys:
                    now = self._store.aged(key, claim=False)
                    if now is None or now[1] != outcomes[key].version:  # a write has come; a later one ends the load
                        lead.end(key, ABORTED)
                if not lead.ended:
                    Start(lead, None, self._elsewhere(lead, loader, NOBODY, 0)).begin()
        return outcomes

    def instead(self, key: str, outcome: Outcome) -> Outcome:
        """Return the old value in the place of a failure, if the rules of the group say so."""
        return outcome if self.freshness is None else self.freshness.instead(key, outcome)

    def for_function(self, outcomes: dict[str, Outcome], joined: Container[str]) -> dict[str, Outcome]:
        """Return those outcomes that answer a caller which brings a function. It is to load the other keys itself.

        Those are the keys for which there was no function, and those `joined` whose load took too long, unless there is
        an old value.
        """
        late = {key: self.instead(key, outcome) for key, outcome in outcomes.items() if outcome.late and key in joined}
        found = outcomes | late
        return {key: one for key, one in found.items() if not is_unloaded(one) and not (key in late and one.late)}

    def granted(self, key: str, version: int, *, anew: bool) -> Answer:
        """Return the answer that grants a key, with the old value that is the answer if its load fails.

        With `anew` the asker has that, and gets the version of the value that is here now.
        """
        old = None if self.freshness is None else self._store.aged(key, claim=False)
        if anew and old is not None:
            return Answer(version=old[1], granted=True)
        if old is None or len(old[0] or b"") > _TRAVELS:
            return Answer(version=version, granted=True)
        return Answer(old[0], version, 0.0, granted=True, due=True)

    def _lead(self, lead: Lead, loader: Loader, skipped: Mapping[str, Peer], *, wide: bool = False) -> Path[None]:
        """End every flight: from memory, from a former owner, or by the loader."""
        if not loader.is_async:
            lead.take_over()
        granted = False
        try:
            granted = yield from self._load(lead, loader, skipped, wide=wide)
        except Exception as error:
            key = next(iter(lead.keys), "")
            log.exception("the load of %(group)s[%(key)r] failed inside the library", group=self._name, key=key)
            for key in lead.keys:
                lead.end(key, self.loaded.failure(key, error))
        finally:
            if not granted:
                lead.abandon()
                if self.freshness is not None:
                    self.freshness.done(lead)

    def _load(self, lead: Lead, loader: Loader, skipped: Mapping[str, Peer], *, wide: bool) -> Path[bool]:
        """Load the keys. Return whether they were granted to another member instead, whose flights they are now."""
        if not lead.anew and (yield from self._from_former(lead, skipped)):
            for key in lead.keys:  # the load begins now, so it knows the writes that came while peers were asked
                if not lead.begin(key):
                    lead.end(key, ABORTED)
                elif (outcome := in_memory(self._store, key)) is not None:
                    lead.end(key, outcome)
        keys = lead.keys
        if loader.missing:
            unknown = not self.is_without_loader()
            for key in keys:
                absent = Outcome(version=lead.flight(key).version, how=ABSENT, unloaded=True)
                lead.end(key, failed(no_loader(self._name, key)) if unknown else absent)
            return False
        if not keys:
            return False
        if loader.grants:
            return loader.grant(lead, keys)

        def ended(key: str, value: Any) -> None:
            try:
                raw = self.loaded.take(lead, key, value, self.loaded.kind(key, skipped))
                if loader.ended is not None:
                    loader.ended.setdefault(key, Outcome(raw))
            except LoadError:  # the waiting callers get it from the flight
                pass

        times, home, options = self.times, self._runtime.home, self.options
        beside = (options.concurrency or 1) > 1  # but the function of a call stays on the thread of its caller
        pool = self._runtime.pool(lead.depth - 1) if wide or (beside and loader is self.loader) else None
        yield Call(loader, lead, keys, ended, home=home, pool=pool, times=times, options=options)
        return False

    def is_without_loader(self) -> bool:
        """Return whether no node has a loader; else others can tell what this one cannot: which keys there are."""
        return None in self._runtime.route(self._name).peers and not self.may_load()

    def is_helpless(self, given: Given | None) -> bool:
        """Return whether a call on this node has no function to load with."""
        return given is None and self.loader.missing

    def split(self, keys: list[str], given: Given | None) -> tuple[list[str], list[str]]:
        """Return the keys that this node loads, and the keys that other nodes load."""
        if self.alone:
            return keys, []
        route, helpless = self._runtime.route(self._name), self.is_helpless(given)
        elsewhere = {key for key in keys if route.first(key, helpless=helpless) is not None}
        return [key for key in keys if key not in elsewhere], [key for key in keys if key in elsewhere]

    def may_load(self) -> bool:
        """Return whether this node has a loader, or any other may have one."""
        return not self.loader.missing or self._runtime.route(self._name).may_load(self._runtime.clock.now())

    def _from_former(self, lead: Lead, skipped: Mapping[str, Peer]) -> Path[bool]:
        """Take copies that former owners, or a skipped peer that is alive, still have. Return whether any was asked.

        This node may itself be the former owner, and stand in for the member that owns the key now.
        """
        route = self._runtime.route(self._name)
        if route.alone:
            return False
        by_peer = route.by_holder(lead.keys, skipped, self._runtime.clock.now())
        found = yield from self._peeks.ask(by_peer, former=True)
        for key, (value, version, remaining, _) in found.items():
            if self.unread.has(key, value):
                continue
            lead.keep(key, value, remaining, self.loaded.kind(key, skipped), version)
            lead.end(key, Outcome(value, version, remaining, ABSENT if value is None else PEER_HITS))
        return bool(by_peer)
