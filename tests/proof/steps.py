"""The steps of schedules: a table of functions. To add one, write a function of a Simulation and a Step and name it.

A step does nothing if it makes no sense where it stands, so that any part of a schedule is a schedule.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tests.proof.simulation import KINDS, Held, address

if TYPE_CHECKING:
    from kamacache.testing import Parcel
    from tests.proof.simulation import Simulation

KEYS = {"plain": ["a", "b", "c"], "ageing": ["x", "y"], "bare": ["p", "q", "n1", "n2"]}
MOST = 5  # nodes


@dataclass(frozen=True)
class Step:
    """One step. `number` is its place in the whole schedule, which names its values: a shrunk schedule keeps it."""

    number: int
    kind: str
    node: int
    args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"Step({self.number}, {self.kind!r}, {self.node}, {self.args!r})"


Do = Callable[["Simulation", Step], None]


def _call(op: str, *names: str, many: bool = False) -> Do:
    def do(simulation: Simulation, step: Step) -> None:
        if not simulation.usable(step.node):
            return
        args = {name: step.args[name] for name in names if step.args.get(name) is not None}
        keys = step.args["keys"] if many else step.args["keys"][:1]
        if op == "clear":
            keys = ()
        if "value" in args:
            args["value"] = f"w{step.number}"
        if "values" in args:
            args["values"] = dict.fromkeys(keys, f"w{step.number}")
        simulation.call(step.node, step.args["group"], op, tuple(keys), step.number, **args)

    return do


def _conditional(op: str) -> Do:
    def do(simulation: Simulation, step: Step) -> None:
        group, key = step.args["group"], step.args["keys"][0]
        entry = simulation.entries.get((group, key))
        if entry is None or not simulation.usable(step.node):
            return
        args: dict[str, Any] = {"if_version": entry.version, "was": entry.value}
        if op == "set":
            args["value"] = f"w{step.number}"
        simulation.call(step.node, group, op, (key,), step.number, **args)

    return do


def _hold(simulation: Simulation, step: Step) -> None:
    kind, stage = KINDS[step.args["message"]], step.args["stage"]
    end, there = step.args["end"], address(step.node)

    def matches(parcel: Parcel) -> bool:
        at = parcel.source if end == "source" else parcel.target
        return (
            isinstance(parcel.message, kind)
            and parcel.stage == stage
            and at == there
            and parcel.source != parcel.target
        )

    simulation.wires.held.append(Held(matches))


def _release(simulation: Simulation, step: Step) -> None:
    held = simulation.wires.held
    if not held:
        return
    chosen = held.pop(step.args["which"] % len(held))
    fate = step.args["fate"]
    if chosen.parcel is not None and fate != "pass":
        simulation.fault("drop")
        if chosen.parcel.stage == "reply":
            fate = "lose"
    simulation.lingers()
    chosen.release(fate)


def _late(simulation: Simulation, step: Step) -> None:
    simulation.lingers()
    simulation.deliver_late()


def _plan(plan: str) -> Do:
    def do(simulation: Simulation, step: Step) -> None:
        if step.args["group"] != "bare":
            simulation.plans[step.args["keys"][0]] = plan

    return do


def _finish_load(simulation: Simulation, step: Step) -> None:
    if simulation.loading:
        simulation.lingers()
        simulation.loading.pop(step.args["which"] % len(simulation.loading)).release("pass")


def _join(simulation: Simulation, step: Step) -> None:
    taken = {*simulation.nodes, *simulation.crashed}
    free = [number for number in range(MOST) if number not in taken and not simulation.is_busy(number)]
    if not free:  # a process that is still leaving has its address until then
        return
    number = free[0]
    node = simulation.make(number, client=step.args["client"], loader=step.args["loader"])
    simulation.fault("join", number)
    simulation.nodes[number] = node
    simulation.run(step.number, node.start, lambda: f"n{number} has started", busy=number)


def _may_go(simulation: Simulation, number: int) -> bool:
    """Return whether two members that can load are there without a node."""
    others = simulation.loading_nodes & set(simulation.nodes) - simulation.apart - simulation.frozen - {number}
    return simulation.usable(number) and not simulation.is_busy(number) and len(others) >= 2


def _leave(simulation: Simulation, step: Step) -> None:
    if not _may_go(simulation, step.node) or step.node in simulation.apart:
        return
    simulation.fault("leave", step.node)
    node = simulation.nodes.pop(step.node)
    simulation.run(step.number, lambda: node.close(drain=0), lambda: f"n{step.node} has left", busy=step.node)


def _crash(simulation: Simulation, step: Step) -> None:
    if not _may_go(simulation, step.node) or step.node in simulation.apart:
        return
    simulation.fault("crash", step.node)
    simulation.wires.kill(address(step.node))
    for other in simulation.nodes:
        simulation.wires.cut(address(step.node), address(other))
    simulation.crashed[step.node] = simulation.nodes.pop(step.node)


def _freeze(simulation: Simulation, step: Step) -> None:
    if _may_go(simulation, step.node):
        simulation.fault("freeze", step.node)
        simulation.frozen.add(step.node)
        simulation.wires.freeze(address(step.node))


def _cut(simulation: Simulation, step: Step) -> None:
    other = sorted(simulation.nodes)[step.args["other"] % len(simulation.nodes)]
    if step.node in simulation.nodes and other != step.node:
        simulation.fault("cut", step.node, other)
        simulation.wires.cut(address(step.node), address(other))
        if step.args["both"]:
            simulation.wires.cut(address(other), address(step.node))


def _apart(simulation: Simulation, step: Step) -> None:
    """Separate a node from all others and from the registry."""
    if not _may_go(simulation, step.node) or simulation.apart:
        return
    simulation.fault("apart", step.node)
    simulation.apart.add(step.node)
    for other in simulation.nodes:
        simulation.wires.cut(address(step.node), address(other))
        simulation.wires.cut(address(other), address(step.node))
    simulation.wires.unregister(address(step.node))


def _drop(simulation: Simulation, step: Step) -> None:
    if step.node in simulation.nodes:
        simulation.fault("drop", step.node)
        simulation.wires.drop(KINDS[step.args["message"]], stage=step.args["stage"], target=address(step.node))


def _advance(simulation: Simulation, step: Step) -> None:
    simulation.advance(step.args["seconds"])


def _tick(simulation: Simulation, step: Step) -> None:
    if step.node in simulation.nodes:
        simulation.tick(step.number, step.node)


def _round(simulation: Simulation, step: Step) -> None:
    simulation.round(step.number)


def _mend(simulation: Simulation, step: Step) -> None:
    simulation.mend(step.number)


def do(simulation: Simulation, step: Step) -> None:
    """Do what the table says. The node of a step is that of so many that are there."""
    there = sorted(simulation.nodes)
    TABLE[step.kind][1](simulation, replace(step, node=there[step.node % len(there)]))


TABLE: dict[str, tuple[int, Do]] = {  # the weight of each kind, and what it does
    "get": (24, _call("get")),
    "get_or_load": (8, _call("get_or_load")),
    "get_many": (4, _call("get_many", many=True)),
    "get_many_or_load": (3, _call("get_many_or_load", many=True)),
    "peek": (4, _call("peek")),
    "get_entry": (5, _call("get_entry")),
    "set": (12, _call("set", "value", "ttl", "wait")),
    "set_present": (2, _call("set", "value", "if_present")),
    "set_keep": (1, _call("set", "value", "keep")),
    "set_many": (3, _call("set_many", "values", many=True)),
    "delete": (8, _call("delete")),
    "delete_many": (2, _call("delete_many", many=True)),
    "clear": (2, _call("clear")),
    "add": (4, _call("add", "value")),
    "incr": (5, _call("incr", "delta", "initial")),
    "touch": (2, _call("touch", "ttl")),
    "pop": (3, _call("pop")),
    "remove": (2, _call("remove")),
    "set_version": (4, _conditional("set")),
    "remove_version": (1, _conditional("remove")),
    "hold": (14, _hold),
    "release": (14, _release),
    "late": (2, _late),
    "fail": (2, _plan("fail")),
    "absent": (1, _plan("absent")),
    "hold_load": (5, _plan("hold")),
    "finish_load": (7, _finish_load),
    "advance": (6, _advance),
    "tick": (6, _tick),
    "round": (3, _round),
    "mend": (5, _mend),
    "join": (3, _join),
    "leave": (2, _leave),
    "crash": (1, _crash),
    "freeze": (2, _freeze),
    "cut": (3, _cut),
    "apart": (1, _apart),
    "drop": (2, _drop),
}


def choose(chance: random.Random, number: int, few: dict[str, list[str]]) -> Step:
    """Return a step by chance, with some of these keys by group."""
    kinds = list(TABLE)
    kind = chance.choices(kinds, [weight for weight, _ in TABLE.values()])[0]
    group = chance.choice(list(few))
    keys = chance.sample(few[group], chance.randint(1, len(few[group])))
    if "bare" in few and (kind == "incr" or (kind in ("add", "pop", "get", "delete") and chance.random() < 0.2)):
        group, keys = "bare", [chance.choice(["n1", "n2"])]
    args: dict[str, Any] = {"group": group, "keys": keys}
    more: dict[str, Callable[[], Any]] = {
        "value": lambda: True,
        "values": lambda: True,
        "ttl": lambda: chance.choice([None, None, 1.0, 30.0] if kind == "set" else [0.0, 1.0, 30.0]),
        "wait": lambda: chance.choice([None, None, None, False]),
        "if_present": lambda: True,
        "keep": lambda: True,
        "delta": lambda: chance.choice([1, 2]),
        "initial": lambda: chance.choice([None, 0, 0, 0]),
        "message": lambda: chance.choice(list(KINDS)),
        "stage": lambda: chance.choice(["request", "reply"]),
        "end": lambda: chance.choice(["source", "target"]),
        "which": lambda: chance.randrange(8),
        "fate": lambda: chance.choice(["pass", "pass", "pass", "lose", "late"]),
        "client": lambda: chance.random() < 0.25,
        "loader": lambda: chance.random() < 0.8,
        "other": lambda: chance.randrange(MOST),
        "both": lambda: chance.random() < 0.5,
        "seconds": lambda: chance.choice([0.01, 0.1, 0.3, 0.6, 1.1, 2.1, 4.1, 7.0]),
    }
    needs: dict[str, tuple[str, ...]] = {
        "set": ("value", "ttl", "wait"),
        "set_present": ("value", "if_present"),
        "set_keep": ("value", "keep"),
        "set_many": ("values",),
        "add": ("value",),
        "incr": ("delta", "initial"),
        "touch": ("ttl",),
        "hold": ("message", "stage", "end"),
        "release": ("which", "fate"),
        "finish_load": ("which",),
        "join": ("client", "loader"),
        "cut": ("other", "both"),
        "drop": ("message", "stage"),
        "advance": ("seconds",),
    }
    args |= {name: more[name]() for name in needs.get(kind, ())}
    return Step(number, kind, chance.randrange(MOST), args)
