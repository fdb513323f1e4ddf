"""Load keys for peers. No thread waits here for a load of another thread, so none can wait for its own turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING

from kamacache._engine import Promise
from kamacache.errors import GroupClosed, NodeClosed, NoLoader, PeerError
from kamacache.load.flight import Flying
from kamacache.load.outcome import ABORTED, LOADS, Outcome, answers, raised, timed_out
from kamacache.net.messages import Answer
from kamacache.steps import Path, drive
from kamacache.thread import after

if TYPE_CHECKING:
    from kamacache._engine import Flight
    from kamacache.cluster.peers import Peer
    from kamacache.core import GroupCore
    from kamacache.load.grant import Granting

_BEFORE = 1.0  # seconds before the end of a peer's time, at most, at which it gets old values


class ServedLoad:
    """The load of some keys for a peer that has skipped the members in `skipped`. `answer` ends with it.

    It loads here or joins the flights here, and never forwards the request. With `granting`, it grants to the asker
    what it would load here; with `anew`, also what is in memory.
    """

    def __init__(
        self,
        core: GroupCore,
        keys: list[str],
        skipped: Mapping[str, Peer],
        depth: int,
        gone: Callable[[], bool],
        context: Context,
        granting: Granting | None = None,
        *,
        at_once: bool = False,
        anew: bool = False,
    ) -> None:
        """Begin the load, which runs in copies of `context`; if the peer is `gone` when its turn comes, drop it.

        Raises GroupClosed, NodeClosed, Overloaded.
        """
        core.misses.check_open()
        self.answer = Promise()  # of a list of Answer
        self._core = core
        self._local = core.misses.local
        self._keys = keys
        self._skipped = skipped
        self._depth = depth
        self._gone = gone
        self._context = context
        self._granting = granting
        self._at_once = at_once
        self._anew = anew
        self._outcomes: dict[str, Outcome] = {}
        self._flying: list[tuple[str, Flight]] = []
        self._limited = False
        self._since = 0  # the turn at which it began, or asked again
        if granting is not None:
            self._local.turns.enter(granting, keys)
            self.answer.wake(lambda: self._local.turns.leave(granting))
        try:
            self._go(keys)
        except BaseException as error:
            self.answer.set_exception(error)
            raise

    def _go(self, keys: list[str]) -> None:
        self._since = self._local.turns.number
        self._context.copy().run(self._load, keys)  # a copy: one that runs already cannot run again

    def _load(self, keys: list[str]) -> None:
        if not self._anew and (ready := self._local.ready(keys, self._granting)):
            self._outcomes |= ready
            keys = [key for key in keys if key not in ready]
        self._limit(keys)
        running = [self._local.flights.running(key) for key in keys]
        if all(running) and not self._core.store.pending:
            self._flying = [(key, flight) for key, flight in zip(keys, running, strict=True) if flight is not None]
            self._next()
        elif self._granting is None and self._local.loader.is_async and not self._core.store.pending:
            self._run(keys)  # it begins on the home loop
        else:
            # No loader runs then, so loaders that hang must not hold it up. But it may ask former owners, and wait.
            unloaded = self._granting is not None or self._local.loader.missing
            self._core.runtime.pool(None if unloaded else self._depth).submit(lambda: self._run(keys))

    def _limit(self, keys: list[str]) -> None:
        """Answer with old values, if there are any, before the time of the peer is over: a late load has failed."""
        timeout, freshness = self._core.options.load_timeout, self._local.freshness
        if freshness is None or timeout is None or self._granting is not None or self._limited:
            return
        if not freshness.has_old(keys):
            return
        self._limited = True
        after(timeout - min(timeout / 5, _BEFORE), self._answer_late, unless=self.answer)

    def _answer_late(self) -> None:
        timeout = self._core.options.load_timeout
        late = {key: self._local.instead(key, timed_out(key, timeout, LOADS)) for key in self._keys}
        outcomes = late | self._outcomes
        self.answer.set_result(answers(((key, outcomes[key]) for key in self._keys), self._is_kept))

    def _begin(self, keys: list[str]) -> Path[Flying]:
        yield from self._core.misses.wait_for_writes(keys)
        timeout, given = self._core.options.load_timeout, self._granting
        return (yield from self._local.start(keys, timeout, self._skipped, self._depth, given, anew=self._anew))

    def _run(self, keys: list[str]) -> None:
        if self._gone() or (self._granting is not None and self._granting.revoked):
            self.answer.set_exception(PeerError("the peer waits no more"))
            return
        try:
            flying = drive(self._begin(keys))
        except BaseException as error:  # noqa: BLE001 - it belongs to the peer that waits
            self.answer.set_exception(error)
            return
        led = {key: flying.lead.flight(key) for key in keys if key not in flying.joined}
        self._flying = [*led.items(), *flying.joined.items()]
        self._next()

    def _next(self) -> None:
        """Take in the flights that have ended. The end of the next one calls this again.

        An asker that was granted a key is not kept waiting for others.
        """
        at_once = self._granting is not None and (self._at_once or bool(self._granting.versions))
        while self._flying:
            key, flight = self._flying[-1]
            if not at_once and flight.wake(self._next):
                return
            self._flying.pop()
            if (outcome := self._answer_in(key, flight)) is not None:
                self._outcomes[key] = outcome
                if outcome.failure is not None and not self._local.loaded.has_old(key):  # else the peer gets that
                    self._core.failures.note(key, outcome.failure.cause)
        if at_once:
            self._answer_at_once()
        else:
            self._finish()

    def _answer_in(self, key: str, flight: Flight) -> Outcome | None:
        """Return the answer that a load ended with, if any. An asker that brings a function may rather load the key."""
        outcome: Outcome | None = flight.outcome
        if outcome is None or outcome is ABORTED:
            return None
        if self._granting is not None and not outcome.too_large:
            return self._local.for_function({key: outcome}, (key,)).get(key)
        return None if self._waits() and self._local.turns.passes(key, outcome, self._since, joined=True) else outcome

    def _waits(self) -> bool:
        """Return whether a plain get of the peer waits for functions: this node cannot load, and none waits for it."""
        return self._local.loader.missing and self._granting is None and self._depth == 0

    def _answer_at_once(self) -> None:
        versions = {} if self._granting is None else self._granting.versions
        told = dict(zip(self._outcomes, answers(self._outcomes.items(), self._is_kept), strict=True))
        granted = {key: self._local.granted(key, version, anew=self._anew) for key, version in versions.items()}
        self.answer.set_result([granted.get(key) or told.get(key) or Answer(later=True) for key in self._keys])

    def _finish(self) -> None:
        again = [key for key in self._keys if key not in self._outcomes]  # their leaders were interrupted
        self._outcomes = {key: self._local.instead(key, outcome) for key, outcome in self._outcomes.items()}
        ended = self._outcomes.values()
        failures = [one.failure for one in ended if one.failure is not None and not one.too_large]
        elsewhere = [failure for failure in failures if failure.kind in (NodeClosed, GroupClosed, NoLoader)]
        try:
            if again:
                turn = self._local.turns.next(again[0]) if self._waits() else None
                if turn is None or not turn.wake(lambda: self._go_on(again)):
                    self._go(again)
            elif elsewhere:  # the peer goes on to the next candidate
                self.answer.set_exception(raised(elsewhere[0], self._keys[0]))
            else:
                outcomes = ((key, self._outcomes[key]) for key in self._keys)
                self.answer.set_result(answers(outcomes, self._is_kept))
        except Exception as error:  # noqa: BLE001 - it belongs to the peer that waits
            self.answer.set_exception(error)

    def _go_on(self, again: list[str]) -> None:
        """Go on after the turn of a function, on the thread of that."""
        try:
            self._go(again)
        except Exception as error:  # noqa: BLE001 - it belongs to the peer that waits
            self.answer.set_exception(error)

    def _is_kept(self, key: str) -> bool:
        return self._core.store.find(key) is not None
