"""A cluster in memory with one group on every node, and a source whose loads can be held."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from kamacache import Group, Node
from kamacache._engine import Clock
from kamacache.cluster.peers import Peer
from kamacache.deadline import Deadline
from kamacache.errors import PeerError
from kamacache.net.messages import Hello, LoadReply, LoadRequest
from kamacache.steps import Wait
from kamacache.testing import GATE_TIMEOUT, Gate, HandOver, Network, Parcel, Peek

PATIENCE = 10.0  # seconds after which a test that waits has failed


def wait_until(condition: Callable[[], object], timeout: float = PATIENCE) -> None:
    """Poll until a condition holds; fail after `timeout`."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def in_thread(call: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Run a function on a thread of its own."""
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(call(*arguments))
        except BaseException as error:  # noqa: BLE001 - it belongs to the test
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


def moved(first: Node, second: Node, keys: Sequence[str]) -> list[str]:
    """Return the keys of the group "users" that moved from the first node to the second, once there are any."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [key for key in keys if first.owner("users", key).id == second.id]
        return bool(found)

    wait_until(look, GATE_TIMEOUT)
    return found


def ask_directly(network: Network, address: str | None, keys: list[str]) -> list[bytes | None]:
    """Return the answer to a stranger that asks this node to load keys of the group "users"."""
    lane = network.lane()
    lane.start(None, lambda _: None, Deadline.after(1.0))
    reply: LoadReply = Wait(
        lane.call(address or "", LoadRequest("users", keys, [], 0, 0), Deadline.after(None)),
        Deadline.after(GATE_TIMEOUT),
    ).run()
    return [answer.value for answer in reply.answers]


class Hold:
    """One load that has read the source and now waits."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self._go = threading.Event()

    def wait(self) -> None:
        assert self.arrived.wait(PATIENCE), "no load came"

    def open(self) -> None:
        self._go.set()

    def pause(self) -> None:
        self.arrived.set()
        assert self._go.wait(PATIENCE), "a held load was never released"


class Source:
    """The source of the loaders. A load reads the value first and is held after that: it returns the old one."""

    def __init__(self, value: bytes | None = b"old") -> None:
        self.value = value  # of keys without one of their own
        self.values: dict[str, bytes | None] = {}
        self.loads: Counter[str] = Counter()
        self._holds: dict[str, Hold] = {}
        self._lock = threading.Lock()

    def hold(self, key: str) -> Hold:
        """Hold the next load of this key."""
        return self._holds.setdefault(key, Hold())

    def read(self, key: str) -> tuple[bytes | None, Hold | None]:
        with self._lock:
            self.loads[key] += 1
            return self.values.get(key, self.value), self._holds.pop(key, None)

    def load(self, key: str) -> bytes | None:
        value, hold = self.read(key)
        if hold is not None:
            hold.pause()
        return value

    async def aload(self, key: str) -> bytes | None:
        value, hold = self.read(key)
        if hold is not None:
            await asyncio.to_thread(hold.pause)
        return value


class JitteryNetwork(Network):
    """A network in which every message takes a random time, so that messages overtake each other."""

    def __init__(self, seed: int, longest: float) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._longest = longest

    def _pass(self, parcel: Parcel) -> None:
        super()._pass(parcel)
        if isinstance(parcel.message, Peek) and not parcel.message.keys:
            return  # a probe
        time.sleep(self._longest * self._random.random() ** 4)  # mostly short


class Cluster:
    """Nodes of one network. `with` closes those that are left."""

    def __init__(
        self,
        count: int = 3,
        *,
        network: Network | None = None,
        source: Source | None = None,
        unix: Sequence[float] = (),
        use_async: bool = False,
        **options: Any,
    ) -> None:
        self.network = network or Network()
        self.source = source or Source()
        self.nodes: list[Node] = []
        self.options: dict[str, Any] = {"ttl": "1h", "near_ttl": "5s", "jitter": 0.0} | options
        self._loader: Callable[[str], Any] = self.source.aload if use_async else self.source.load
        for position in range(count):
            self.add(unix=unix[position] if unix else 1000.0)
        self.settle()

    def make(
        self,
        *,
        unix: float = 1000.0,
        weight: float = 1.0,
        group: bool = True,
        loader: bool = True,
        client: bool = False,
    ) -> Node:
        """Make a node that is not started."""
        clock, network = Clock(manual=True, unix=unix), self.network
        node = Node(registry=network.registry(), lane=network.lane(), clock=clock, weight=weight, client=client)
        if group:
            node.group("g", self._loader if loader else None, **self.options)
        return node

    def load_at(self, node: Node) -> None:
        """Give the group of a node that was made without a loader its loader."""
        node.group("g", self._loader, **self.options)

    def add(self, **arguments: Any) -> Node:
        """Add a member."""
        node = self.make(**arguments)
        node.start()
        self.nodes.append(node)
        return node

    def settle(self) -> None:
        """Wait until all members see and have greeted all others, and agree on the owners of keys."""

        def agreed() -> bool:
            addresses = {node.address for node in self.nodes}
            if any({member.address for member in node.members()} != addresses for node in self.nodes):
                return False
            if any(not peer.greeted for node in self.nodes for peer in node._membership.peers.all()):
                return False
            with_group = [node for node in self.nodes if "g" in node.groups]
            keys = [f"settle{number}" for number in range(50)]
            return len({tuple(str(node.owner("g", key)) for key in keys) for node in with_group}) <= 1

        wait_until(agreed)

    def move(self) -> tuple[Node, str]:
        """Add a member, and return it with a key that the first member owned and holds, and the new one owns now.

        The hand-over is held, so that the new one asks.
        """
        self.network.gate(HandOver)
        first = self.nodes[0]
        keys = [f"key{number}" for number in range(60)]
        owned = [key for key in keys if first.owner("g", key).id == first.id]
        self.group(self.nodes[1]).get_many(keys)
        new = self.add()
        self.settle()
        return new, next(key for key in owned if first.owner("g", key).id == new.id)

    def group(self, node: Node) -> Group[bytes]:
        return node.groups["g"]

    @property
    def groups(self) -> list[Group[bytes]]:
        return [node.groups["g"] for node in self.nodes if "g" in node.groups]

    def advance(self, seconds: float) -> None:
        for node in self.nodes:
            node._clock.advance(seconds)

    def key_of(self, owner: Node, prefix: str = "key") -> str:
        """Return a key that this node owns."""
        return next(key for key in (f"{prefix}{n}" for n in range(10_000)) if owner.owner("g", key).id == owner.id)

    def line(self, key: str) -> list[Node]:
        """Return the nodes by their place in the line of candidates of a key."""
        route = self.nodes[0]._membership.route("g")
        addresses = [(peer.address if peer else self.nodes[0].address) for peer in route.all_candidates(key)]
        return [next(node for node in self.nodes if node.address == address) for address in addresses]

    def peer(self, seen_by: Node, other: Node) -> Peer:
        return next(peer for peer in seen_by._membership.peers.all() if peer.address == other.address)

    def is_up(self, seen_by: Node, other: Node) -> bool:
        """Return whether one node asks another, which has then caught up with its writes."""
        peers = seen_by._membership.peers.all()
        return any(peer.address == other.address and not peer.skipped for peer in peers)

    def fall_silent(self, node: Node) -> None:
        """Take a member from the list, and let it have left more pings unanswered than a write waits for."""
        assert node.address is not None
        self.network.unregister(node.address)
        peers = [self.peer(other, node) for other in self.nodes if other is not node]
        wait_until(lambda: not any(peer.registered for peer in peers))
        for peer in peers:
            peer.silent = 1_000

    def consider_dead(self, by: Node, other: Node) -> Gate:
        """Make a node consider another dead until the gate is opened: its probes and hellos do not come through."""
        gate = self.network.gate((Peek, Hello), source=by.address, target=other.address)
        peer = self.peer(by, other)
        by._membership.suspect(peer, PeerError("the test says so"))
        gate.wait()
        assert peer.dead
        return gate

    def served(self, key: str) -> list[bytes | None]:
        """Return the values that nodes serve for a key, in all ways; those of peeks only if they found one."""
        values: list[bytes | None] = []
        for group in self.groups:
            values += [peeked] if (peeked := group.peek(key)) is not None else []
            values += [asyncio.run(group.aget(key)), group.get_many([key]).get(key), group.get(key)]
            values += [peeked] if (peeked := group.peek(key)) is not None else []
        return values

    def assert_serves(self, key: str, *values: bytes | None) -> None:
        """Check that no node serves another value."""
        served = self.served(key)
        assert set(served) <= set(values), f"{key}: {served}"

    def close(self) -> None:
        for node in self.nodes:
            node.close(drain=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for gate in self.network._gates:
            gate.open()
        self.close()
