"""The writes of single keys of one group: set and delete. Read it downward.

write    the owner of each key orders it: applies it and gives it a version; all owners first
tell         then every listener is notified at once; one that knows a greater version says so, and the write is
             ordered anew
order    what an owner does when it is asked to write
told     what a listener does when it is notified

True means that every listener confirmed, those included that joined meanwhile. What others write or drop at the same
time does not make it False.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kamacache.cluster.contact import has_ended
from kamacache.deadline import Deadline
from kamacache.errors import PeerError, UnknownGroup
from kamacache.load.outcome import WRITES
from kamacache.net.messages import TellReply, TellRequest, WriteItem, WriteReply, WriteRequest
from kamacache.steps import Path, pause
from kamacache.write.cut import at_once, in_messages, weight

if TYPE_CHECKING:
    from kamacache._engine import Store
    from kamacache.cluster.peers import Peer
    from kamacache.net.messages import Request
    from kamacache.runtime import Runtime

SILENCE = 1.0  # seconds that a write waits for those who do not answer
_LAST = 0.25  # seconds for a notice when the write's time is over
_DIRECTLY = 8 * 1024 * 1024  # bytes of a batch that is written without a step of Python
ROUNDS = 3  # of notices, if listeners know greater versions: see order_and_tell


class Writes:
    """The writes of one group."""

    def __init__(self, name: str, store: Store, runtime: Runtime) -> None:
        self._name = name
        self._store = store
        self._runtime = runtime

    # -- as the writer -----------------------------------------------------------------------------------------------

    def write(self, items: Sequence[WriteItem]) -> Path[bool]:
        """Set and delete; every key once. Return whether every listener confirmed."""
        confirmed = True
        for part in at_once(items):
            confirmed &= yield from self._write(part)
        return confirmed

    def _write(self, items: Sequence[WriteItem]) -> Path[bool]:
        self._store.count(WRITES, len(items))
        with self._runtime.lane.contacts.writing() as writing:
            confirmed = yield from self.order_and_tell(items)
            return confirmed and writing.current  # what stood still does not know yet whom to tell

    def order_and_tell(self, items: Sequence[WriteItem]) -> Path[bool]:
        """Order writes, and anew what a listener knows a greater version of. Return whether all have confirmed.

        A round's versions are above all that its listeners knew in the round before. So what they still know to be
        greater after the last one has come since the write began. It may be a value that was set before, and ordered
        anew meanwhile; but only once, as the second time an owner gets a delete instead.
        """
        confirmed = self._runtime.joined
        deadline = Deadline.after(SILENCE)
        failed: set[Peer] = set()
        listeners = set(self._runtime.membership.listeners())
        for _ in range(ROUNDS):
            if not self._runtime.saw(max(item.above for item in items)):
                return False  # a listener's clock is wrong: no version may follow it
            versions, whole, knows = yield from self._order_all(items, deadline, failed)
            ordered = [(key, version) for key, version in versions.items() if version]
            confirmed &= whole and len(ordered) == len(items)  # others had another owner before, see order
            if not ordered:
                return False
            confirmed &= self._runtime.saw(max(version for _, version in ordered))
            self.note(ordered)
            told, greater = yield from self.tell(TellRequest(self._name, ordered), deadline, knows)
            confirmed &= told and all(map(has_ended, failed))  # else it may have applied what the next one ordered
            items = [
                item._replace(
                    value=None if item.ordered else item.value, above=greater[item.key], ordered=versions[item.key]
                )
                for item in items
                if item.key in greater and versions[item.key]
            ]
            if not items:
                return confirmed
        return confirmed and listeners.issuperset(self._runtime.membership.listeners())

    def write_alone(self, items: Sequence[WriteItem]) -> bool:
        """Do that on a node that owns every key. Return False if there is a listener: then `write` does the rest.

        The listeners are read after the writes were applied: one that joins later learns of them from its hello.
        """
        membership = self._runtime.membership
        if membership.single:
            self.order(items)
        else:
            with self._runtime.lane.contacts.writing() as writing:
                self.order(items)
                if membership.listeners() or not writing.current:
                    return False
        self._store.count(WRITES, len(items))
        return True

    def write_directly(self, items: list[WriteItem]) -> list[WriteItem]:
        """Set and delete on this thread without a step of Python, if all goes well. Return what `write` has to do.

        That goes on with what was ordered here: see `order`.
        """
        remote, membership = self._store.remote, self._runtime.membership
        listeners = membership.listeners()
        alive = [peer.address for peer in listeners if not peer.dead]
        if remote is None or len(alive) < len(listeners) or not membership.joined:
            return items
        if len(items) > 1 and weight(items) > _DIRECTLY:
            return items
        with self._runtime.lane.contacts.writing() as writing:
            try:
                versions, greater, failed = remote.write(self._store, items, alive, SILENCE)
            except PeerError:  # the parent's
                return items
            errors = dict(failed)
            for peer in listeners if errors else ():
                error = errors.get(peer.address)
                if error is not None and not isinstance(error, UnknownGroup):
                    self._runtime.suspect(peer, error)
            if not failed and not any(greater) and None not in versions and self._runtime.saw(max(versions)):
                now = membership.listeners()
                if (now is listeners or not set(now) - set(listeners)) and writing.current:
                    self._store.count(WRITES, len(items))
                    return []
        return [
            item._replace(above=above, ordered=version or 0)
            for item, version, above in zip(items, versions, greater, strict=True)
            if version != 0
        ]

    def _order_all(
        self, items: Sequence[WriteItem], deadline: Deadline, failed: set[Peer]
    ) -> Path[tuple[dict[str, int], bool, Peer | None]]:
        """Return a version for every key from its owner, whether owners have given all, and which one has given all.

        Others stand in for owners that do not answer, which are added to `failed`.
        """
        versions: dict[str, int] = {}
        whole = True
        skipped: dict[str, Peer] = {}
        refreshed = False
        todo = list(items)
        while todo:
            here, elsewhere = self._assign(todo, skipped, late=deadline.passed)
            route = self._runtime.route(self._name)
            whole &= all(route.acts(item.key) for item in here)
            versions.update(zip((item.key for item in here), self.order(here), strict=True))
            todo = []
            batches = [(peer, batch) for peer, whole_batch in elsewhere.items() for batch in in_messages(whole_batch)]
            replies = yield from self._send(
                [(peer, self._request(batch, skipped, deadline)) for peer, batch in batches], deadline
            )
            for (peer, batch), reply in zip(batches, replies, strict=True):
                if isinstance(reply, Exception):
                    if not isinstance(reply, UnknownGroup):
                        self._runtime.suspect(peer, reply)
                    failed.add(peer)
                elif not reply.refused:
                    versions.update(zip((item.key for item in batch), reply.versions, strict=True))
                    if len(batch) == len(items):
                        return versions, whole, peer
                    continue
                elif not refreshed:  # views or clocks differ: take in the other ones, and try once more
                    refreshed = True
                    self._runtime.membership.learn(reply)
                    todo += batch
                    continue
                else:
                    whole = False
                skipped[peer.id] = peer
                todo += batch
        return versions, whole, None

    def _assign(
        self, items: Sequence[WriteItem], skipped: dict[str, Peer], *, late: bool
    ) -> tuple[list[WriteItem], dict[Peer, list[WriteItem]]]:
        """Return the items that this node is to order, all if it is late, and those of each other candidate."""
        elsewhere: dict[Peer, list[WriteItem]] = defaultdict(list)
        here: list[WriteItem] = []
        route = self._runtime.route(self._name)
        for item in items:
            peer = None if late else route.first(item.key, skipped)
            (here if peer is None else elsewhere[peer]).append(item)
        return here, elsewhere

    def _request(self, items: list[WriteItem], skipped: dict[str, Peer], deadline: Deadline) -> WriteRequest:
        runtime = self._runtime
        until = runtime.until_ms(deadline)
        return WriteRequest(self._name, items, sorted(skipped), runtime.hlc.latest(), until_ms=until)

    def _send(self, asks: Sequence[tuple[Peer, Request]], deadline: Deadline) -> Path[list[Any]]:
        """Return the replies, errors in the places of those that did not come, and take in the clocks of the others."""
        if not asks:
            return []
        replies = yield from self._runtime.lane.send_all([(peer.address, message) for peer, message in asks], deadline)
        for reply in replies:
            if not isinstance(reply, Exception):
                self._runtime.saw(reply.clock)
        return replies

    def tell(
        self, request: TellRequest, deadline: Deadline, knows: Peer | None = None
    ) -> Path[tuple[bool, dict[str, int]]]:
        """Notify every listener at once. Return whether all confirmed, and the greater versions that some know.

        The key "" stands for the floor. The peer that `knows` of the writes has ordered them.
        """
        confirmed = True
        greater: dict[str, int] = {}
        told: set[Peer | None] = {knows}
        before: set[Peer] = set()
        while todo := [peer for peer in self._runtime.membership.listeners() if peer not in told]:
            told.update(todo)
            request = request._replace(clock=self._runtime.hlc.latest())
            alive = [peer for peer in todo if not peer.dead or peer.breaking]
            confirmed &= len(alive) == len(todo)  # others that are considered dead are not waited for
            sent = max(deadline, Deadline.after(_LAST), key=Deadline.left)  # a notice goes out even if it is late
            replies = yield from self._send([(peer, request) for peer in alive], sent)
            broken: set[Peer] = set()
            for peer, reply in zip(alive, replies, strict=True):
                if isinstance(reply, Exception):
                    self._runtime.suspect(peer, reply)
                    if peer.breaking and not deadline.passed:
                        broken.add(peer)
                    else:
                        confirmed &= has_ended(peer)  # it has no memory to serve from
                    continue
                for (key, _), version in zip(request.writes, reply.greater, strict=True):
                    if version:
                        greater[key] = max(version, greater.get(key, 0))
                if reply.floor:
                    greater[""] = max(reply.floor, greater.get("", 0))
            told -= broken  # notify it again, unless it has ended by then, as processes do in several steps
            if broken & before:
                yield pause()
            before |= broken
        return confirmed, greater

    # -- as the owner ------------------------------------------------------------------------------------------------

    def order(self, items: Sequence[WriteItem]) -> list[int]:
        """Apply writes here. Return the version of each, greater than all that is known of its key.

        Once ordered, a write may have been read, and a later one confirmed. Ordered anew, above a version that some
        listener knew, it would replace that one: it is superseded instead, and the version of that one returned, which
        has others drop what is older than either. 0: another node had ordered this one. After a clear, or the delete
        of a prefix, the write is ordered as a delete.
        """
        order = self._store.order
        return [order(item) for item in items]

    def ordered(self, request: WriteRequest) -> WriteReply:
        """Answer a peer that takes this node for the owner. Refuse what came late, or while this one stood still."""
        refused = self._runtime.is_late(request) or self._runtime.lane.contacts.stood
        route = self._runtime.route(self._name)
        if refused or not all(route.is_candidate(item.key) for item in request.items):
            return self._runtime.membership.refusal()
        versions = self.order(request.items)
        if any(not (version or item.ordered) for version, item in zip(versions, request.items, strict=True)):
            return self._runtime.membership.refusal()  # the store is closed by now
        return WriteReply(versions, clock=self._runtime.hlc.latest())

    # -- as a listener -----------------------------------------------------------------------------------------------

    def told(self, request: TellRequest) -> TellReply:
        """Remember the writes and drop what is older. Loads under way compare for themselves."""
        newest = max(request.clock, request.floor, *(version for _, version in request.writes))
        if not self._runtime.saw(newest):
            raise PeerError("a version is more than a day ahead: one of the two clocks is wrong")
        greater = self.note(request.writes)
        floor = self.cleared(request.floor) if request.floor else 0
        return TellReply(greater, floor if floor > request.floor else 0, self._runtime.hlc.latest())

    def note(self, writes: Sequence[tuple[str, int]]) -> list[int]:
        """Return for each write the greater version known here, or 0."""
        greater = []
        for key, version in writes:
            self._runtime.saw(version)
            known = self._store.note(key, version)
            greater.append(known if known > version else 0)
        return greater

    def heard_of(self, floor: int) -> None:
        """Take in the floor of a hello, from which this node may learn of a clear that it has missed."""
        if floor > self._store.floor:
            self.cleared(floor)

    def cleared(self, floor: int) -> int:
        """Raise the floor. Return the greatest that is known now."""
        self._runtime.saw(floor)
        return self._store.clear(floor)
