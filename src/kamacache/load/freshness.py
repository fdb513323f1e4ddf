"""Old values and remembered failures: what a node answers without a load, or instead of one that has failed.

The names are those of RFC 5861 and of Caffeine. The store decides about a value (crates/engine/src/store/age.rs): a
write drops it as it drops any older one, so an old value is never one that a confirmed write has replaced.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from kamacache.errors import LoadCycle, LoadError, Overloaded
from kamacache.load.flight import Holder
from kamacache.load.outcome import ABSENT, HITS, JOINED, STALE, Failure, Outcome, trace_of
from kamacache.thread import after

if TYPE_CHECKING:
    from kamacache._engine import Clock, Lead, Store
    from kamacache.load.grant import Granting
    from kamacache.rules import Rules

_REFRESH, _IF_ERROR = 1, 2  # what Store.aged says
_HOLD = 1.0  # seconds for which an old value is answered while its load takes long
_MOST_TIMES = 32  # error_ttl, at most, for which a failure is remembered
_MOST = 10_000  # failures that are remembered
_PART = 8  # of max_bytes, which they may take beside it
_OVERHEAD = 700  # bytes of one beyond its texts


class _Remembered(NamedTuple):
    failure: Failure
    version: int  # known of the key when its load began: a later write ends it
    until: float
    wait: float


class _Failures:
    """The failures of keys, the oldest of which make room. Invariant, under `_lock`: `_bytes` is what all take."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._by_key: dict[str, _Remembered] = {}
        self._bytes = 0

    def get(self, key: str) -> _Remembered | None:
        return self._by_key.get(key)

    def add(self, key: str, one: _Remembered) -> None:
        with self._lock:
            self._drop(key)
            self._by_key[key] = one
            self._bytes += _size(key, one)
            while len(self._by_key) > _MOST or self._bytes > self._most_bytes:
                self._drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        if key in self._by_key:  # most loads take no lock for it
            with self._lock:
                self._drop(key)

    def _drop(self, key: str) -> None:
        if (one := self._by_key.pop(key, None)) is not None:
            self._bytes -= _size(key, one)

    def clear(self) -> None:
        with self._lock:
            self._by_key.clear()
            self._bytes = 0


def _size(key: str, one: _Remembered) -> int:
    return len(key) + len(one.failure.text) + len(one.failure.trace) + _OVERHEAD


class Freshness:
    """The rules of one group about old values and failures, at the node that loads."""

    def __init__(self, store: Store, rules: Rules, clock: Clock, max_bytes: int) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._failures = _Failures(max_bytes // _PART)
        self._overdue: dict[str, tuple[Lead, Granting | None]] = {}  # that go on after callers got the old value

    def ready(self, keys: Iterable[str]) -> tuple[dict[str, Outcome], list[str]]:
        """Return the outcomes of keys that need no load now, and those of them that are to be loaded anew meanwhile."""
        outcomes: dict[str, Outcome] = {}
        anew = []
        for key in keys:
            old, failure = self._store.aged(key), self._remembered(key)
            if old is not None and old[3] != _IF_ERROR:
                outcomes[key] = self._answer(old)
                if old[3] == _REFRESH and failure is None:
                    anew.append(key)
            elif failure is not None:
                outcomes[key] = self.instead(key, Outcome(how=JOINED, failure=failure))
            elif old is not None and self._is_overdue(key):
                self._store.hold(key, _HOLD)
                outcomes[key] = self._answer(old)
        return outcomes, anew

    def has_old(self, keys: Iterable[str]) -> bool:
        """Return whether there is an old value for a failure of any of these keys."""
        return any(self._store.aged(key, claim=False) is not None for key in keys)

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
        before, wait = self._failures.get(key), first
        if before is not None and before.version == version and now < before.until + _MOST_TIMES * first:
            wait = before.wait if now < before.until else min(2 * before.wait, _MOST_TIMES * first)
        # Not the exception: its frames would hold what the loader had.
        kept = failure._replace(cause=None, trace=failure.trace or trace_of(failure.cause))
        self._failures.add(key, _Remembered(kept, version, now + wait, wait))

    def loaded(self, key: str) -> None:
        """Forget that a load of this key has failed."""
        self._failures.drop(key)

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
        old = ((key, self._store.aged(key, claim=False)) for key in lead.keys)
        return [key for key, entry in old if entry is not None]

    def limit(self, lead: Lead, keys: list[str], granting: Granting | None) -> None:
        """Give the callers that wait for these keys the old values after soft_timeout. The load goes on.

        If it was granted to another member, so does its lease.
        """
        after(self._rules.soft_timeout or 0.0, lambda: self._overtake(lead, keys, granting), unless=lead)

    def _overtake(self, lead: Lead, keys: list[str], granting: Granting | None) -> None:
        for key in keys:
            if not lead.flight(key).ended and (old := self._store.aged(key)) is not None:
                if (before := self._overdue.get(key)) is not None:
                    self.over(key, before[0])
                self._overdue[key] = (lead, granting)
                self._store.hold(key, _HOLD)
                if granting is not None:
                    granting.overdue.add(key)
                if not lead.end(key, self._answer(old)):  # it was loaded meanwhile
                    self.over(key, lead)

    def _is_overdue(self, key: str) -> bool:
        """Return whether a load of this key goes on. One under a lease ends with its holder."""
        lead, _ = self._overdue.get(key, (None, None))
        if lead is not None and isinstance(lead.driver, Holder) and not lead.driver.is_running():
            self.over(key, lead)
        return key in self._overdue

    def over(self, key: str, lead: Lead) -> None:
        """Take note that a lead loads this key no more."""
        other, granting = self._overdue.get(key, (None, None))
        if other is lead:
            self._overdue.pop(key, None)
            if granting is not None:
                granting.over(key)

    def done(self, lead: Lead) -> None:
        """Take note that a lead loads no more."""
        for key in list(self._overdue):
            self.over(key, lead)

    def drop_gone(self) -> None:
        """Drop the loads that go on under leases whose holders are gone or late. The sweeper calls this."""
        for key in list(self._overdue):
            self._is_overdue(key)
