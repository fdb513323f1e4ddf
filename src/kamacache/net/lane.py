"""How one node reaches others: their memory by the fast lane, their Python by calls. The native lane is in wire.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from kamacache import thread
from kamacache._engine import Promise, Store
from kamacache.net.messages import ClientRequest, Request

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.cluster.routes import Route
    from kamacache.deadline import Deadline

Found = tuple[bytes | None, int, float | None, int]  # value (None: absent), version, remaining seconds, flags
# Address, kind of question, counts of Histogram's buckets, seconds in all.
PeerTimes = tuple[str, str, list[int], float]
Keep = Callable[[str, Found, float], None]  # what is hot, and when it was asked for
Suspect = Callable[["Peer", Exception], None]
HOT = 1  # flags of what the fast lane found: worth a near copy


class Call(Protocol):
    """A call from a peer or a client, waiting for its answer."""

    @property
    def message(self) -> Request | ClientRequest: ...
    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def accept(self) -> None: ...
    def reply(self, message: Any, /) -> None: ...
    def fail(self, status: str, text: str = "") -> None: ...


class Lane(Protocol):
    """What a node needs of a network. Every method but apeek and apeek_many is safe to call from any thread.

    peek and peek_many ask a member's memory and wait for 250 ms at most (100 ms with `former`, which also finds what is
    no longer owned there). They raise PeerError, peek_many returns it in the place of that member's answers. A call
    ends its promise with a reply, or with PeerError, Overloaded or UnknownGroup; it fails within 500 ms when the peer
    does not accept it, or is found frozen, however long the work would take.
    """

    def start(self, listen: str | None, receive: Callable[[Call], None], deadline: Deadline) -> str | None:
        """Listen, give what peers ask to `receive` on a thread that it must not hold up, and return the address.

        The name in `listen` must be resolved by the deadline.
        """

    def serve(self, store: Store) -> None: ...
    def hide(self, group: str) -> None: ...
    def route(self, store: Store, route: Route, keep: Keep | None, suspect: Suspect) -> None:
        """Who owns what has changed: where the lane can, it has the store ask owners by itself (Store.remote)."""

    def peek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None: ...
    async def apeek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None: ...
    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]: ...
    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]: ...
    def publish(self, names: list[str], metrics: Callable[[], str]) -> None:
        """Answer to these names over HTTP, where there is any, with these metrics."""

    def ready(self, ready: bool) -> None:
        """What HTTP says of it; False is for good."""

    def peer_times(self) -> list[PeerTimes]:
        """How long others took to answer, by address and kind of question."""

    def ping(self, address: str) -> None:
        """PeerError unless the member's engine answers within 250 ms."""

    def ping_many(self, addresses: list[str]) -> list[Exception | None]:
        """Ping all of them at once, and return None or a PeerError for each."""

    def call(self, address: str, message: Request, timeout: float | None) -> Promise: ...
    def forget(self, address: str, *, finishing: bool = False) -> None:
        """The member there is gone: end what waits for it, unless it said goodbye and finishes what it serves."""

    def close(self) -> None: ...
    def renewed(self) -> Lane:
        """A lane like this one, not started, for a forked child; this one is dead there."""


class WithoutEngine:
    """What a lane does not do that is written in Python: a store asks by peek, and there is no HTTP."""

    def ping(self, address: str) -> None:
        raise NotImplementedError

    def ping_many(self, addresses: list[str]) -> list[Exception | None]:
        """Ping each on a thread of its own."""
        found: dict[int, Exception | None] = {}

        def ping(place: int, address: str) -> None:
            try:
                self.ping(address)
            except Exception as error:  # noqa: BLE001 - it belongs to the member
                found[place] = error

        threads = [thread.start("kamacache-ping", ping, *each) for each in enumerate(addresses)]
        for each in threads:
            each.join()
        return [found.get(place) for place in range(len(addresses))]

    def route(self, store: Store, route: Route, keep: Keep | None, suspect: Suspect) -> None:
        """Nothing is asked without Python."""

    def publish(self, names: list[str], metrics: Callable[[], str]) -> None:
        """Nobody asks."""

    def ready(self, ready: bool) -> None:
        """The same."""

    def peer_times(self) -> list[PeerTimes]:
        return []
