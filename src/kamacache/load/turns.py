"""The functions that wait on this node for their turn to load a key, so that plain gets wait for them, too.

The load under a lease may end without a value: its function was interrupted, its member is gone, its time is over. Then
all callers ask again. For a plain get in a group without a loader nothing can be loaded. But it is no answer that there
is nothing, as long as another caller is about to load the key: the get waits until that one begins, and joins.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from kamacache._engine import Promise
from kamacache.load.outcome import is_unloaded
from kamacache.steps import Path, Wait, running_loop

if TYPE_CHECKING:
    from kamacache._engine import Flights
    from kamacache.deadline import Deadline
    from kamacache.load.loader import Loader
    from kamacache.load.outcome import Outcome


_MOST = 1_000  # turns that are remembered at least


class Turns:
    """The loaders of single calls that wait, on this node, for loads of others. Each set changes in single steps.

    A get adds its promise to `_next` before it looks whether a function waits. A function takes these promises out
    after it has begun to lead, or waits no more. One of the two sees the other.
    """

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._waiting: dict[Loader, tuple[set[str], int]] = {}  # the keys, and the thread that waits, 0 for none
        self._next: dict[str, Promise] = {}  # for gets that wait for a turn
        self._led: dict[str, int] = {}  # the number of the last turn at each key, of the last ones; the oldest first
        self._numbers = itertools.count(1)
        self.number = 0  # of the last turn

    def enter(self, given: Loader, keys: Iterable[str]) -> None:
        """Take note that a function waits for its turn at these keys, and at no others."""
        self._waiting[given] = (set(keys), 0 if given.is_async or given.grants else get_ident())

    def led(self, given: Loader, keys: list[str]) -> None:
        """Take note that it leads the flights of these keys: other callers can join them now."""
        self.number = number = next(self._numbers)
        for key in keys[:_MOST]:
            self._led.pop(key, None)
            self._led[key] = number
        if len(self._led) > 2 * _MOST:
            for key in list(self._led)[:_MOST]:
                self._led.pop(key, None)
        if (waiting := self._waiting.get(given)) is not None:
            waiting[0].difference_update(keys)
        self._wake(keys)

    def leave(self, given: Loader) -> None:
        """Take note that it waits no more."""
        keys, _ = self._waiting.pop(given, ((), 0))
        self._wake(keys)

    def _wake(self, keys: Iterable[str]) -> None:
        if self._next:
            for key in list(keys):
                if (promise := self._next.pop(key, None)) is not None:
                    promise.set_result(None)

    def passes(self, key: str, outcome: Outcome, since: int, *, joined: bool) -> bool:
        """Return whether this is no answer for a plain get in a group without a loader that began at turn `since`.

        A function waits for its turn, or has had one meanwhile. A load of another caller that took too long is no
        answer then either.
        """
        if outcome.too_large or not (is_unloaded(outcome) or (joined and outcome.late)):
            return False
        return self._is_awaited(key) or self._led.get(key, 0) > since

    def _is_awaited(self, key: str) -> bool:
        """Return whether a function waits for its turn, unless it does so on this thread, and so for the get."""
        me = get_ident()
        return any(thread != me and key in keys for keys, thread in list(self._waiting.values()))

    def next(self, key: str) -> Promise | None:
        """Return the promise of the next turn at a key; None if the key is to be asked for at once."""
        promise = self._next.setdefault(key, Promise())
        if self._is_awaited(key) and self._flights.running(key, False) is None:
            return promise
        self._wake((key,))
        return None

    def soon(self, keys: Iterable[str]) -> Promise | None:
        """Return the promise of the next turn at one of these keys; None if no function waits here."""
        for key in filter(self._is_awaited, keys):
            promise = self._next.setdefault(key, Promise())
            if self._is_awaited(key):
                return promise
            self._wake((key,))
        return None

    def settled(
        self, outcomes: dict[str, Outcome], joined: Mapping[str, object], since: int, deadline: Deadline
    ) -> Path[dict[str, Outcome]]:
        """Return the outcomes that are answers for a plain get, after the next turn at each of the other keys."""
        for key in [key for key, one in outcomes.items() if self.passes(key, one, since, joined=key in joined)]:
            promise = self.next(key)
            if promise is None or (yield _Turn(promise, deadline)):
                del outcomes[key]
        return outcomes


class _Turn(Wait):
    """Wait for a turn. The result is False on the thread of an event loop, which may be the one that it waits for."""

    __slots__ = ()

    def run(self) -> Any:
        if running_loop() is not None:
            return False
        with suppress(TimeoutError):  # the get sees that its time is over
            super().run()
        return True

    async def arun(self) -> Any:
        with suppress(TimeoutError):
            await super().arun()
        return True
