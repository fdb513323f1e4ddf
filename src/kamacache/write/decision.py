"""Writes on terms: the owner of a key decides by what it has of it, in one step, and answers what it decided.

decide   the writer asks the first owner, and nobody else: what it decides counts, so that two never win
tell         then listeners are notified as of every write; ordered anew, the write is not decided on again
inherit  an owner that lacks the key first takes in what the owners before it have

A caller that gets PeerError after a connection broke does not know whether its write was applied.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from kamacache._engine import Store
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed, Overloaded, PeerError, UnknownGroup
from kamacache.load.outcome import WRITES
from kamacache.net.lane import Look
from kamacache.net.messages import INHERIT, REFUSED, Outcome, TellRequest, WriteItem, WriteReply, WriteRequest
from kamacache.steps import Path, Twofold, Wait, pause
from kamacache.write.write import ROUNDS, SILENCE

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.runtime import Runtime
    from kamacache.write.write import Writes

Decided = tuple[int, Outcome]  # the version, 0 if nothing changed


class Decisions:
    """The writes of one group that have terms."""

    def __init__(self, name: str, store: Store, writes: Writes, runtime: Runtime) -> None:
        self._name = name
        self._store = store
        self._writes = writes
        self._runtime = runtime

    # -- as the writer -----------------------------------------------------------------------------------------------

    def decide(self, item: WriteItem) -> Path[tuple[Outcome, bool, int]]:
        """Return what the owner decided, whether every listener confirmed it, and the version, 0 if nothing changed.

        Raises PeerError if the owner does not answer, NodeClosed if this node is closed meanwhile.
        """
        if self._runtime.membership.single:
            version, outcome = yield from self._decide_here(item)
            self._store.count(WRITES, 1 if version else 0)
            return outcome, True, version
        with self._runtime.lane.contacts.writing() as writing:
            try:
                outcome, confirmed, version = yield from self._decide_and_tell(item)
            except NodeClosed as error:
                text = f"{self._name}[{item.key!r}]: {error}; whether the write was applied is not known"
                raise NodeClosed(text) from error
            return outcome, confirmed and writing.current, version

    def _decide_and_tell(self, item: WriteItem) -> Path[tuple[Outcome, bool, int]]:
        deadline = Deadline.after(SILENCE)
        confirmed = self._runtime.joined
        (version, outcome), knows = yield from self._ask_owner(item, deadline)
        if not version:
            return outcome, True, 0
        self._store.count(WRITES)
        listeners = set(self._runtime.membership.listeners())
        for last in (False,) * (ROUNDS - 1) + (True,):  # see Writes.order_and_tell
            confirmed &= self._runtime.saw(version)
            (own,) = self._writes.note([(item.key, version)])
            told, greater = yield from self._writes.tell(
                TellRequest(self._name, [(item.key, version)]), deadline, knows
            )
            confirmed &= told
            if own:
                greater[item.key] = max(own, greater.get(item.key, 0))
            if not greater:
                return outcome, confirmed, version
            if last:
                break
            item = item._replace(above=greater[item.key], ordered=version)
            if not self._runtime.saw(item.above):
                return outcome, False, version
            try:
                (again, _), knows = yield from self._ask_owner(item, deadline)
            except PeerError:
                return outcome, False, version
            if not again:  # superseded: what is left to do is to have others drop what is older
                rest = item._replace(value=None, terms=None)
                confirmed &= yield from self._writes.order_and_tell([rest])
                return outcome, confirmed, version
            version = again
        return outcome, confirmed and listeners.issuperset(self._runtime.membership.listeners()), version

    def _ask_owner(self, item: WriteItem, deadline: Deadline) -> Path[tuple[Decided, Peer | None]]:
        """Return what the owner of a key decided, and the owner if it is another node.

        Members that do not agree on who owns the key learn from each other's refusals, until the deadline.
        """
        inherit = False
        while True:
            owner = self._owner(item.key)
            if owner is None:
                decided = yield from self._decide_here(item)
                if decided[1].verdict != REFUSED:
                    return decided, None
                self._runtime.membership.refresh()
            else:
                reply = yield from self._send(owner, item, inherit, deadline)
                if not reply.refused and (verdict := reply.outcomes[0].verdict) != REFUSED:
                    if verdict != INHERIT:
                        return (reply.versions[0], reply.outcomes[0]), owner
                    if not inherit:
                        inherit = True
                        continue
                self._runtime.membership.learn(reply)
            if deadline.passed:
                refused = self._runtime.refused
                why = "the members do not agree on its owner" if not refused else f"this node cannot start: {refused}"
                raise PeerError(f"{self._name}[{item.key!r}]: {why}; nothing was done") from refused
            yield pause()

    def _owner(self, key: str) -> Peer | None:
        """Return the owner of a key; None is this node. Raises PeerError if there is none."""
        owners = self._runtime.route(self._name).all_candidates(key)
        if not owners:
            raise PeerError(f"{self._name}[{key!r}]: no member owns it; nothing was done")
        return owners[0]

    def _send(self, owner: Peer, item: WriteItem, inherit: bool, deadline: Deadline) -> Path[WriteReply]:
        """Return the owner's reply. Raises PeerError."""
        runtime, lane, key = self._runtime, self._runtime.lane, item.key
        sent = max(deadline, Deadline.after(SILENCE / 2), key=Deadline.left)
        request = WriteRequest(self._name, [item], (), runtime.hlc.latest(), inherit, runtime.until_ms(sent))
        try:
            if inherit:
                reply: WriteReply | Exception = yield Wait(lane.call(owner.address, request, sent), sent)
            else:
                (reply,) = yield from lane.send_all([(owner.address, request)], sent)
        except (TimeoutError, PeerError, UnknownGroup, Overloaded) as error:
            reply = error
        if isinstance(reply, UnknownGroup | Overloaded):
            raise PeerError(f"{self._name}[{key!r}]: its owner {owner.address} refused: {reply}") from reply
        if isinstance(reply, Exception):
            if isinstance(reply, PeerError):
                self._runtime.suspect(owner, reply)
                if reply.refused or reply.denied:
                    raise PeerError(
                        f"{self._name}[{key!r}]: its owner {owner.address} is out of reach; nothing was done"
                    )
            raise PeerError(
                f"{self._name}[{key!r}]: its owner {owner.address} did not answer; "
                "whether the write was applied is not known"
            ) from reply
        self._runtime.saw(reply.clock)
        return reply

    # -- as the owner ------------------------------------------------------------------------------------------------

    def _decide_here(self, item: WriteItem) -> Path[Decided]:
        decided = self.decided(item)
        if decided[1].verdict == INHERIT:
            if not (yield from self._inherit([item.key])):
                return 0, Outcome(REFUSED)
            decided = self.decided(item, inherited=True)
        return decided

    def decided(self, item: WriteItem, *, inherited: bool = False) -> Decided:
        """Decide on a write here, and apply it if its terms are met."""
        version, verdict, existed, value, number, held = self._store.decide(item, inherited)
        return version, Outcome(verdict, existed, value, number, held)

    def answered(self, request: WriteRequest) -> WriteReply:
        """Answer a peer that takes this node for the owner."""
        if self._runtime.is_late(request) or not all(self._owner(item.key) is None for item in request.items):
            return self._runtime.membership.refusal()
        return self._reply([self.decided(item) for item in request.items])

    def inherited(self, request: WriteRequest) -> Path[WriteReply]:
        """Do the same for keys that are not here: what earlier owners have of them is taken in before."""
        keys = [item.key for item in request.items]
        owned = all(self._owner(key) is None for key in keys)
        if not owned or not (yield from self._inherit(keys)) or self._runtime.is_late(request):
            return self._runtime.membership.refusal()
        return self._reply([self.decided(item, inherited=True) for item in request.items])

    def _reply(self, decided: list[Decided]) -> WriteReply:
        versions, outcomes = [version for version, _ in decided], [outcome for _, outcome in decided]
        return WriteReply(versions, clock=self._runtime.hlc.latest(), outcomes=outcomes)

    def _inherit(self, keys: list[str]) -> Path[bool]:
        """Take in what earlier owners have of these keys. Return False if this node has not joined.

        Raises PeerError if one of them lives, and does not answer for half a second: what it has may count.
        """
        runtime, store, name = self._runtime, self._store, self._name
        if not runtime.joined:
            return False
        lane, deadline = runtime.lane, Deadline.after(SILENCE / 2)
        by_peer = runtime.route(name).by_decider(keys, runtime.clock.now())
        broken: set[Peer] = set()
        while by_peer:
            asks = [(peer.address, asked) for peer, asked in by_peer.items()]
            look = (asks, name, Look.FORMER)
            replies = yield Twofold(partial(lane.peek_many, *look), partial(lane.apeek_many, *look))
            silent: dict[Peer, list[str]] = {}
            for (peer, asked), reply in zip(by_peer.items(), replies, strict=True):
                if isinstance(reply, Exception):
                    # A process that ends breaks a connection, and then its socket is gone, or refuses.
                    gone = peer.dead or peer in broken or getattr(reply, "refused", False)
                    if not (gone or isinstance(reply, UnknownGroup)):
                        silent[peer] = asked
                        if getattr(reply, "broken", False):
                            broken.add(peer)
                    continue
                for key, found in zip(asked, reply, strict=True):
                    if found is not None and found[0] is not None:
                        runtime.saw(found[1])
                        store.put(key, found[0], found[1], found[2], Store.MAIN, foreign=True)
            if silent and deadline.passed:
                peer = next(iter(silent))
                raise PeerError(f"{peer.address}, which may have owned these keys before, does not answer")
            if by_peer := silent:
                yield pause()
        return True
