"""Wait for loads that are under way, and keep the chain of loads that the running code is inside of.

The table of flights is native (crates/python/src/flights): a flight is begun, joined and ended in one step each, and
no interrupt can come into such a step. This file has the two ways to wait for a flight: on a thread and in a task.
"""

from __future__ import annotations

import _thread
from collections.abc import Callable
from contextvars import ContextVar
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, NamedTuple

from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, LoadCycle
from kamacache.load.outcome import ABORTED, LOAD_ERRORS, LOADS, PEER_LOADS, Outcome, caused, failed, timed_out
from kamacache.log import log
from kamacache.steps import needed_loop, running_loop

if TYPE_CHECKING:
    from kamacache._engine import Flight, Flights, Lead
    from kamacache.cluster.peers import Peer
    from kamacache.steps import Path

MAX_DEPTH = 8  # loaders of groups that ask for each other's keys: each may hold a thread, of this node or of another

# The flight (in load_many: the lead) whose loader the running code is inside of.
CHAIN: ContextVar[Flight | Lead | None] = ContextVar("kamacache_chain", default=None)


def chain() -> Flight | Lead | None:
    """Return the load that the running code is inside of, unless it has ended: its context may outlive it."""
    inner = CHAIN.get()
    return None if inner is None else inner.open()


def depth_of(outer: Flight | Lead | None, *, given: bool) -> int:
    """Return how many loaders wait for a load inside `outer`. A given function holds its caller's thread alone."""
    return 0 if outer is None else outer.depth - given


def own_loop(key: str) -> LoadCycle:
    """Return the error for a thread that would wait for a load that its own event loop is to run."""
    return LoadCycle(
        f"get would block the event loop that is to load {key!r}: use aget", key=key, cause_type="LoadCycle"
    )


class Landing:
    """Wait until a flight, or every flight of a lead, has ended. The result is whether that happened in time."""

    __slots__ = ("_flight",)

    def __init__(self, flight: Flight | Lead) -> None:
        self._flight = flight

    def run(self) -> bool:
        flight = self._flight
        gate = _thread.allocate_lock()
        gate.acquire()
        if not flight.wake(gate.release):
            return True
        driver = flight.driver
        if driver is not None and driver is running_loop():
            return False  # this thread would wait for itself
        while not flight.ended and (left := flight.left()) > 0:
            gate.acquire(timeout=min(left, TIMEOUT_MAX))
        return flight.ended

    async def arun(self) -> bool:
        loop, flight = needed_loop(), self._flight
        own = flight.timed and flight.driver is loop  # it ends in its time by itself
        here = _thread.get_ident()
        future = loop.create_future()

        def landed() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            if _thread.get_ident() == here:
                landed()
            else:
                loop.call_soon_threadsafe(landed)

        if not flight.wake(wake):
            return True
        while (left := flight.left()) > 0:
            timer = loop.call_later(left, landed) if left < TIMEOUT_MAX and not own else None
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()
            if flight.ended:
                break
            future = loop.create_future()
        return flight.ended


class Flying(NamedTuple):
    """The flights that one call waits for: those that it leads, and those of other callers by key."""

    lead: Lead
    joined: dict[str, Flight]


def land(flights: Flights, flying: Flying, timeout: float | None) -> Path[dict[str, Outcome]]:
    """Return the outcomes of the flights. A key whose leader was interrupted is missing and must be requested again.

    The first caller that notices that a flight's time is over ends the flight for all callers that wait for it.
    """
    lead, joined = flying
    if not lead.ended and not (yield Landing(lead)):
        for key in lead.keys:
            _give_up(flights, lead.flight(key), timeout)
    outcomes = {key: outcome for key, outcome in lead.outcomes().items() if outcome is not ABORTED}
    for key, flight in joined.items():
        if not flight.ended and not (yield Landing(flight)):
            _give_up(flights, flight, timeout)
        if (outcome := flight.outcome) is not ABORTED:
            outcomes[key] = outcome
    return outcomes


def _give_up(flights: Flights, flight: Flight, timeout: float | None) -> None:
    """End a flight whose time is over, or that nothing runs any more.

    If another member was to load it, those who wait ask again: one of them may load it now.
    """
    if flight.left() <= 0 and not isinstance(flight.driver, Holder):
        how = LOADS if flight.here else PEER_LOADS
        if flight.here and not flight.ended:
            flights.store.count(LOAD_ERRORS)  # before the waiting callers look
        flights.end(flight, timed_out(flight.key, timeout, how))
    elif flight.driver is not None and flight.driver is running_loop():
        raise own_loop(flight.key)
    else:
        flights.end(flight, ABORTED)


class Holder:
    """The member that runs a flight. The sweeper asks whether it `is_running`, as it asks an event loop."""

    __slots__ = ("_deadline", "_id", "_peer", "_timeout")

    def __init__(self, member: str, peer: Peer | None, timeout: float | None) -> None:
        self._id = member
        self._peer = peer  # None: it is not known yet, so that time alone ends its lease
        self._timeout = timeout
        self._deadline = Deadline.after(None)

    def begin(self) -> None:
        """Begin its time with the grant: its request may have waited for the lease of another."""
        self._deadline = Deadline.after(self._timeout)

    def is_running(self) -> bool:
        """Return whether it may still bring its value."""
        peer = self._peer
        gone = peer is not None and (peer.dead or peer.left or peer.ended or peer.id != self._id)
        return not gone and not self._deadline.passed


class Start:
    """Begin what a lead leads: on the waiting thread if `inline` is given, else `elsewhere`, to outlive its callers.

    `elsewhere` must have the lead abandoned at the end of the work that it begins. Otherwise an interrupt before the
    first instruction of that work, or a cancellation, would leave flights without a leader: waiting callers keep the
    lead alive, so its destruction does not end them.
    """

    __slots__ = ("_elsewhere", "_inline", "_lead")

    def __init__(self, lead: Lead, inline: Callable[[], Any] | None, elsewhere: Callable[[], object]) -> None:
        self._lead = lead
        self._inline = inline
        self._elsewhere = elsewhere

    def run(self) -> Any:
        if self._inline is not None:
            return self._inline()
        if self._lead.driver is not None and self._lead.driver is running_loop():
            raise own_loop(self._lead.keys[0])  # this thread would wait for itself
        return self.begin()

    async def arun(self) -> Any:
        loop = needed_loop()
        if self._lead.driver is not None:
            self.begin()  # a task, which begins in the next turn of its loop
        else:  # in the next turn of this loop, so that every caller of this turn joins
            self._lead.drive(loop)
            loop.call_soon(self._begin_here)
            self._lead.hand_over()

    def _begin_here(self) -> None:
        self._lead.drive(None)
        self.begin()

    def begin(self) -> None:
        """Begin elsewhere. If that fails, the load ends with that failure."""
        try:
            self._elsewhere()
        except Exception as error:
            end = failed(error) if isinstance(error, KamaCacheError) else Outcome(failure=caused(error))
            if not isinstance(error, KamaCacheError):
                log.exception("the load of %(key)r could not begin", key=next(iter(self._lead.keys), ""))
            for key in self._lead.keys:
                self._lead.end(key, end)
        except BaseException:
            self._lead.abandon()
            raise
        self._lead.hand_over()


def abandon_idle(flights: Flights, timeout: float | None) -> None:
    """Abort the flights of event loops that no longer run, and of holders that are gone: their callers load again.

    A flight of a function on this node whose time is over ends as late: maybe only other members wait for it. The
    sweeper calls this.
    """
    for flight in flights.watched():
        driver = flight.driver  # None if a thread runs it, or the load has just begun elsewhere
        if driver is not None and not driver.is_running():
            flights.end(flight, ABORTED)
        elif driver is None and flight.here and flight.left() <= 0:
            _give_up(flights, flight, timeout)
