"""A cluster in memory whose clock, messages, loads and rounds of membership a schedule decides, step by step.

Nothing here sleeps or waits for time. The clock of the nodes and that of deadlines move by steps alone. The thread of a
membership joins and then rests: rounds are steps. A message that takes too long is one that the schedule says so of. A
step is over when no thread runs any more (quiet.py): what it began has ended, or waits for a later step.
"""

import itertools
import math
import random
import re
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any
from unittest.mock import patch

import kamacache
from kamacache import Clock, Group, Node
from kamacache._engine import Placement, Promise, monotonic
from kamacache.cluster.handover import HandOver as HandingOver
from kamacache.cluster.membership import Membership
from kamacache.deadline import Deadline
from kamacache.errors import PeerError
from kamacache.net.messages import FillRequest, Hello, LoadRequest, TellRequest, WriteRequest
from kamacache.steps import Twofold
from kamacache.testing import HandOver, MemoryLane, Missed, Network, Parcel, Peek, Ping
from kamacache.testing.lane import _Call
from tests.proof.history import PRIMITIVES, Call, Fault, History, Load, Options
from tests.proof.quiet import settle

KINDS = {
    each.__name__: each for each in (Peek, LoadRequest, FillRequest, WriteRequest, TellRequest, Hello, Ping, Missed)
}
HANG = 10.0  # seconds of the machine after which a call that does not return has failed
NEAR_TTL = 2.0
GROUPS: dict[str, dict[str, Any]] = {
    "plain": {"ttl": 60.0},
    "ageing": {
        "ttl": 4.0,
        "refresh_after": 2.0,
        "stale_while_revalidate": 3.0,
        "stale_if_error": 6.0,
        "error_ttl": 0.5,
    },
    "bare": {"ttl": 60.0},  # no node has a loader
}
_NUMBER = re.compile(r"[a-z0-9]+\.L\d+")


def address(number: int) -> str:
    """Return the address of a node."""
    return f"n:{number + 1}"


@dataclass
class Held:
    """A rule that holds one message, or one load, until a later step says what becomes of it."""

    matches: Callable[[Parcel], bool]
    parcel: Parcel | None = None
    fate: str = ""  # pass, lose, late
    since: float = 0.0
    go: threading.Event = field(default_factory=threading.Event)

    def release(self, fate: str) -> None:
        if not self.go.is_set():
            self.fate = fate
            self.go.set()


class Wires(Network):
    """A network whose messages pass at once, unless a rule holds them."""

    def __init__(self) -> None:
        super().__init__(silence=0.0)
        self.now = 0.0
        self.main = threading.get_ident()  # the thread of the schedule
        self._queue: deque[Callable[[], None]] = deque()  # what messages do
        self._turn = 0  # of the thread that carries them out
        self.settling = False  # the schedule waits until all is at rest
        self.held: list[Held] = []
        self._stopped: dict[str, list[threading.Event]] = {}  # the threads of those that are frozen, as they came
        self.late: list[Parcel] = []  # their senders have given up

    def freeze(self, address: str) -> None:
        self._stopped[address] = []
        super().freeze(address)

    def thaw(self, address: str) -> None:
        super().thaw(address)
        for stopped in self._stopped.pop(address):
            stopped.set()
            self.settle()

    def deliver(self, source: str, target: str, message: Any) -> MemoryLane:
        try:
            return super().deliver(source, target, message)
        except PeerError as error:  # what a frozen member was sent, it reads when it goes on
            if target in self._frozen and not error.refused:
                self.late.append(Parcel("request", source, target, message))
            raise

    def broken(self, target: str, *, source: str | None = None, ended: bool = False) -> None:
        for answer, ends in list(self._waiting.items()):
            if ends[1] == target and source in (None, ends[0]) and answer.set_exception(_silent(target, broken=ended)):
                self.settle()

    def begin(self, work: Callable[[], None]) -> None:
        """Have a thread carry out what a message does. While the schedule waits, they do so one after the other."""
        if self.settling:
            self._queue.append(work)
        else:
            work_on_thread(work)

    def settle(self) -> None:
        """Wait until no thread runs and no message waits for one, if the schedule brings that about."""
        if threading.get_ident() != self.main:
            return
        self.settling = True
        settle()
        while self._queue:
            self._turn += 1
            work_on_thread(partial(self._work, self._turn))
            settle()
        self.settling = False

    def _work(self, turn: int) -> None:
        while self._queue and self._turn == turn:  # else this thread has waited, and another one goes on
            self._queue.popleft()()

    def _pass(self, parcel: Parcel) -> None:
        if parcel.stage == "request" and (stopped := self._stopped.get(parcel.source)) is not None:
            stopped.append(go := threading.Event())
            go.wait(HANG * 2)  # its process does not run
        for held in self.held:
            if held.parcel is None and not held.go.is_set() and held.matches(parcel):
                held.parcel, held.since = parcel, self.now
                if not held.go.wait(HANG * 2):
                    raise TimeoutError(f"never released: {parcel}")
                if held.fate == "late":
                    self.late.append(parcel)
                if held.fate != "pass":
                    raise _silent(parcel.target)
                break
        super()._pass(parcel)

    def deliver_late(self) -> None:
        """Have the late requests arrive, in their order. Nothing waits for the replies."""
        parcels, self.late = self.late, []
        for parcel in parcels:
            lane = self._lanes.get(parcel.target)
            if lane is None or parcel.stage != "request":
                continue
            if not isinstance(parcel.message, Peek | Ping | Missed | HandOver):  # those are answered without the node
                lane._receive(_Call(parcel.message, Promise()))
                self.settle()


def work_on_thread(work: Callable[[], None]) -> None:
    """Run something on a thread of its own."""
    threading.Thread(target=work, name="kamacache-memory-call", daemon=True).start()


def _silent(target: str, *, broken: bool = False) -> PeerError:
    error = PeerError(f"{target} did not answer")
    error.broken = broken
    return error


class NamedLane(MemoryLane):
    """A lane with a given address, which sends one message after the other if `free` says that none will be held."""

    def __init__(self, network: Wires, name: str, free: Callable[[], bool]) -> None:
        super().__init__(network)
        self._wires = network
        self._name = name
        self._free = free

    def start(self, listen: str | None, receive: Callable[[Any], None], deadline: Deadline) -> str | None:
        return super().start(listen or self._name, receive, deadline)

    def _begin(self, work: Callable[[], None]) -> None:
        if self._free():
            work()
        else:
            self._wires.begin(work)


class Simulation:
    """The nodes by their numbers, what calls are under way, and the history of all that happened."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # of what a step leaves open: the ids of nodes
        self.wires = Wires()
        self.nodes: dict[int, Node] = {}
        self.clocks: dict[int, Clock] = {}
        self.loading_nodes: set[int] = set()  # that own keys of groups with loaders
        self.frozen: set[int] = set()
        self.apart: set[int] = set()
        self.crashed: dict[int, Node] = {}  # their addresses are not given again
        self.skew: dict[int, float] = {}
        self.history = History(groups={name: options_of(name) for name in GROUPS})
        self.trace: list[str] = []
        self.entries: dict[tuple[str, str], Any] = {}  # what get_entry last returned, by group and key
        self.plans: dict[str, str] = {}  # what the next load of a key does: fail, absent, hold
        self.loading: list[Held] = []
        self._open: list[Fault] = []
        self._loads: Counter[str] = Counter()
        self._places = itertools.count(1)
        self._lock = threading.Lock()
        self.handing: set[HandingOver] = set()  # of nodes whose tables have changed
        self.hung: list[str] = []
        self.under_way: dict[int, threading.Thread] = {}
        self._calls: dict[int, Call] = {}  # by their steps
        self._busy: set[int] = set()  # nodes with a round, a start or a close under way
        self._finished: list[str] = []
        self._pauses: list[threading.Event] = []
        self._mending = False
        self._lingers = True

    def place(self) -> float:
        with self._lock:
            return float(next(self._places))

    @property
    def now(self) -> float:
        return self.wires.now

    # -- members -----------------------------------------------------------------------------------------------------

    def make(self, number: int, *, client: bool = False, loader: bool = True) -> Node:
        """Make a node that is not started."""
        clock = self.clocks[number] = Clock(manual=True, unix=1000.0 + self.skew.get(number, 0.0))
        clock.advance(self.now)
        ident = self.random.randbytes(8)
        network = self.wires
        with patch("kamacache.node.os.urandom", lambda _: ident):
            node = Node(
                registry=network.registry(),
                lane=NamedLane(network, address(number), lambda: self.free),
                clock=clock,
                client=client,
            )
        for name, options in GROUPS.items():
            load = self.loader(number, name) if loader and name != "bare" else None
            node.group(name, load, codec="text", near_ttl=NEAR_TTL, jitter=0.0, **options)
        self.loading_nodes.discard(number)
        if loader and not client:
            self.loading_nodes.add(number)
        return node

    def loader(self, number: int, group: str) -> Callable[[str], str | None]:
        return lambda key: self.load(number, group, key)

    def load(self, number: int, group: str, key: str) -> str | None:
        """Load a key at a node, as the plan for the key says."""
        with self._lock:
            self._loads[key] += 1
            value: str | None = f"{key}.L{self._loads[key]}"
            plan = self.plans.pop(key, "")
        load = Load(f"n{number}", key, self.place(), self.now, value, failed=plan == "fail", group=group)
        if plan == "absent":
            load.value = value = None
        self.history.loads.append(load)
        if plan == "hold":
            held = Held(lambda _: False)
            self.loading.append(held)
            held.go.wait(HANG * 2)
        load.end, load.ended = self.place(), self.now
        if load.failed:
            raise ValueError(value)
        return value

    def load_many(self, number: int, group: str, keys: list[str]) -> dict[str, str | None]:
        """Load some keys as one function does. If it fails, it fails for all of them."""
        begin, began = self.place(), self.now
        before = len(self.history.loads)

        def own() -> list[Load]:
            return [load for load in self.history.loads[before:] if load.node == f"n{number}" and load.key in keys]

        try:
            values = {key: self.load(number, group, key) for key in keys}
            for load in own():
                load.end, load.ended = self.place(), self.now  # the ttl of all begins when the function returns
            return values
        except ValueError as error:
            for load in own():
                load.failed, load.value = True, str(error)
            for key in set(keys) - {load.key for load in own()}:
                end = self.place()
                lost = Load(
                    f"n{number}", key, begin, began, str(error), failed=True, group=group, end=end, ended=self.now
                )
                self.history.loads.append(lost)
            raise

    # -- calls -------------------------------------------------------------------------------------------------------

    def usable(self, number: int) -> bool:
        """Return whether the process of a node runs, and so may call."""
        return number in self.nodes and number not in self.frozen

    def call(self, number: int, group: str, op: str, keys: tuple[str, ...], step: int, **args: Any) -> None:
        """Begin a call on a thread of its own, and record what becomes of it."""
        target = self.nodes[number].groups[group]
        call = Call(f"n{number}", op, keys, self.place(), self.now, args, group)
        self.history.calls.append(call)

        def work() -> None:
            try:
                call.result = self._do(target, number, group, call)
            except Exception as error:  # noqa: BLE001 - the judge decides whether that may be
                call.error = type(error).__name__
                if (found := _NUMBER.search(str(error))) and len(keys) == 1:  # of a batch any of them may have failed
                    call.cause = found.group()
            call.end, call.ended = self.place(), self.now

        self._calls[step] = call
        lingers = group == "ageing" or args.get("wait") is False
        decided = op in PRIMITIVES or bool({"if_version", "if_present", "keep"} & set(args))
        self.run(step, work, lambda: str(call).partition(" ")[2], lingers=lingers, waits=decided)

    def run(
        self,
        step: int,
        work: Callable[[], object],
        words: Callable[[], str],
        *,
        busy: int | None = None,
        lingers: bool = False,
        waits: bool = False,
    ) -> None:
        """Run what a step does: here if it will certainly end, else on a thread.

        `lingers`: it may leave work behind. `waits`: it may ask again after a pause.
        """
        if busy is not None:
            self._busy.add(busy)

        def whole() -> None:
            try:
                work()
            finally:
                if busy is not None:
                    self._busy.discard(busy)
                with self._lock:
                    self._finished.append(f"{step}: {words()}")
                    self.under_way.pop(step, None)

        thread = threading.Thread(target=whole, name=f"step-{step}", daemon=True)
        self.under_way[step] = thread
        self._lingers |= lingers
        if self.free and (self.calm or not waits):
            whole()
        else:
            self._lingers = self.wires.settling = True
            thread.start()

    @property
    def free(self) -> bool:
        """Return whether nothing is held, so that all that begins also ends."""
        held = self.wires.held or self.loading or "hold" in self.plans.values()
        return (self.calm or self._mending) and not held and len(self.under_way) <= 1

    def is_busy(self, number: int) -> bool:
        return number in self._busy

    def rest(self, step: int, words: str) -> None:
        """Wait until no thread runs, hand over, and write down what has happened since the last step."""
        self.settle()
        self._hand_over()
        self._tick(0.001)
        with self._lock:
            finished, self._finished = sorted(self._finished), []
        sent, self.wires.sent = self.wires.sent, []
        passed = Counter(f"{p.stage} {p.source}>{p.target} {type(p.message).__name__}" for p in sent)
        messages = "; ".join(f"{count} {each}" for each, count in sorted(passed.items()))
        self.trace.append(f"{step} {words} | {messages} | {' | '.join(finished)}")

    def lingers(self) -> None:
        """Note that threads go on with something."""
        self._lingers = True

    def settle(self) -> None:
        """Wait until no thread runs, unless that is certain."""
        if self._lingers or self.under_way or not self.free:
            self.wires.settle()
            self._lingers = False

    def _do(self, target: Group[str], number: int, group: str, call: Call) -> Any:  # noqa: PLR0911 - one for each kind
        args = dict(call.args)
        args.pop("was", None)
        if call.op == "get_or_load":
            return target.get_or_load(call.keys[0], self.loader(number, group))
        if call.op == "get_many_or_load":
            return target.get_many_or_load(call.keys, lambda keys: self.load_many(number, group, keys))
        if call.op in ("get_many", "delete_many"):
            return getattr(target, call.op)(call.keys)
        if call.op == "set_many":
            return target.set_many(args["values"])
        if call.op == "clear":
            return target.clear()
        if args.pop("keep", False):
            args["ttl"] = kamacache.KEEP
        if call.op in ("set", "add"):
            return getattr(target, call.op)(*call.keys, args.pop("value"), **args)
        if call.op == "touch":
            return target.touch(call.keys[0], args["ttl"])
        result = getattr(target, call.op)(*call.keys, **args)
        if call.op == "get_entry" and result is not None:
            self.entries[group, call.keys[0]] = result
            return result.value
        return result

    def pause(self) -> None:
        """Wait until time goes on: what asks again after some milliseconds does so then."""
        if threading.get_ident() == self.wires.main:  # nothing else is under way
            self.advance(0.01)
            return
        later = threading.Event()
        with self._lock:
            self._pauses.append(later)
        later.wait(HANG * 2)

    # -- faults ------------------------------------------------------------------------------------------------------

    def fault(self, kind: str, *numbers: int) -> None:
        """Note a fault that lasts until everything is mended."""
        fault = Fault(kind, tuple(f"n{number}" for number in numbers), self.place())
        self.history.faults.append(fault)
        self._open.append(fault)

    @property
    def calm(self) -> bool:
        return not self._open

    def mend(self, step: int) -> None:
        """End all faults, release all that is held, and have every member see that."""
        wires = self.wires
        self.plans.clear()
        held, wires.held, self.loading = [*wires.held, *self.loading], [], []
        for each in held:  # one after the other, so that their threads race for nothing
            each.release("pass")
            self._lingers = True
            self.settle()
        wires.mend()
        self.settle()
        for number in sorted(self.frozen):
            wires.thaw(address(number))
            wires.settle()
        self.deliver_late()
        self.frozen.clear()
        for number in sorted(self.apart):
            membership = self.nodes[number]._membership
            membership._registered = False
        self.apart.clear()
        for number in self.crashed:
            wires.unregister(address(number))
        self._lingers = True
        self.rest(step, "mended")
        self._mending = True
        for _ in range(4):
            self.round(step)
        self._mending = False
        for number, thread in list(self.under_way.items()):
            call = self._calls.get(number)
            if call is not None and int(call.node[1:]) in self.crashed:  # it has died with its process
                call.error, call.end, call.ended = "NodeClosed", self.place(), self.now
                continue
            thread.join(HANG)
            if thread.is_alive():
                self.hung.append(f"Promise 3: no wait of more than a second. It hangs:\n{_stacks()}")
        while self._open:
            self._open.pop().end = self.place()

    def deliver_late(self) -> None:
        """Have the late requests arrive. The writer of an order has waited for a second before it gave up."""
        if any(isinstance(parcel.message, WriteRequest) for parcel in self.wires.late):
            self._tick(1.0)
        self.wires.deliver_late()

    def round(self, step: int) -> None:
        """Let a second go by, and then each membership and sweeper make a round, one node after another."""
        self.advance(1.0)
        for number in sorted(self.nodes):
            self.tick(step, number)

    def tick(self, step: int, number: int) -> None:
        if self.usable(number) and not self.is_busy(number):
            node = self.nodes[number]

            def work() -> None:
                node._membership.tick()
                node._sweeper.sweep()

            self.run(step * 1000 + number, work, lambda: f"round of n{number}", busy=number)
            self.settle()
            self._hand_over()

    def _hand_over(self) -> None:
        """Have the nodes whose tables have changed hand over what others own now. What is left is tried again later."""
        for number, node in sorted(self.nodes.items()):
            handing = node._membership._handing
            if handing in self.handing and self.usable(number):
                _, left, _ = handing._hand_over(Deadline.after(HANG))
                if not left:
                    self.handing.discard(handing)

    def advance(self, seconds: float) -> None:
        """Move the clocks. A message that was held for a second by then is too late for its sender."""
        self._tick(seconds)
        with self._lock:
            pauses, self._pauses = self._pauses, []
        for pause in pauses:
            pause.set()
            self._lingers = True
            self.settle()
        for held in list(self.wires.held):
            if held.parcel is not None and self.now - held.since >= 1.0 and not held.go.is_set():
                held.release("late" if held.parcel.stage == "request" else "lose")
                self.fault("delay")
                self._lingers = True
        self.settle()

    def _tick(self, seconds: float) -> None:
        self.wires.now += seconds
        for clock in self.clocks.values():
            clock.advance(seconds)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        for held in [*self.wires.held, *self.loading]:
            held.release("pass")
        self.wires.held, self.loading = [], []
        for node in [*self.nodes.values(), *self.crashed.values()]:
            node.close(drain=0)


def _stacks() -> str:
    """Return where each thread stands."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = [
        f"{names.get(ident)}\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    ]
    return "\n".join(stack for stack in stacks if "kamacache-sweep" not in stack)


@cache
def _placement(owners: tuple[tuple[str, float], ...]) -> Placement:
    return Placement(list(owners))


def options_of(group: str) -> Options:
    """Return what the judge needs to know of a group."""
    given = {name: value for name, value in GROUPS[group].items() if name in Options.__dataclass_fields__}
    return Options(loader=group != "bare", **given)


def _join(membership: Membership) -> None:
    """Stand in for the thread of a membership: make three rounds, and leave all others to the schedule."""
    for _ in range(3):
        if not (membership.joined or membership.stopped):
            membership._exchange.again()
            membership.tick()
    membership._settled.ring()


@cache
def _begin_to_count() -> None:
    """Have this process count a write: its nodes count together, so a first run would differ from the next ones."""
    with Node() as node:
        node.group("before").set("key", b"value")


@contextmanager
def injected(simulation: Simulation) -> Iterator[None]:
    """Have deadlines count by the time of the simulation. A wait that only time would end is a hang."""

    def left(deadline: Deadline) -> float:
        return math.inf if deadline.at == math.inf else 0.0 if deadline.at <= now() else HANG

    def now() -> float:
        return began + simulation.now

    async def apause() -> None:
        simulation.pause()

    _begin_to_count()
    began = monotonic()
    with (
        patch("kamacache.deadline.monotonic", now),
        patch("kamacache.cluster.exchange.monotonic", now),
        patch("kamacache.load.remote.monotonic", now),
        patch("kamacache.runtime.monotonic", now),
        patch.object(Deadline, "left", left),
        patch("kamacache.cluster.peer.monotonic", now),
        patch("kamacache.write.decision.pause", lambda: Twofold(simulation.pause, apause)),
        patch("kamacache.write.write.pause", lambda: Twofold(simulation.pause, apause)),
        patch("kamacache.cluster.routes.Placement", lambda owners: _placement(tuple(owners))),  # many have the same
        patch.object(Membership, "_run", _join),
        patch.object(HandingOver, "begin", lambda handing: simulation.handing.add(handing)),  # noqa: PLW0108 - a method
    ):
        yield
