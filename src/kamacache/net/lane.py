"""The network as a node uses it: the memory of peers by the fast lane, their Python by calls.

NativeLane is the real one, in native.py.
"""

# ruff: noqa: ARG002 - what a lane in Python need not do

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from kamacache._engine import Contacts, Promise, Store, Transport
from kamacache.errors import KamaCacheError, NodeClosed, PeerError
from kamacache.net.messages import ClientRequest, Contact, Request
from kamacache.steps import Path, Wait

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.cluster.routes import Route
    from kamacache.deadline import Deadline

PEEK_TIMEOUT = 0.25  # seconds without a byte

Found = tuple[bytes | None, int, float | None, int]  # value (None: absent), version, remaining seconds, flags
PeerTimes = tuple[str, str, list[int], float]  # address, kind of question, counts of Histogram's buckets, total seconds
Keep = Callable[[str, Found, float], None]  # takes a key, its hot value, and the time of the request
Suspect = Callable[["Peer", Exception], None]
Carrier = Transport | Callable[[str, str, bytes], bytes | None]  # takes an address, a group and a message
HOT = 1  # a flag in what the fast lane finds: worth a near copy


class Look(IntEnum):
    """The answers that may be wanted of a member's memory. ENTRY and TRAITS are for one key."""

    COPY = 0  # what is as good as new
    FORMER = 1  # the same, also of keys that the member no longer owns
    ENTRY = 2  # what it has as the owner, stale or not; the flags from bit 8 on are its age in milliseconds
    TRAITS = 3  # the same, with an empty value

    @property
    def timeout(self) -> float:
        """Return for how many seconds a silent member is waited for."""
        return 0.1 if self == Look.FORMER else PEEK_TIMEOUT


class Call(Protocol):
    """A call from a peer or a client, to be answered once."""

    @property
    def message(self) -> Request | ClientRequest: ...
    @property
    def gone(self) -> bool:
        """Return whether the caller has stopped waiting for the answer."""

    def accept(self) -> None: ...
    def reply(self, message: Any, /) -> None: ...
    def fail(self, status: str, text: str = "") -> None: ...


class Lane(Protocol):
    """A network for one node. Every method but apeek and apeek_many is safe to call from any thread.

    peek and peek_many read a member's memory, and wait for as long as the Look allows. They raise PeerError; peek_many
    returns it in the place of that member's answers. A call ends its promise
    with a reply, or with PeerError, Overloaded or UnknownGroup. It fails within 500 ms if the peer does not accept it
    or is found frozen, however long the work would take.

    Once this lane is closed, what asks members raises NodeClosed, or ends so. It is no answer of one among several.
    """

    contacts: Contacts  # what members are told of this node's writes
    carrier: Carrier  # for messages of hand-over
    stood: Callable[[], None]  # called when this process has stood still

    def start(self, listen: str | None, receive: Callable[[Call], None], deadline: Deadline) -> str | None:
        """Listen, pass calls to `receive` on a thread that it must not hold up, and return the address.

        The name in `listen` must be resolved by the deadline.
        """

    def serve(self, store: Store) -> None: ...
    def hide(self, group: str) -> None: ...
    def route(self, store: Store, route: Route, keep: Keep | None, suspect: Suspect) -> None:
        """Take in new owners. With the engine's lane, the store asks them by itself (Store.remote)."""
        return

    def peek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None: ...
    async def apeek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None: ...
    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]: ...
    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]: ...
    def watch(self) -> None:
        """Look for standstills of the process from now on."""
        return

    def publish(self, names: list[str], metrics: Callable[[], str]) -> None:
        """Answer to these names over HTTP, with these metrics."""
        return

    def ready(self, ready: bool) -> None:
        """Set whether HTTP reports the node as ready; False is final."""
        return

    def peer_times(self) -> list[PeerTimes]:
        """Return how long peers took to answer, by address and kind of question."""
        return []

    def statuses(self, addresses: list[str], timeout: float) -> list[bytes | Exception]:
        """Return what each of these members shows of itself, as JSON, or a PeerError in its place."""
        return [PeerError(f"{address} cannot be asked") for address in addresses]

    def ping_many(self, me: str, addresses: list[str]) -> list[Contact | Exception]:
        """Ping all of them as the member `me`. Return what each says of its writes, or a PeerError after 250 ms."""

    def ping(self, address: str) -> None:
        """Raise PeerError unless the member answers within 250 ms."""
        (answer,) = self.ping_many("", [address])
        if isinstance(answer, Exception):
            raise answer

    def fetch_missed(self, address: str, store: Store, since: int, deadline: Deadline) -> bool:
        """Have the store take note of the writes that a member remembers after a number. Return whether that is all."""

    def call(self, address: str, message: Request, deadline: Deadline) -> Promise: ...
    def cancel(self, call: Promise) -> None:
        """Let a peer know that nothing waits any more for the reply to a call."""
        return

    def send_all(self, asks: Sequence[tuple[str, Request]], deadline: Deadline) -> Path[list[Any]]:
        """Send each request to its address, all at once. Return the replies, or errors in their places."""
        calls = [self.call(address, message, deadline) for address, message in asks]
        replies: list[Any] = []
        for (address, _), call in zip(asks, calls, strict=True):
            try:
                replies.append((yield Wait(call, deadline)))
            except NodeClosed:
                raise
            except KamaCacheError as error:
                replies.append(error)
            except TimeoutError:
                replies.append(PeerError(f"{address} did not answer in time"))
        return replies

    def forget(self, address: str, *, finishing: bool = False) -> None:
        """End the calls that wait for a member that is gone, unless it said goodbye and finishes what it serves."""
        return

    def close(self) -> None: ...
    def renewed(self) -> Lane:
        """Return a lane like this one, not started, for a forked child, in which this one is dead."""
