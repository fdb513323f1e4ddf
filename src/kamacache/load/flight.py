"""Singleflight: one running load per key, for threads and tasks alike.

A flight that is *detached* goes on for those who wait for it already, but nobody joins it any more and what it brings
is not kept: a write, a clear or a timeout came in between. A flight that is *aborted* (its leader was interrupted)
sends its waiters back to try again. After Go's golang.org/x/sync/singleflight, whose calls know neither.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from types import MappingProxyType
from typing import NamedTuple

from kamacache.errors import KamaCacheError, LoadCycle, LoadError, LoadTimeout
from kamacache.steps import Path, Twofold, Wait

TRIES = 3  # flights that a caller follows when their leaders are interrupted, before it gives up


class Failure(NamedTuple):
    """Why a load failed. Each caller makes an error of its own from it."""

    kind: type[KamaCacheError]
    text: str
    cause: BaseException | None = None
    cause_type: str = ""


class Outcome(NamedTuple):
    """How a flight ended: with a value or absence (value None), a failure, or aborted."""

    value: bytes | None = None
    version: int = 0
    remaining: float | None = None
    how: int = 0  # the counter of Store.OUTCOMES for the one who led it
    failure: Failure | None = None
    too_large: bool = False  # handed to callers, but neither kept nor sent to another node
    aborted: bool = False


ABORTED = Outcome(aborted=True)


class Flight:
    """One running load. `loop_thread` is the thread whose event loop drives it, if one does.

    `whole` is the flight that this one is the last part of: their time is over at once.
    """

    __slots__ = ("deadline", "detached", "ended", "future", "key", "loop_thread", "timeout", "version")

    def __init__(
        self, key: str, timeout: float | None, loop_thread: int | None, version: int, whole: Flight | None = None
    ) -> None:
        self.key = key
        self.version = version  # the greatest of its key that was known here before it began
        self.loop_thread = loop_thread
        self.timeout = timeout
        self.future: Future[Outcome] = Future()
        self.deadline: float | None
        if whole is not None:
            self.deadline = whole.deadline
        else:
            self.deadline = None if timeout is None else time.monotonic() + timeout
        self.detached = False
        self.ended = False

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and time.monotonic() > self.deadline


class Flights:
    """The flights of one group, and the keys for which a write is pending.

    Invariant, under `_lock`: `_open` holds the flights that may be joined, none of them detached; a value is kept only
    while its flight is not detached and its key not blocked, so that once `detach` or `block` returned, nothing that
    was under way before can be kept any more.
    """

    __slots__ = ("_blocked", "_known", "_lock", "_open")

    def __init__(self, known: Callable[[str], int] = lambda _: 0) -> None:
        self._known = known  # only where a flight begins its load itself, and cannot have an older one inside
        self._lock = threading.Lock()
        self._open: dict[str, Flight] = {}
        self._blocked: Counter[str] = Counter()

    def join(
        self,
        keys: Iterable[str],
        timeout: float | None,
        loop_thread: int | None,
        wholes: Mapping[str, Flight] = MappingProxyType({}),
    ) -> tuple[dict[str, Flight], dict[str, Flight]]:
        """(led, joined): new flights that the caller now leads and must end, and those of others.

        Only those are joined that are in time and no older than what is known by now: `detach` may be yet to come.
        """
        led: dict[str, Flight] = {}
        joined: dict[str, Flight] = {}
        with self._lock:
            for key in keys:
                flight = self._open.get(key)
                if flight is not None and (flight.late or flight.version < self._known(key)):
                    self._detach(key)
                    flight = None
                if flight is None:
                    flight = Flight(key, timeout, loop_thread, self._known(key), wholes.get(key))
                    self._open[key] = led[key] = flight
                elif key not in led:
                    joined[key] = flight
        return led, joined

    def running(self, key: str) -> Flight | None:
        """The flight of this key that may be joined."""
        with self._lock:
            flight = self._open.get(key)
        return None if flight is None or flight.late else flight

    def keep(self, key: str, flight: Flight | None, put: Callable[[], bool]) -> bool:
        """Call `put` unless a write came in between, or the flight is late."""
        with self._lock:
            if (flight is not None and (flight.detached or flight.late)) or key in self._blocked:
                return False
            return put()

    def begin(self, flight: Flight) -> bool:
        """Its load begins only now: writes that came while peers were asked are no reason not to keep what it brings.

        False: nobody waits for it any more, or another flight has taken its place, and its waiters are to join that.
        """
        with self._lock:
            if flight.ended or (flight.detached and flight.key in self._open):
                return False
            if not flight.late:
                flight.version = self._known(flight.key)
                flight.detached = False
                self._open[flight.key] = flight
            return True

    def finish(self, flight: Flight, outcome: Outcome) -> None:
        """End a flight; only the first end counts."""
        with self._lock:
            self._remove(flight)
            if flight.ended:
                return
            flight.ended = True
        flight.future.set_result(outcome)

    def expire(self, flight: Flight, outcome: Outcome) -> None:
        """End a flight that took too long: what its leader still brings is not kept."""
        with self._lock:
            flight.detached = True
        self.finish(flight, outcome)

    def seal(self, flight: Flight) -> None:
        """What it brings may be older than what is known: nobody joins it any more, and nothing of it is kept."""
        with self._lock:
            flight.detached = True
            self._remove(flight)

    def detach(self, writes: Iterable[tuple[str, int]]) -> None:
        """Keep nothing of the loads that began before these writes, (key, version) each, were known here.

        The owner knows a write before it is told of it like every listener: what began in between is as new as that.
        """
        with self._lock:
            for key, version in writes:
                flight = self._open.get(key)
                if flight is not None and flight.version < version:
                    self._detach(key)

    def detach_all(self) -> list[Flight]:
        """The same for every key."""
        with self._lock:
            flights = list(self._open.values())
            for flight in flights:
                flight.detached = True
            self._open.clear()
        return flights

    def block(self, keys: Iterable[str]) -> None:
        """Keep nothing for these keys until they are unblocked as often."""
        with self._lock:
            for key in keys:
                self._blocked[key] += 1
                self._detach(key)

    def unblock(self, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                self._blocked[key] -= 1
                if not self._blocked[key]:
                    del self._blocked[key]

    def _detach(self, key: str) -> None:
        flight = self._open.pop(key, None)
        if flight is not None:
            flight.detached = True

    def _remove(self, flight: Flight) -> None:
        if self._open.get(flight.key) is flight:
            del self._open[flight.key]


def wait_for(flights: Flights, flight: Flight, how: int) -> Path[Outcome]:
    """Wait for a flight until its time is over; the first to notice that ends it for all."""
    wait = Wait(flight.future, flight.deadline)

    def run() -> Outcome:
        if flight.loop_thread == threading.get_ident() and not flight.ended:
            return Outcome(how=how, failure=own_loop(flight.key))
        outcome: Outcome = wait.run()
        return outcome

    try:
        outcome: Outcome = yield Twofold(run, wait.arun)
    except TimeoutError:
        flights.expire(flight, timed_out(flight, how))
        outcome = yield Wait(flight.future)
    return outcome


def timed_out(flight: Flight, how: int) -> Outcome:
    """The end of a flight that took too long."""
    text = f"the load of {flight.key!r} took longer than {flight.timeout or 0:g} s"
    return Outcome(how=how, failure=Failure(LoadTimeout, text, cause_type="LoadTimeout"))


def interrupted(key: str, how: int) -> Outcome:
    """The end for a caller whose leaders were interrupted one after the other."""
    return Outcome(how=how, failure=Failure(LoadError, f"the load of {key!r} was interrupted {TRIES} times"))


def own_loop(key: str) -> Failure:
    """Why a thread must not wait for what its own event loop is to bring."""
    text = f"get would block the event loop that is to load {key!r}: use aget"
    return Failure(LoadCycle, text, cause_type="LoadCycle")
