"""Ask the memory of other members for values of one group, and keep near copies of values that they mark as hot."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from kamacache._engine import Store
from kamacache.entry import Entry
from kamacache.errors import KamaCacheError, NodeClosed, PeerError, UnknownGroup
from kamacache.log import log
from kamacache.net.lane import HOT, Found, Look
from kamacache.steps import Path, Twofold
from kamacache.tags import stated

if TYPE_CHECKING:
    from kamacache._engine import Lead
    from kamacache.cluster.peers import Peer
    from kamacache.cluster.routes import Route
    from kamacache.runtime import Runtime


class Peeks:
    """The peeks of one group. An answer that is older than the version known here is refused."""

    def __init__(self, name: str, store: Store, near_ttl: float, runtime: Runtime) -> None:
        self._name = name
        self._store = store
        self._near_ttl = near_ttl
        self._runtime = runtime

    def route(self, route: Route) -> None:
        """Take note that other members own the keys; see Lane.route."""
        keep = self.keep_near if self._near_ttl else None
        self._runtime.lane.route(self._store, route, keep, self._runtime.doubt)

    def ask_owner(self, owner: Peer, key: str) -> Path[Found | None]:
        """Return the entry of one key in the owner's memory; None also if the owner does not answer."""
        asked, lane, name = self._runtime.clock.now(), self._runtime.lane, self._name
        try:
            found: Found | None = yield Twofold(
                lambda: lane.peek(owner.address, name, key), lambda: lane.apeek(owner.address, name, key)
            )
        except Exception as error:  # noqa: BLE001 - _silent tells them apart
            self._silent(owner, key, error)
            return None
        return self._fresh(key, found, asked)

    def _silent(self, owner: Peer, key: str, error: Exception) -> None:
        """Take note that the owner did not answer. Raises the errors of this node."""
        if isinstance(error, PeerError | UnknownGroup):
            self._runtime.doubt(owner, error)
        elif isinstance(error, KamaCacheError):
            raise error
        else:
            text = "asking %(peer)s for %(group)s[%(key)r] failed; the key is loaded instead"
            log.error(text, exc_info=error, peer=owner.address, group=self._name, key=key, error=error)

    def _fresh(self, key: str, found: Found | None, asked: float) -> Found | None:
        """Return an entry that is no older than what is known here, and keep it if it is hot."""
        if found is None or self._store.newer(key, found[1], found[0]):
            return None
        if found[3] & HOT:
            self.keep_near(key, found, asked)
        return found

    def find(self, key: str, *, near: bool, stale: bool = False, bare: bool = False) -> Path[Entry[bytes] | None]:
        """Return the value in this memory, or else in its owner's, and keep nothing.

        `near`: a near copy will do. `stale`: so will a value whose ttl is over, which is absent otherwise. `bare`: no
        other node sends the value, which may be empty then.
        """
        found = yield from self._held(key, near, Look.TRAITS if bare else Look.ENTRY)
        return None if found is None or (found.stale and not stale) else found

    def _held(self, key: str, near: bool, look: Look) -> Path[Entry[bytes] | None]:
        found, age = self._store.held(key) or (None, 0.0)
        if found is not None and (found[3] == Store.MAIN or (near and found[3] == Store.NEAR)):
            return _entry(found, "main" if found[3] == Store.MAIN else "near", age)
        lane, name = self._runtime.lane, self._name
        skipped: set[str] = set()
        while (owner := self._runtime.route(name).first(key, skipped)) is not None:
            what = (owner.address, name, key, look)
            try:
                there: Found | None = yield Twofold(partial(lane.peek, *what), partial(lane.apeek, *what))
                return None if there is None else _entry(there, "owner", (there[3] >> 8) / 1000)
            except (PeerError, UnknownGroup) as error:
                self._runtime.doubt(owner, error)
                skipped.add(owner.id)
        return None if found is None or found[3] == Store.FORMER else _entry(found, "near", age)

    def ask_owners(self, keys: Iterable[str]) -> Path[dict[str, Found]]:
        """Return the entries of many keys, from all owners at once."""
        by_owner: dict[Peer, list[str]] = defaultdict(list)
        route = self._runtime.route(self._name)
        for key in keys:
            owner = route.first(key)
            if owner is not None:
                by_owner[owner].append(key)
        asked = self._runtime.clock.now()
        found = yield from self.ask(by_owner)
        for key, entry in found.items():
            self.keep_near(key, entry, asked)
        return found

    def ask(self, by_peer: Mapping[Peer, list[str]], *, former: bool = False) -> Path[dict[str, Found]]:
        """Send each peer one request for its keys; with `former`, also for former copies.

        Of several answers for one key the newest counts.
        """
        if not by_peer:
            return {}
        lane, name, look = self._runtime.lane, self._name, Look.FORMER if former else Look.COPY
        asks = [(peer.address, keys) for peer, keys in by_peer.items()]
        try:
            replies = yield Twofold(lambda: lane.peek_many(asks, name, look), lambda: lane.apeek_many(asks, name, look))
        except (NodeClosed, PeerError):  # not of a member: this node is closing, or a forked child
            return {}
        except KamaCacheError:
            raise
        except Exception:
            log.exception("asking others for keys of %(group)s failed; the keys are loaded instead", group=self._name)
            return {}
        found: dict[str, Found] = {}
        for (peer, keys), reply in zip(by_peer.items(), replies, strict=True):
            if isinstance(reply, Exception):
                if not former:  # a late answer is no sign of death here: probes decide about former owners
                    self._runtime.doubt(peer, reply)
                continue
            newer = self._store.newer
            for key, entry in zip(keys, reply, strict=True):
                if entry is None or (key in found and _rank(entry) <= _rank(found[key])):
                    continue
                if not newer(key, entry[1], entry[0]):
                    found[key] = entry
        return found

    def keep_near(self, key: str, found: Found, asked: float, lead: Lead | None = None) -> None:
        """Keep a hot value as a near copy, for near_ttl at most. Its time counts from the request."""
        value, version, remaining, flags = found
        if not self._near_ttl or not flags & HOT:
            return
        self._runtime.saw(version)
        ttl = self._near_ttl if remaining is None else min(self._near_ttl, remaining)
        # near_ttl counts from the request, too: writes since then are remembered for as long, and refuse older values.
        ttl -= self._runtime.clock.now() - asked
        if ttl <= 0:
            return
        if lead is not None:
            lead.keep(key, value, ttl, Store.NEAR, version)
        else:
            self._store.put(key, value, version, ttl, Store.NEAR, foreign=True)


def _rank(found: Found) -> tuple[int, float]:
    """Return the version and the seconds left: a near copy has fewer of them than the main copy that it is of."""
    return found[1], math.inf if found[2] is None else found[2]


def _entry(found: Found, source: str, age: float) -> Entry[bytes] | None:
    value, version, remaining, _ = found
    if value is None:
        return None
    left = math.inf if remaining is None else remaining
    return Entry(value, age, left, left == 0, stated(value, version), source)
