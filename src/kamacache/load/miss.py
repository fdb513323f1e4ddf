"""Answer a get that found nothing in this process's memory, written once for threads and tasks (see steps.py).

get, get_many   wait for own writes that are pending, ask the owner's memory, then
_fetch          join or lead the flights of the keys: own keys load here (local.py), others at their owner (remote.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import MISSING, Histogram, Promise, Store, join
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, LoadCycle, LoadError, LoadTimeout
from kamacache.load.flight import CHAIN, MAX_DEPTH, Flying, chain, land
from kamacache.load.local import Local
from kamacache.load.outcome import (
    ABSENT,
    JOINED,
    LOADS,
    PEER_HITS,
    UNANSWERED,
    Outcome,
    batch_error,
    failed,
    timed_out,
)
from kamacache.load.peek import Peeks
from kamacache.load.remote import Remote
from kamacache.load.unread import Unread
from kamacache.load.values import Values
from kamacache.load.window import Fetched, Window
from kamacache.steps import PAUSE, Path, Wait, adrive, drive, parts

if TYPE_CHECKING:
    from kamacache.cluster.routes import Route
    from kamacache.load.given import Given
    from kamacache.load.loader import Loader
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime


_ABSENT = object()  # in the place of a value
_ROUNDS = 4  # loads of a key that a get waits for, as long as the codec cannot read what comes


class Misses:
    """Answer gets of one group for keys that are not in memory. `runtime` is shared by all groups of the node."""

    def __init__(self, name: str, store: Store, loader: Loader, options: GroupOptions, runtime: Runtime) -> None:
        self.name = name
        self.closed: KamaCacheError | None = None
        self.pending: Callable[[Iterable[str]], list[Promise]] = lambda _: []  # own writes; core.py sets it
        self.unread = Unread(name, store, options, runtime)
        self.peeks = Peeks(name, store, options.near_ttl, runtime)
        self.local = self.unread.local = Local(name, store, loader, options, self.peeks, self.unread, runtime)
        self._remote = Remote(name, store, options.load_timeout, self.local, self.peeks, runtime)
        store.on_unread = self.unread.note
        self._window = Window(options, self._fetch, self.local, runtime.home)
        self._store = store
        self._options = options
        self._runtime = runtime
        self.values = Values(store, options, self.local, self.unread)
        self._simple = options.rules is None  # an old value is none
        self.alone = False  # the node runs, and no other member is to be asked

    def route(self, route: Route) -> bool:
        """Take note that other members own the keys. Return whether something here belongs to them."""
        self.alone = self.local.alone = route.alone and self._runtime.joined
        down = [None if peer is None else peer.down for peer in route.peers]
        strays = self._store.place(route.placement, route.me, route.until, down)
        if self._runtime.joined:
            join(self._store)
        if self.closed is None:
            self.peeks.route(route)
        return strays

    @property
    def loader(self) -> Loader:
        return self.local.loader

    @property
    def times(self) -> Histogram:
        """Return the times that the calls of the loader took here."""
        return self.local.times

    # -- a get -------------------------------------------------------------------------------------------------------

    def get(self, key: str, peeked: bool = False, given: Given | None = None) -> Any:
        """Return the value of one key on the caller's thread. The store has counted it in gets.

        With `peeked`, the memory of the key's owner was asked and does not have the key. A `given` function loads in
        the place of the group's loader. A node alone needs only the first part.
        """
        loader = given or self.local.loader
        if self.alone and self._simple and loader.lean and not self._store.pending:
            how: int | None = JOINED  # if it is interrupted
            try:
                if CHAIN.get() is not None:
                    self._check((key,))
                raw = self.local.get(key, loader)
                if not isinstance(raw, Flying):
                    how = LOADS
                    as_is = raw is None or (self.values.plain and not raw.startswith(codecs.MARK))
                    return raw if as_is else self.values.decode(key, raw)
                how = None
            except LoadError:
                how = LOADS
                raise
            finally:
                if how is not None:
                    self._store.count(how)
        return drive(self.path(key, peeked=peeked, given=given))

    async def aget(self, key: str, peeked: bool = False, given: Given | None = None) -> Any:
        """Do the same in a task. The first part is for a loader that runs on this loop."""
        loader = given or self.local.loader
        if self._store.remote is not None:
            self._runtime.home.adopt_running()
        lean = loader.is_async and loader.single and not self._window.takes(loader) and self._simple
        if self.alone and lean and not self._store.pending and CHAIN.get() is None:
            how: int | None = JOINED  # if it is cancelled
            try:
                outcome = await self.local.aget(key, loader)
                how = None if outcome is None else outcome.how
                if outcome is not None and (value := self.values.result(key, outcome, given=given)) is not MISSING:
                    return value
                how = None
            finally:
                if how is not None:
                    self._store.count(how)
        return await adrive(self.path(key, peeked=peeked, given=given))

    def path(self, key: str, *, peeked: bool = False, raw: bool = False, given: Given | None = None) -> Path[Any]:
        """Return the value of one key, with `raw` its bytes."""
        how = JOINED
        try:
            self._check((key,))
            yield from self.wait_for_writes((key,))
            owner = None if peeked else self._runtime.route(self.name).first(key)
            if owner is not None:
                found = yield from self.peeks.ask_owner(owner, key)
                value = MISSING if found is None else self.values.read(key, found[0], raw=raw)
                if found is not None and value is not MISSING:
                    how = ABSENT if found[0] is None else PEER_HITS
                    return value
            value = MISSING
            for left in reversed(range(_ROUNDS)):
                outcome, joins = yield from self._window.load(key, given)
                self._store.count(UNANSWERED, int(outcome.unloaded))
                how = JOINED if joins else outcome.how
                last = _is_last(left, joins)
                value = self.values.result(key, outcome, raw=raw, last=last, given=given)
                if value is not MISSING:
                    break
            return value
        finally:
            self._store.count(how)

    def get_many(
        self,
        keys: list[str],
        values: dict[str, Any],
        failures: dict[str, Exception],
        *,
        raw: bool = False,
        peeked: bool = False,
        given: Given | None = None,
    ) -> Path[None]:
        """Add the values of several keys to `values`. Raises one LoadError for all that failed, here or before.

        With `peeked` the memories of the keys' owners have been asked, and did not have them.
        """
        counts = dict.fromkeys(keys, JOINED)
        unanswered = 0
        try:
            self._check(keys)
            yield PAUSE
            yield from self.wait_for_writes(keys)
            found = {} if self.alone or peeked else (yield from self._held(keys, values, raw=raw))
            counts |= found
            todo = [key for key in keys if key not in found]
            for left in reversed(range(_ROUNDS)):
                outcomes, joined = yield from self._fetch(todo, given)
                todo = []
                for part in parts(list(outcomes)):
                    for key in part:
                        outcome = outcomes[key]
                        unanswered += outcome.unloaded
                        counts[key] = JOINED if key in joined else outcome.how
                        try:
                            last = _is_last(left, key in joined)
                            value = self.values.result(key, outcome, raw=raw, last=last, given=given, default=_ABSENT)
                        except KamaCacheError as error:
                            failures[key] = error
                        else:
                            if value is MISSING:
                                todo.append(key)
                            elif value is not _ABSENT:
                                values[key] = value
                    yield PAUSE
                if not todo:
                    break
        finally:
            for how, number in Counter(counts.values()).items():
                self._store.count(how, number)
            self._store.count(UNANSWERED, unanswered)
        if failures:
            raise batch_error(failures, values)

    def held(self, keys: list[str], values: dict[str, Any]) -> Path[list[str]]:
        """Add what the memories of the keys' owners have to `values`. Return the keys of which they have nothing."""
        found: dict[str, int] = {}
        try:
            self.check_open()
            yield from self.wait_for_writes(keys)
            found = {} if self.alone else (yield from self._held(keys, values))
        finally:
            for how, number in Counter(found.values()).items():
                self._store.count(how, number)
        return [key for key in keys if key not in found]

    def _held(self, keys: list[str], values: dict[str, Any], *, raw: bool = False) -> Path[dict[str, int]]:
        """Do that, and return how each key was found."""
        found: dict[str, int] = {}
        for key, (data, *_) in (yield from self.peeks.ask_owners(keys)).items():
            if (value := self.values.read(key, data, raw=raw)) is not MISSING:
                found[key] = ABSENT if data is None else PEER_HITS
                if data is not None:
                    values[key] = value
        return found

    def _check(self, keys: Iterable[str]) -> None:
        self.check_open()
        inner = chain()
        if inner is None:
            return
        if inner.depth >= MAX_DEPTH:
            raise LoadCycle(f"loaders ask for each other's keys {MAX_DEPTH} deep, here in {self.name!r}")
        for key in keys:
            if inner.inside(self.local.flights, key):
                raise LoadCycle(
                    f"{self.name}[{key!r}] was asked for inside its own loader, or 1,000 loads deep", key=key
                )

    def wait_for_writes(self, keys: Iterable[str]) -> Path[None]:
        """Wait for the writes of these keys that are pending on this node now. Later ones might go on forever."""
        if self._store.pending:
            deadline = Deadline.after(self._options.load_timeout)
            for write in self.pending(keys):
                try:
                    yield Wait(write, deadline)
                except TimeoutError:
                    raise LoadTimeout(f"a write of {self.name} was pending for too long") from None

    def _fetch(self, keys: list[str], given: Given | None) -> Path[Fetched]:
        """Join or lead the flights of these keys. Return how each ended, and which keys others led.

        A caller that brings a function asks again if a flight ended for want of one, or that of another was too late.
        """
        flights, timeout = self.local.flights, self._options.load_timeout
        deadline = Deadline.after(timeout)
        outcomes: dict[str, Outcome] = {}
        joined: set[str] = set()
        todo = keys
        try:
            while todo:
                if given is not None:
                    self.local.turns.enter(given, todo)
                since = self.local.turns.number
                own, elsewhere = self.local.split(todo, given)
                if ready := self.local.ready(own, given):
                    outcomes |= ready
                    own = [key for key in own if key not in ready]
                    if not own and not elsewhere:
                        break
                if elsewhere:
                    started = yield from self._remote.start(elsewhere, own, timeout, given)
                else:
                    started = [(yield from self.local.start(own, timeout, given=given))]
                try:
                    for flying in started:
                        landed = yield from land(flights, flying, timeout)
                        if given is not None:
                            landed = self.local.for_function(landed, flying.joined)
                            landed |= {key: given.ended[key] for key in given.ended.keys() & set(todo)}
                        elif self.local.loader.missing and chain() is None:
                            landed = yield from self.local.turns.settled(landed, flying.joined, since, deadline)
                        outcomes |= landed
                        joined.update(landed.keys() & flying.joined.keys())
                finally:
                    for flying in started:
                        flying.lead.leave(flying.joined)
                todo = [key for key in todo if key not in outcomes]  # their leaders were interrupted
                if todo and deadline.passed:
                    outcomes |= {key: timed_out(key, timeout, JOINED) for key in todo}
                    break
        finally:
            if given is not None:
                self.local.turns.leave(given)
        return outcomes, joined

    def sweep(self) -> None:
        """Cancel calls for loads that no caller waits for, drop what no node loads, and bring again what was lost."""
        self._remote.drop_unwanted()
        self._remote.send_again()
        if self.local.freshness is not None:
            self.local.freshness.drop_gone()

    # -- the end -----------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Raise the error of `close` as a new object: raising one object again and again would grow its traceback."""
        if self.closed is not None:
            raise type(self.closed)(*self.closed.args)

    def close(self, error: KamaCacheError) -> None:
        """Have every get raise `error` from now on, waiting gets included."""
        self.closed = error
        self.alone = self.local.alone = False
        self.local.flights.end_all(failed(error))


def _is_last(left: int, joined: bool) -> bool:
    """Return whether bytes that cannot be read are final: a joined load may have begun before that was known."""
    return left == 0 or (left < _ROUNDS - 1 and not joined)
