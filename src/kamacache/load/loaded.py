"""Take what loaders bring: encode a value, keep it unless a newer write is known, and end its flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from kamacache import codecs
from kamacache._engine import MISSING, Store
from kamacache.errors import NoLoader
from kamacache.load.call import LATE, Failed, failed_here
from kamacache.load.failures import OLD, Failures
from kamacache.load.grant import Leases
from kamacache.load.outcome import (
    ABORTED,
    ABSENT,
    LOAD_ERRORS,
    LOADS,
    PEER_HITS,
    STALE,
    Failure,
    Outcome,
    caused,
    failed,
    failure_in,
    raised,
    timed_out,
)
from kamacache.log import Seldom, log
from kamacache.net.messages import Answer, FillReply, FillRequest
from kamacache.steps import running_loop
from kamacache.tags import tagged
from kamacache.units import UNSET, Missing
from kamacache.value import Value

_TOO_LARGE = "and its value, which another member loads, is too large to be kept and sent: raise max_value or max_bytes"

if TYPE_CHECKING:
    from kamacache._engine import Histogram, Lead
    from kamacache.cluster.peers import Peer
    from kamacache.load.freshness import Freshness
    from kamacache.load.grant import Granting
    from kamacache.load.unread import Unread
    from kamacache.options import GroupOptions
    from kamacache.runtime import Runtime


class Loaded:
    """Take what the loads of one group bring to this process."""

    def __init__(
        self,
        name: str,
        store: Store,
        options: GroupOptions,
        unread: Unread,
        freshness: Freshness | None,
        times: Histogram,
        runtime: Runtime,
        helpless: Callable[[], bool],
    ) -> None:
        self.leases = Leases()
        self._helpless = helpless
        self._name = name
        self._store = store
        self._options = options
        self._unread = unread
        self._freshness = freshness
        self._times = times
        self._runtime = runtime
        self._seldom = Seldom(runtime.clock.now)
        self._unheard = Failures(name, OLD)
        self._plain = isinstance(options.codec, codecs.BytesCodec)
        self._spread = options.jitter if options.ttl is not None else 0.0
        self._random: Callable[[], float] | None = None

    def kind(self, key: str, skipped: Mapping[str, Peer]) -> int:
        """Return the kind of a copy that is kept now: the load may have taken long."""
        route = self._runtime.route(self._name)
        return Store.MAIN if route.keeps(key, skipped) and self._runtime.joined else Store.NEAR

    def take(self, lead: Lead, key: str, value: Any, kind: int, *, own: bool = False) -> bytes | None:
        """Encode and keep a value and end its flight. Return the bytes; raises LoadError."""
        raw: bytes | None
        if value.__class__ is bytes and self._plain:
            raw = codecs.kept(value) if value.startswith(codecs.MARK) else value
            ttl = self._ttl(raw) if self._spread else self._options.ttl
        elif isinstance(value, Failed):
            return self._failed(lead, key, value.error, own=own)
        else:
            try:
                raw, ttl = self._encoded(value)
            except BaseException as error:
                if running_loop() is None:
                    failed_here(error)
                elif not isinstance(error, Exception):  # it ends the loop; the load ends as well
                    lead.end(key, self.failure(key, error))
                    raise
                return self._failed(lead, key, error, own=own)
        if self._unread.marks or self._unread.again or self._freshness is not None:
            self._note(key, raw)
        lead.loaded(key, raw, ttl, kind, LOADS, own, self._too_large)
        return raw

    def _too_large(self, key: str, size: int) -> None:
        """Name a value that is not kept, so that each get loads it, in the log."""
        if noted := self._seldom.note():
            log.warning(
                "group %(group)r: values too large to be kept: %(count)s since the last line like this; each get loads "
                "them again. The last is that of %(key)r: %(size)s bytes, where max_value is %(max_value)s and an "
                "eighth of max_bytes %(eighth)s. Raise them, or cut the value into parts",
                group=self._name,
                count=noted,
                key=key[:100],
                size=size,
                max_value=self._runtime.max_value,
                eighth=self._options.max_bytes // 8,
            )

    def _note(self, key: str, raw: bytes | None) -> None:
        if self._unread.marks or self._unread.again:
            self._unread.loaded(key, raw)
        if self._freshness is not None:
            self._freshness.loaded(key)

    def _encoded(self, value: Any) -> tuple[bytes | None, float | None]:
        """Return the bytes of a loaded value and its time to live. Raises what its codec raises."""
        ttl: float | Missing | None = UNSET
        tags: tuple[str, ...] = ()
        if isinstance(value, Value):
            value, ttl, tags = value.value, value.ttl, value.tags
            if value is None and not self._options.cache_none:
                raise TypeError("Value(None): None is not a value; return None itself if there is none")
        absent = value is MISSING or (value is None and not self._options.cache_none)
        raw = None if absent else tagged(codecs.encode(self._options.codec, value, none=True), tags)
        return raw, self._ttl(raw) if isinstance(ttl, Missing) else ttl

    def _failed(self, lead: Lead, key: str, error: BaseException, *, own: bool) -> NoReturn:
        outcome = self.failure(key, error)
        if own:
            self._times.observe(lead.took())
        if not lead.flight(key).ended:
            self._store.count(LOAD_ERRORS)  # before the waiting callers look
        assert outcome.failure is not None  # noqa: S101 - that is why this was called
        self._remember(lead, key, outcome.failure)
        lead.end(key, outcome)
        if self.has_old(key):
            self._unheard.note(key, error)
        raise raised(outcome.failure, key)

    def has_old(self, key: str) -> bool:
        """Return whether callers may get an old value in the place of a failure."""
        return self._freshness is not None and self._freshness.has_old((key,))

    def _remember(self, lead: Lead, key: str, failure: Failure) -> None:
        if self._freshness is not None:
            self._freshness.failed(key, lead.flight(key).version, failure)

    def failure(self, key: str, error: BaseException) -> Outcome:
        if error is LATE.error:
            return timed_out(key, self._options.load_timeout, LOADS)
        return Outcome(how=LOADS, failure=caused(error, f"{self._name}[{key!r}]: "))

    def _ttl(self, raw: bytes | None) -> float | None:
        if raw is None:
            return self._options.negative_ttl
        ttl = self._options.ttl
        if ttl is None or not self._spread:
            return ttl
        if self._random is None:
            import random  # noqa: PLC0415 - not cheap to import, and only needed here

            self._random = random.random
        return ttl * (1 - self._spread * self._random())

    # -- what was loaded under a lease -------------------------------------------------------------------------------

    def result(self, key: str, value: Any) -> Outcome:
        """Return what the owner is to be told, and the caller gets, of a value that was loaded under a lease."""
        if not isinstance(value, Failed):
            try:
                raw, ttl = self._encoded(value)
                self._note(key, raw)
                return Outcome(raw, 0, ttl)
            except Exception as error:  # noqa: BLE001 - whatever the codec raises
                value = Failed(error)
        self._store.count(LOAD_ERRORS)
        return self.failure(key, value.error)

    def instead(self, key: str, outcome: Outcome, old: Answer | None) -> Outcome:
        """Return the old value that came with a lease in the place of a failure, if no write is known since."""
        if outcome.failure is None or old is None:
            return outcome
        return self.old(key, old) or outcome

    def old(self, key: str, old: Answer) -> Outcome | None:
        """Return the old value that came with a lease, if no write is known since."""
        if self._store.newer(key, old.version, old.value):
            return None
        self._store.count(STALE)
        return Outcome(old.value, old.version, 0.0, ABSENT if old.value is None else PEER_HITS)

    def fill(self, request: FillRequest) -> FillReply:
        """Take what the holder of a lease has loaded, unless the lease is over."""
        back = any(answer.later for answer in request.answers)
        granting = self.leases.given_back(request.lease) if back else self.leases.get(request.lease)
        pairs = zip(request.keys, request.answers, strict=True)
        taken = [granting is not None and self._fill(granting, key, answer) for key, answer in pairs]
        if granting is not None and self._freshness is not None:
            for key in request.keys:
                if (lead := granting.lead(key)) is not None:  # its flight has ended with an old value before
                    self._freshness.over(key, lead)
        return FillReply(taken, self._runtime.hlc.latest())

    def _fill(self, granting: Granting, key: str, answer: Answer) -> bool:
        if (lead := granting.lead(key)) is None:
            return False
        if answer.too_large and self._helpless():
            return lead.end(key, too_large(self._name, key, LOADS))
        if answer.later:
            return lead.end(key, ABORTED)
        if (failure := failure_in(answer)) is not None:
            self._remember(lead, key, failure)
            return lead.end(key, Outcome(failure=failure))
        ttl = answer.remaining
        if ttl and (ttl := ttl - granting.age) <= 0.0:  # it has expired on its way
            return lead.end(key, ABORTED)
        self._note(key, answer.value)
        lead.loaded(key, answer.value, ttl, self.kind(key, granting.skipped), LOADS, False, self._too_large)
        return True


def no_loader(name: str, key: str, why: str = "and no member that has one answers") -> NoLoader:
    """Return the error for a key that this node would have to load itself."""
    return NoLoader(f"{name}[{key!r}]: there is no loader on this node, {why}", key=key)


def too_large(name: str, key: str, how: int) -> Outcome:
    """Return the outcome for a node without a loader, of a load by another member that does not travel."""
    return failed(no_loader(name, key, _TOO_LARGE), how)._replace(too_large=True)
