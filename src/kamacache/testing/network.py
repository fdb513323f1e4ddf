"""A network in memory, whose messages a test can hold and lose."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kamacache.errors import PeerError
from kamacache.net.lane import Look
from kamacache.net.messages import Member, Request

if TYPE_CHECKING:
    from kamacache._engine import Promise
    from kamacache.testing.lane import MemoryLane
    from kamacache.testing.registry import MemoryRegistry

GATE_TIMEOUT = 10.0  # seconds after which a gate that is still closed raises an error
FAST = 0.25  # seconds that the sender of a peek or a ping waits
SILENCE = 0.05  # seconds after which a member that does not answer counts as silent


@dataclass(frozen=True, slots=True)
class Peek:
    """The request of the fast lane, beside the messages of kamacache.net.messages."""

    group: str
    keys: list[str]
    look: Look = Look.COPY


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


class Fault:
    """Drop the parcels that match, or have each take some time, until `end`. `parcels` are those that it has met.

    A message that takes longer than its sender waits arrives all the same; the sender finds its peer silent.
    """

    def __init__(self, matches: Callable[[Parcel], bool], delay: float | None = None) -> None:
        self.matches = matches
        self.delay = delay  # seconds; None: it never arrives
        self.parcels: list[Parcel] = []
        self._ended = threading.Event()

    def meet(self, parcel: Parcel) -> bool:
        """Return whether a parcel gets through, when it does; the network calls this."""
        if self._ended.is_set():
            return True
        self.parcels.append(parcel)
        if self.delay is None:
            return False
        waits = FAST if isinstance(parcel.message, (Peek, Ping)) else self.delay  # others have a deadline of their own
        self._ended.wait(min(self.delay, waits))
        return self.delay <= waits or self._ended.is_set()

    def end(self) -> None:
        """Let every parcel pass from now on, those on their way included."""
        self._ended.set()


class Network:
    """The members by address, and the gates and faults between them.

    - `hot`: whether owners mark their values as hot, so that others keep near copies.
    - `silence`: seconds after which the sender of a message considers its peer silent, if no answer comes.

    A silent peer is a PeerError for the sender, as with the real network: of a member that is frozen, of one that a cut
    separates, and of one whose messages are dropped. A peer that was killed refuses the connection, which is a
    PeerError with `refused`.
    """

    def __init__(self, *, hot: bool = True, silence: float = SILENCE) -> None:
        self.hot = hot
        self.silence = silence
        self.sent: list[Parcel] = []
        self._lanes: dict[str, MemoryLane] = {}
        self._gates: list[Gate] = []
        self._faults: list[Fault] = []
        self._cuts: set[tuple[str, str]] = set()
        self._waiting: dict[Promise, tuple[str, str]] = {}  # calls that were delivered, from where and to where
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
        gate = Gate(_matching(kind, stage, source, target))
        self._gates.append(gate)
        return gate

    def drop(
        self,
        kind: type[Any] | tuple[type[Any], ...] = object,
        *,
        stage: str = "request",
        source: str | None = None,
        target: str | None = None,
    ) -> Fault:
        """Lose the messages of a kind until the fault ends. With stage="reply" the peer does what it was asked for."""
        fault = Fault(_matching(kind, stage, source, target))
        self._faults.append(fault)
        return fault

    def delay(
        self,
        seconds: float,
        kind: type[Any] | tuple[type[Any], ...] = object,
        *,
        stage: str = "request",
        source: str | None = None,
        target: str | None = None,
    ) -> Fault:
        """Have each message of a kind take so many seconds of the machine, until the fault ends."""
        fault = Fault(_matching(kind, stage, source, target), seconds)
        self._faults.append(fault)
        return fault

    def cut(self, source: str, target: str) -> None:
        """Lose all that one member sends to another, answers included. The other way stays open."""
        self._cuts.add((source, target))
        self.broken(target, source=source)
        self.broken(source, source=target)

    def mend(self) -> None:
        """End all cuts, drops and delays."""
        self._cuts.clear()
        while self._faults:
            self._faults.pop().end()

    def freeze(self, address: str) -> None:
        """Silence a member: it accepts messages but does not answer, and its own messages get no answer."""
        self._frozen.add(address)
        self.broken(address)

    def thaw(self, address: str) -> None:
        """Let a frozen member answer again."""
        self._frozen.discard(address)

    def kill(self, address: str) -> None:
        """Refuse connections to this address from now on."""
        with self._lock:
            self._lanes.pop(address, None)
        self.broken(address, ended=True)

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

    def detach(self, lane: MemoryLane, address: str) -> None:
        """Disconnect a lane, unless another one has its address by now."""
        with self._lock:
            mine = self._lanes.get(address) is lane
        if mine:
            self.kill(address)

    def deliver(self, source: str, target: str, message: Message) -> MemoryLane:
        """Return the lane at `target` when every gate has let the request pass; PeerError if it is dead or silent."""
        self._pass(Parcel("request", source, target, message))
        self._travel(source, target, target)
        lane = self._lanes.get(target)
        if lane is None:
            error = PeerError(f"{target} refused the connection")
            error.refused = True
            raise error
        if target in self._frozen or source in self._frozen:
            self._silent(target)
        return lane

    @contextmanager
    def waiting(self, source: str, target: str, answer: Promise) -> Iterator[None]:
        """Have the answer fail if the connection breaks meanwhile."""
        self._waiting[answer] = (source, target)
        try:
            yield
        finally:
            self._waiting.pop(answer, None)

    def broken(self, target: str, *, source: str | None = None, ended: bool = False) -> None:
        """Fail the calls that wait for a member which does not answer any more, or has `ended`."""
        for answer, ends in list(self._waiting.items()):
            if ends[1] == target and source in (None, ends[0]):
                error = PeerError(f"{target} did not answer")
                error.broken = ended
                answer.set_exception(error)

    def returned(self, source: str, target: str, message: Message, reply: Any) -> None:
        """Let the reply pass the gates on its way back."""
        self._pass(Parcel("reply", source, target, message, reply))
        self._travel(target, source, target)
        if target in self._frozen or source in self._frozen:
            self._silent(target)

    def _pass(self, parcel: Parcel) -> None:
        self.sent.append(parcel)
        for gate in self._gates:
            if gate.matches(parcel):
                gate.hold(parcel)
        for fault in list(self._faults):
            if fault.matches(parcel) and not fault.meet(parcel):
                self._silent(parcel.target)

    def _travel(self, source: str, target: str, peer: str) -> None:
        """Raise PeerError about the silent peer if nothing gets from one member to another."""
        if (source, target) in self._cuts:
            self._silent(peer)

    def _silent(self, peer: str) -> None:
        threading.Event().wait(self.silence)
        raise PeerError(f"{peer} did not answer")


def _matching(
    kind: type[Any] | tuple[type[Any], ...], stage: str, source: str | None, target: str | None
) -> Callable[[Parcel], bool]:
    return lambda parcel: (
        parcel.stage == stage
        and isinstance(parcel.message, kind)
        and source in (None, parcel.source)
        and target in (None, parcel.target)
    )
