"""The miss path of one group, written once for threads and tasks (see steps.py). Read it downward.

get     (b) ask the owner's memory; where that has nothing
fetch   (c) join the flight of the key; its leader
lead        looks again, asks the owner to load, then the next in line (candidates.py), or loads here (origin.py)
serve   what a peer asks for: from memory, or loaded here; nothing is forwarded
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import Histogram, Store
from kamacache.errors import (
    CodecError,
    KamaCacheError,
    LoadCycle,
)
from kamacache.load.answers import answers, batch_error, error
from kamacache.load.flight import (
    ABORTED,
    TRIES,
    Failure,
    Flight,
    Flights,
    Outcome,
    interrupted,
    own_loop,
    wait_for,
)
from kamacache.load.loader import CHAIN, MAX_DEPTH, Loader
from kamacache.load.local import Origin
from kamacache.load.outcome import ABSENT, JOINED, LOADS, PEER_HITS, PEER_LOADS, in_memory
from kamacache.load.peek import Asking
from kamacache.load.remote import Candidates
from kamacache.net.messages import Answer
from kamacache.steps import Path, Twofold, Wait, adrive, drive

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.cluster.routes import Route
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime


class Loading:
    """The loads of one group. `runtime` is what the node lends to all its groups."""

    def __init__(self, name: str, store: Store, loader: Loader, options: GroupOptions, runtime: Runtime) -> None:
        self.name = name
        self.closed: KamaCacheError | None = None
        self.after_writes: Callable[[Iterable[str]], list[Future[None]]] = lambda _: []  # writing.py sets it
        self._store = store
        self._options = options
        self._runtime = runtime
        self._flights = Flights()  # callers here wait for these, and they may wait for peers
        self._asking = Asking(name, store, options.near_ttl, self._flights, runtime)
        self._origin = Origin(name, store, loader, options, self._asking, runtime)
        self._candidates = Candidates(
            name, store, options.load_timeout, runtime, asking=self._asking, origin=self._origin, flights=self._flights
        )

    def fits(self, key: str, raw: bytes) -> bool:
        """Whether an entry may be kept and travel."""
        return self._origin.fits(key, raw)

    def route(self, route: Route) -> None:
        """Who owns what has changed."""
        self._store.place(route.placement, route.me)
        if self.closed is None:
            self._asking.route(route)

    @property
    def loader(self) -> Loader:
        return self._origin.loader

    @loader.setter
    def loader(self, loader: Loader) -> None:
        self._origin.loader = loader

    @property
    def times(self) -> Histogram:
        """How long the calls of the loader took here."""
        return self._origin.times

    # -- a get -------------------------------------------------------------------------------------------------------

    def get(self, key: str, *, peeked: bool = False, raw: bool = False) -> Path[Any]:
        """The value of one key of which the store has nothing, nor, with `peeked`, its owner's memory.

        The store has counted it in gets. With `raw` the value is its bytes.
        """
        how = JOINED
        try:
            if self.closed is not None or CHAIN.get().depth:
                self._check((key,))
            if self.after_writes((key,)):
                yield from self.wait_for_writes((key,))
            owner = None if peeked else self._runtime.route(self.name).first(key)
            if owner is not None:
                found = yield from self._asking.peek(owner, key)
                if found is not None:
                    how = ABSENT if found[0] is None else PEER_HITS
                    return found[0] if raw else self._decode(key, found[0])
            outcomes, led = yield from self._fetch([key])
            how = outcomes[key].how if key in led else JOINED
            return self._result(key, outcomes[key], raw=raw)
        finally:
            self._store.count(how)

    def get_many(
        self, keys: list[str], values: dict[str, Any], failed: dict[str, Exception], *, raw: bool = False
    ) -> Path[None]:
        """The same for several keys, into `values`; one LoadError for all that failed, here or before."""
        counts = dict.fromkeys(keys, JOINED)
        try:
            self._check(keys)
            yield from self.wait_for_writes(keys)
            found = yield from self._asking.peek_owners(keys)
            for key, (data, *_) in found.items():
                counts[key] = ABSENT if data is None else PEER_HITS
                try:
                    if data is not None:
                        values[key] = data if raw else self._decode(key, data)
                except CodecError as error:
                    failed[key] = error
            todo = [key for key in keys if key not in found]
            outcomes, led = yield from self._fetch(todo)
            for key, outcome in outcomes.items():
                counts[key] = outcome.how if key in led else JOINED
                try:
                    value = self._result(key, outcome, raw=raw)
                except KamaCacheError as error:
                    failed[key] = error
                else:
                    if value is not None:
                        values[key] = value
        finally:
            for how in counts.values():
                self._store.count(how)
        if failed:
            raise batch_error(failed, values)

    def _check(self, keys: Iterable[str]) -> None:
        self.check_open()
        chain = CHAIN.get()
        if chain.depth >= MAX_DEPTH:
            raise LoadCycle(f"loaders ask for each other's keys {MAX_DEPTH} deep, here in {self.name!r}")
        if chain.keys:
            for key in keys:
                if (id(self._store), key) in chain.keys:
                    raise LoadCycle(f"{self.name}[{key!r}] was asked for inside its own loader", key=key)

    def wait_for_writes(self, keys: Iterable[str]) -> Path[None]:
        """Wait for the writes of these keys that are pending on this node now: later ones might go on for ever."""
        for write in self.after_writes(keys):
            yield Wait(write)

    # -- (c) the flight ----------------------------------------------------------------------------------------------

    def _fetch(self, keys: list[str]) -> Path[tuple[dict[str, Outcome], set[str]]]:
        """Join or lead the flights of these keys: how each ended, and which were led from here."""
        outcomes: dict[str, Outcome] = {}
        ours: set[str] = set()
        if not keys:
            return outcomes, ours
        loop_thread = yield Twofold(self._loop_thread, self._loop_thread_here)
        for _ in range(TRIES):
            todo = [key for key in keys if key not in outcomes]
            if not todo:
                break
            led, joined = self._flights.join(todo, self._options.load_timeout, loop_thread)
            ours.update(led)
            if led:
                outcomes.update((yield self._spawn(led)))
            for key, flight in (led | joined).items():
                if key not in outcomes:
                    outcome = yield from wait_for(self._flights, flight, self._how(key))
                    if not outcome.aborted:
                        outcomes[key] = outcome
        return outcomes | {key: interrupted(key, JOINED) for key in keys if key not in outcomes}, ours

    def _how(self, key: str) -> int:
        """How a load that did not end in time counts, for the one who led it."""
        return LOADS if self._runtime.route(self.name).first(key) is None else PEER_LOADS

    def _loop_thread(self) -> int | None:
        """For a caller on a thread: the thread of the loop that will drive its loads."""
        if not self.loader.is_async:
            return None
        if self._runtime.home.is_here():
            raise LoadCycle(own_loop(self.name).text)
        return self._runtime.home.ident()

    async def _loop_thread_here(self) -> int:
        return threading.get_ident()

    def _spawn(self, led: dict[str, Flight]) -> Twofold:
        """Lead: on the thread of a sync caller where the loader is plain, else in a task that outlives its callers."""

        def run() -> dict[str, Outcome]:
            if not self.loader.is_async:
                return drive(self._lead(led))
            try:
                self._runtime.home.spawn(adrive(self._lead(led))).add_done_callback(lambda _: self._abort(led))
            except BaseException:
                self._abort(led)
                raise
            return {}

        async def arun() -> dict[str, Outcome]:
            import asyncio  # noqa: PLC0415 - it is running

            task = self._runtime.home.task(asyncio.get_running_loop(), adrive(self._lead(led)))
            task.add_done_callback(ended)
            return {}

        def ended(task: Any) -> None:
            self._abort(led)  # where it was cancelled before it began
            if not task.cancelled():
                task.exception()  # taken note of: the flights carry it to whoever waits

        return Twofold(run, arun)

    def _abort(self, led: dict[str, Flight]) -> None:
        for flight in led.values():
            self._flights.finish(flight, ABORTED)

    def _lead(self, led: dict[str, Flight]) -> Path[dict[str, Outcome]]:
        """End every flight: from memory, by the owner, by the next in line, or by loading here."""
        ended: dict[str, Outcome] = {}

        def end(key: str, outcome: Outcome) -> None:
            if ended.setdefault(key, outcome) is outcome:
                self._flights.finish(led[key], outcome)

        try:
            for key in led:
                if (outcome := in_memory(self._store, key)) is not None:
                    end(key, outcome)
            yield from self._candidates.load(led, [key for key in led if key not in ended], end)
            return ended
        except KamaCacheError as error:
            for key in led:
                end(key, Outcome(how=self._how(key), failure=Failure(type(error), str(error))))
            return ended
        finally:
            self._abort(led)

    # -- what peers ask ----------------------------------------------------------------------------------------------

    def serve(self, keys: list[str], skipped: Mapping[str, Peer], depth: int) -> Path[list[Answer]]:
        """An answer for each key, for a peer that has passed over `skipped`."""
        self.check_open()
        yield from self.wait_for_writes(keys)
        outcomes = yield from self._origin.load(keys, skipped, depth)
        return answers(outcomes[key] for key in keys)

    def serve_soon(self, keys: list[str]) -> Future[list[Answer] | None] | None:
        """The answer for one key that is being loaded here already, without a thread that waits for it.

        It ends before the many who wait here can get hold of the interpreter; with None where the load was interrupted.
        """
        flight = self._origin.flights.running(keys[0]) if len(keys) == 1 else None
        if flight is None or self.closed is not None or self.after_writes(keys):
            return None
        soon: Future[list[Answer] | None] = Future()

        def ended(future: Future[Outcome]) -> None:
            outcome = future.result()
            soon.set_result(None if outcome.aborted else answers([outcome]))

        flight.future.add_done_callback(ended)
        return soon

    # -- writes come in between --------------------------------------------------------------------------------------

    def detach(self, writes: Sequence[tuple[str, int]]) -> None:
        """Nobody who asks later joins a load that is older than these writes, and nothing of it is kept."""
        self._origin.flights.detach(writes)  # first, so that no new flight of callers joins an old load
        self._flights.detach(writes)

    def detach_all(self) -> None:
        """The same for every key."""
        self._origin.flights.detach_all()
        self._flights.detach_all()

    def block(self, keys: Iterable[str]) -> None:
        """Keep nothing for these keys until `unblock`: a write of them is pending."""
        keys = list(keys)
        self._origin.flights.block(keys)
        self._flights.block(keys)

    def unblock(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        self._flights.unblock(keys)
        self._origin.flights.unblock(keys)

    def check_open(self) -> None:
        """Raise what `close` was given, as an error of its own: one raised again and again would grow a traceback."""
        if self.closed is not None:
            raise type(self.closed)(*self.closed.args)

    def close(self, error: KamaCacheError) -> None:
        """Every get raises `error` from now on, those that wait included."""
        self.closed = error
        for flights in (self._flights, self._origin.flights):
            for flight in flights.detach_all():
                flights.finish(flight, Outcome(how=self._how(flight.key), failure=Failure(type(error), str(error))))

    # -- the ends ----------------------------------------------------------------------------------------------------

    def _decode(self, key: str, raw: bytes | None) -> Any:
        if raw is None:
            return None
        if codecs.is_shareable(self._options.codec) and (shared := self._store.peek(key)) is not None:
            return shared
        return codecs.decode(self._options.codec, raw)

    def _result(self, key: str, outcome: Outcome, *, raw: bool) -> Any:
        if outcome.failure is not None:
            raise error(outcome.failure, key)
        return outcome.value if raw else self._decode(key, outcome.value)
