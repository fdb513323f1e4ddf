"""Old values and remembered failures: what a node answers without a load, or instead of one that has failed.

The names are those of RFC 5861 and of Caffeine. The store decides about a value (crates/engine/src/store/age.rs): a
write drops it as it drops any older one, so an old value is never one that a confirmed write has replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from kamacache.errors import LoadCycle, LoadError, Overloaded
from kamacache.load.outcome import ABSENT, HITS, JOINED, STALE, Failure, Outcome

if TYPE_CHECKING:
    from kamacache._engine import Clock, Lead, Store
    from kamacache.rules import Rules

_REFRESH, _IF_ERROR = 1, 2  # what Store.aged says
_HOLD = 1.0  # seconds for which an old value is answered while its load takes long
_MOST_TIMES = 32  # error_ttl, at most, for which a failure is remembered
_MOST = 10_000  # failures that are remembered


class _Remembered(NamedTuple):
    failure: Failure
    version: int  # known of the key when its load began: a later write ends it
    until: float
    wait: float


class Freshness:
    """The rules of one group about old values and failures, at the node that loads."""

    def __init__(self, store: Store, rules: Rules, clock: Clock) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._failures: dict[str, _Remembered] = {}  # changes in single steps
        self._overdue: dict[str, Lead] = {}  # loads that go on after their callers got the old value

    def ready(self, keys: Iterable[str]) -> tuple[dict[str, Outcome], list[str]]:
        """Return the outcomes of keys that need no load now, and those of them that are to be loaded anew meanwhile."""
        outcomes: dict[str, Outcome] = {}
        anew = []
        for key in keys:
            old = self._store.aged(key)
            if old is not None and old[3] == _REFRESH:
                anew.append(key)
            if old is None or old[3] == _IF_ERROR:
                failure = self._remembered(key)
                if failure is not None:
                    outcomes[key] = self.instead(key, Outcome(how=JOINED, failure=failure))
                    continue
                if old is None or key not in self._overdue:
                    continue
                self._store.hold(key, _HOLD)
            outcomes[key] = self._answer(old)
        return outcomes, anew

    def instead(self, key: str, outcome: Outcome) -> Outcome:
        """Return the old value in the place of a failure, if there is one for that; else the outcome."""
        failure = outcome.failure
        if failure is None or not issubclass(failure.kind, LoadError | Overloaded) or failure.kind is LoadCycle:
            return outcome
        old = self._store.aged(key)
        return outcome if old is None else self._answer(old)

    def _answer(self, old: tuple[bytes | None, int, float | None, int]) -> Outcome:
        value, version, remaining, _ = old
        if remaining == 0:
            self._store.count(STALE)
        return Outcome(value, version, remaining, ABSENT if value is None else HITS)

    # -- failures ----------------------------------------------------------------------------------------------------

    def failed(self, key: str, version: int, failure: Failure) -> None:
        """Remember the failure of a load that began when `version` was known of its key."""
        first, now = self._rules.error_ttl, self._clock.now()
        if not first:
            return
        before = self._failures.pop(key, None)
        wait = first
        if before is not None and before.version == version and now < before.until + _MOST_TIMES * first:
            wait = before.wait if now < before.until else min(2 * before.wait, _MOST_TIMES * first)
        while len(self._failures) >= _MOST:
            self._failures.pop(next(iter(self._failures)), None)
        self._failures[key] = _Remembered(failure._replace(cause=None), version, now + wait, wait)

    def loaded(self, key: str) -> None:
        """Forget that a load of this key has failed."""
        self._failures.pop(key, None)

    def forget(self) -> None:
        """Forget all failures."""
        self._failures.clear()

    def _remembered(self, key: str) -> Failure | None:
        found = self._failures.get(key)
        if found is None or self._clock.now() >= found.until or self._store.known(key) > found.version:
            return None
        return found.failure

    # -- loads that take long ----------------------------------------------------------------------------------------

    def patient(self, lead: Lead) -> list[str]:
        """Return the keys whose callers wait for `soft_timeout` at most: an old value is there for them."""
        if self._rules.soft_timeout is None:
            return []
        old = ((key, self._store.aged(key)) for key in lead.keys)
        return [key for key, entry in old if entry is not None]

    def limit(self, lead: Lead, keys: list[str]) -> None:
        """Give the callers that wait for these keys the old values after soft_timeout. The load goes on."""
        timer = threading.Timer(self._rules.soft_timeout or 0.0, self._overtake, (lead, keys))
        timer.daemon = True
        timer.start()
        if not lead.wake(timer.cancel):
            timer.cancel()

    def _overtake(self, lead: Lead, keys: list[str]) -> None:
        for key in keys:
            if not lead.flight(key).ended and (old := self._store.aged(key)) is not None:
                self._overdue[key] = lead
                self._store.hold(key, _HOLD)
                lead.end(key, self._answer(old))

    def done(self, lead: Lead) -> None:
        """Take note that a lead loads no more."""
        for key in [key for key, other in list(self._overdue.items()) if other is lead]:
            self._overdue.pop(key, None)
