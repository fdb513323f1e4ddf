"""Build a cluster in memory, for tests: a network whose messages a test can hold and lose, and its registry.

    network = Network()
    a, b = (Node(registry=network.registry(), lane=network.lane(), clock=Clock(manual=True)) for _ in range(2))

A *gate* holds the messages it matches until it is opened, so that a test decides the order in which things happen.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kamacache._engine import Contacts, Promise, Store
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, Overloaded, PeerError, UnknownGroup
from kamacache.net.lane import HOT, Call, Found, Lane
from kamacache.net.messages import Contact, Member, Request
from kamacache.registry import Registry
from kamacache.steps import Wait

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
class Parcel:
    """A message under way. `stage` is "request" or "reply"; `message` is the request in both."""

    stage: str
    source: str
    target: str
    message: Request | Peek | Ping | Missed
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
        return MemoryLane(self)

    def registry(self) -> MemoryRegistry:
        """Return the registry of this network, for one node."""
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

    def deliver(self, source: str, target: str, message: Request | Peek | Ping | Missed) -> MemoryLane:
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

    def returned(self, source: str, target: str, message: Request | Peek | Ping | Missed, reply: Any) -> None:
        """Let the reply pass the gates on its way back."""
        self._pass(Parcel("reply", source, target, message, reply))

    def _pass(self, parcel: Parcel) -> None:
        self.sent.append(parcel)
        for gate in self._gates:
            if gate.matches(parcel):
                gate.hold(parcel)


class _Call:
    """A call as its receiver sees it."""

    gone = False

    def __init__(self, message: Request, promise: Promise) -> None:
        self.message = message
        self._promise = promise

    def accept(self) -> None:
        """Do nothing: no caller here waits for this."""

    def reply(self, message: Any, /) -> None:
        self._promise.set_result(message)

    def fail(self, status: str, text: str = "") -> None:
        errors: dict[str, type[KamaCacheError]] = {"overloaded": Overloaded, "unknown_group": UnknownGroup}
        self._promise.set_exception(errors.get(status, PeerError)(text))


class MemoryLane(Lane):
    """See kamacache.net.lane.Lane."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._stores: dict[str, Store] = {}
        self._receive: Callable[[Call], None] = lambda _: None
        self._address = ""
        self._closed = False
        self.contacts = Contacts()
        self.stood = lambda: None

    def start(self, listen: str | None, receive: Callable[[Call], None], _deadline: Deadline) -> str | None:
        self._receive = receive
        self._address = self._network.attach(self, listen)
        return self._address

    def serve(self, store: Store) -> None:
        self._stores[store.name] = store

    def hide(self, group: str) -> None:
        self._stores.pop(group, None)

    def peek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None:
        return self._peek(address, group, [key], former)[0]

    async def apeek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None:
        import asyncio  # noqa: PLC0415 - it is running

        return await asyncio.to_thread(self.peek, address, group, key, former=former)

    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]:
        answers: list[list[Found | None] | Exception] = []
        for address, keys in asks:
            try:
                answers.append(self._peek(address, group, keys, former))
            except PeerError as error:
                answers.append(error)
        return answers

    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]:
        import asyncio  # noqa: PLC0415 - it is running

        return await asyncio.to_thread(self.peek_many, asks, group, former=former)

    def _peek(self, address: str, group: str, keys: list[str], former: bool) -> list[Found | None]:
        message = Peek(group, keys, former)
        lane = self._network.deliver(self._address, address, message)
        store = lane._stores.get(group)  # noqa: SLF001 - another of this class
        found = [None if store is None else self._shown(store.find(key), former) for key in keys]
        self._network.returned(self._address, address, message, found)
        return found

    def _shown(self, found: Found | None, former: bool) -> Found | None:
        """Return an entry as the fast lane sends it."""
        if found is None or (found[3] == Store.FORMER and not former):
            return None
        hot = self._network.hot and found[3] == Store.MAIN
        return (*found[:3], HOT if hot else 0)

    def ping_many(self, me: str, addresses: list[str]) -> list[Contact | Exception]:
        answers: list[Contact | Exception] = []
        for address in addresses:
            try:
                message = Ping(me)
                lane = self._network.deliver(self._address, address, message)
                answer = Contact(*lane.contacts.met(me))
                self._network.returned(self._address, address, message, answer)
                answers.append(answer)
            except PeerError as error:
                answers.append(error)
        return answers

    def fetch_missed(self, address: str, store: Store, since: int, deadline: Deadline) -> bool:  # noqa: ARG002
        message = Missed(store.name, since)
        lane = self._network.deliver(self._address, address, message)
        theirs = lane._stores.get(store.name)  # noqa: SLF001 - another of this class
        whole = True
        part: int | None = None if theirs is None else 0
        while theirs is not None and part is not None:
            writes, part, forgotten = theirs.missed(since, part)
            store.note_all(writes)
            store.clear(theirs.floor)
            whole &= not forgotten
        self._network.returned(self._address, address, message, whole)
        return whole

    def call(self, address: str, message: Request, deadline: Deadline) -> Promise:  # noqa: ARG002 - gates decide
        promise = Promise()

        def work() -> None:
            answer = Promise()
            try:
                lane = self._network.deliver(self._address, address, message)
                lane._receive(_Call(message, answer))  # noqa: SLF001 - another of this class
                reply = Wait(answer, Deadline.after(GATE_TIMEOUT)).run()
                self._network.returned(self._address, address, message, reply)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller that waits
                promise.set_exception(error)
            else:
                promise.set_result(reply)

        threading.Thread(target=work, name="kamacache-memory-call", daemon=True).start()
        return promise

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.kill(self._address)

    def renewed(self) -> MemoryLane:
        return MemoryLane(self._network)


class MemoryRegistry(Registry):
    """The registry of a Network."""

    lease = 1.0
    poll = 0.05
    beyond_machine = False

    def __init__(self, network: Network) -> None:
        self._network = network
        self._mine: tuple[str, str] | None = None

    def default_listen(self, service: str, node_id: str) -> str | None:  # noqa: ARG002 - the network numbers them
        return None

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        if self._mine is None:
            self._network.watch(changed)
        self._mine = (service, me.address or "")
        self._network.listed(service)[me.address or ""] = me
        self._network.changed()

    def members(self, service: str) -> list[Member]:
        return list(self._network.listed(service).values())

    def deregister(self) -> None:
        if self._mine is not None:
            service, address = self._mine
            self._network.listed(service).pop(address, None)
            self._network.changed()
