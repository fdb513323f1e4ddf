"""A network in memory, whose messages a test can hold and lose."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kamacache.errors import PeerError
from kamacache.net.messages import Member, Request

if TYPE_CHECKING:
    from kamacache.testing.lane import MemoryLane
    from kamacache.testing.registry import MemoryRegistry

GATE_TIMEOUT = 10.0  # seconds after which a gate that is still closed raises an error
SILENCE = 0.05  # seconds after which a frozen member counts as silent


@dataclass(frozen=True, slots=True)
class Peek:
    """The request of the fast lane, beside the messages of kamacache.net.messages."""

    group: str
    keys: list[str]
    former: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """The ping of a member with this id. The reply is a Contact."""

    member: str


@dataclass(frozen=True, slots=True)
class Missed:
    """The request for the writes of a group after a number."""

    group: str
    since: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """A message that hands over entries of a group, as the engine encodes it. The first to an owner has none."""

    group: str
    encoded: bytes


Message = Request | Peek | Ping | Missed | HandOver


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message under way. `stage` is "request" or "reply"; `message` is the request in both."""

    stage: str
    source: str
    target: str
    message: Message
    reply: Any = None


class Gate:
    """Hold the parcels that match until `open`. `arrived` is set when the first one is held."""

    def __init__(self, matches: Callable[[Parcel], bool]) -> None:
        self.matches = matches
        self.arrived = threading.Event()
        self.parcels: list[Parcel] = []
        self._opened = threading.Event()

    def hold(self, parcel: Parcel) -> None:
        """Hold a parcel until the gate is open; the network calls this."""
        self.parcels.append(parcel)
        self.arrived.set()
        if not self._opened.wait(GATE_TIMEOUT):
            raise TimeoutError(f"a gate was never opened for {parcel}")

    def wait(self) -> None:
        """Wait until a parcel is held here."""
        if not self.arrived.wait(GATE_TIMEOUT):
            raise TimeoutError("no message came to the gate")

    def open(self) -> None:
        """Let every parcel pass from now on."""
        self._opened.set()


class Network:
    """The members by address, and the gates between them."""

    def __init__(self, *, hot: bool = True) -> None:
        self.hot = hot  # whether owners mark their values as hot
        self.sent: list[Parcel] = []
        self._lanes: dict[str, MemoryLane] = {}
        self._gates: list[Gate] = []
        self._frozen: set[str] = set()
        self._members: dict[str, dict[str, Member]] = {}
        self._watchers: list[Callable[[], None]] = []
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def lane(self) -> MemoryLane:
        """Return a lane through this network, for one node."""
        from kamacache.testing.lane import MemoryLane  # noqa: PLC0415 - it uses this file

        return MemoryLane(self)

    def registry(self) -> MemoryRegistry:
        """Return the registry of this network, for one node."""
        from kamacache.testing.registry import MemoryRegistry  # noqa: PLC0415 - the same

        return MemoryRegistry(self)

    def gate(
        self,
        kind: type[Any] | tuple[type[Any], ...],
        *,
        stage: str = "request",
        source: str | None = None,
        target: str | None = None,
    ) -> Gate:
        """Hold the messages of a kind, from or to an address if one is given."""
        gate = Gate(
            lambda parcel: (
                parcel.stage == stage
                and isinstance(parcel.message, kind)
                and source in (None, parcel.source)
                and target in (None, parcel.target)
            )
        )
        self._gates.append(gate)
        return gate

    def freeze(self, address: str) -> None:
        """Silence a member: it accepts messages but does not answer, and its own messages get no answer."""
        self._frozen.add(address)

    def thaw(self, address: str) -> None:
        """Let a frozen member answer again."""
        self._frozen.discard(address)

    def kill(self, address: str) -> None:
        """Refuse connections to this address from now on."""
        with self._lock:
            self._lanes.pop(address, None)

    def unregister(self, address: str) -> None:
        """Remove a member from the list of the registry."""
        for members in self._members.values():
            members.pop(address, None)
        self.changed()

    # -- for lanes and registries ------------------------------------------------------------------------------------

    def changed(self) -> None:
        """Notify all nodes that the list of the registry has changed."""
        for watcher in list(self._watchers):
            watcher()

    def listed(self, service: str) -> dict[str, Member]:
        """Return the registered members by address."""
        return self._members.setdefault(service, {})

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` whenever the list changes."""
        self._watchers.append(watcher)

    def attach(self, lane: MemoryLane, address: str | None) -> str:
        """Connect a lane and return its address."""
        address = address or f"memory:{next(self._numbers)}"
        with self._lock:
            self._lanes[address] = lane
        return address

    def deliver(self, source: str, target: str, message: Message) -> MemoryLane:
        """Return the lane at `target` when every gate has let the request pass; PeerError if it is dead or silent."""
        self._pass(Parcel("request", source, target, message))
        lane = self._lanes.get(target)
        if lane is None:
            error = PeerError(f"{target} refused the connection")
            error.refused = True
            raise error
        if target in self._frozen or source in self._frozen:
            threading.Event().wait(SILENCE)
            raise PeerError(f"{target} did not answer")
        return lane

    def returned(self, source: str, target: str, message: Message, reply: Any) -> None:
        """Let the reply pass the gates on its way back."""
        self._pass(Parcel("reply", source, target, message, reply))

    def _pass(self, parcel: Parcel) -> None:
        self.sent.append(parcel)
        for gate in self._gates:
            if gate.matches(parcel):
                gate.hold(parcel)
