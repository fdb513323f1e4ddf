"""What happened in a cluster: calls, loads and faults, each with the places of its begin and end in one order.

`begin` and `end` are places in the order of all events of the history; `began` and `ended` are times of the clock.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NEVER = float("inf")


@dataclass(frozen=True)
class Options:
    """The options of a group that the promises speak of. Times are seconds."""

    loader: bool = True
    ttl: float | None = None
    negative_ttl: float = 5.0
    jitter: float = 0.0
    refresh_after: float | None = None
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    error_ttl: float = 0.0
    load_timeout: float | None = 30.0


@dataclass
class Call:
    """One call of a node's group. `end` is NEVER if it has not returned."""

    node: str
    op: str
    keys: tuple[str, ...]
    begin: float
    began: float
    args: dict[str, Any] = field(default_factory=dict)  # value, values, ttl, delta, initial, if_version, wait, default
    group: str = "g"
    end: float = NEVER
    ended: float = NEVER
    result: Any = None
    error: str = ""  # the name of the type of what it raised
    cause: Any = None  # of a LoadError: the value of the load that failed
    took: float | None = None  # seconds of the machine, if they are to be judged

    def __str__(self) -> str:
        args = ", ".join([*map(repr, self.keys), *(f"{name}={value!r}" for name, value in self.args.items())])
        outcome = "has not returned" if self.end == NEVER else self.error or repr(self.result)
        if self.cause is not None:
            outcome += f" ({self.cause!r})"
        return f"{self.begin:g}-{self.end:g} {self.node} {self.group}.{self.op}({args}) -> {outcome}"


@dataclass
class Load:
    """One run of a loader, or of the function of a get_or_load."""

    node: str
    key: str
    begin: float
    began: float
    value: Any  # each load has another; None: the source has none
    failed: bool = False
    group: str = "g"
    end: float = NEVER
    ended: float = NEVER

    def __str__(self) -> str:
        outcome = "fails with" if self.failed else "gives"
        return f"{self.begin:g}-{self.end:g} {self.node} loads {self.group} {self.key!r}: {outcome} {self.value!r}"


@dataclass
class Fault:
    """A fault, or a change of the members. It ends when every member has had the time to see that it is over."""

    kind: (
        str  # cut, drop, delay, freeze, join, leave, apart, and others: only those of `moves` and apart are told apart
    )
    nodes: tuple[str, ...]
    begin: float
    end: float = NEVER

    def __str__(self) -> str:
        return f"{self.begin:g}-{self.end:g} {self.kind} {' '.join(self.nodes)}"


@dataclass
class History:
    """All that happened. `slow` is how long a call may take beside its loads, in seconds of the machine."""

    calls: list[Call] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    groups: dict[str, Options] = field(default_factory=lambda: {"g": Options()})
    slow: float = NEVER
    one_clock: bool = True  # the clocks of the machines agree, so that it is known which of two sides wrote later

    def calm(self, begin: float, end: float) -> bool:
        """Return whether no fault was under way, and no member came or went, between two places."""
        return not any(fault.begin < end and fault.end > begin for fault in self.faults)

    def under(self, kinds: tuple[str, ...], node: str | None, begin: float, end: float) -> bool:
        """Return whether a fault of these kinds was under way, and at this node if one is given."""
        return any(
            fault.kind in kinds and fault.begin < end and fault.end > begin and (node is None or node in fault.nodes)
            for fault in self.faults
        )

    def lines(self) -> Iterator[str]:
        """Yield what happened, in the order of the beginnings."""
        everything: list[Call | Load | Fault] = [*self.calls, *self.loads, *self.faults]
        yield from map(str, sorted(everything, key=lambda each: each.begin))


@dataclass(frozen=True)
class Write:
    """What one call writes of one key: `value` None is a deletion."""

    call: Call
    key: str
    value: Any
    begin: float
    end: float  # after it, the write has no further effect
    confirmed: bool  # it returned what says that every process has confirmed
    decided: bool  # it is a decision of the owner, which does not say whether all have confirmed
    maybe: bool  # it is not known whether it was done
    ttl: float | None  # None: never, or not known


@dataclass(frozen=True)
class Read:
    """What one call returned of one key. `local`: of the memory of one process alone, which may have nothing."""

    call: Call
    key: str
    value: Any
    local: bool


class Unknown:
    """A value that a write may have left, and that the history does not tell."""

    def __repr__(self) -> str:
        return "an unknown value"


UNKNOWN = Unknown()
READS = ("get", "get_or_load", "peek", "get_entry")
MANY = ("get_many", "get_many_or_load")
PRIMITIVES = ("add", "incr", "touch", "pop", "remove")
PLAIN = ("set", "set_many", "delete", "delete_many", "clear")


def conditional(call: Call) -> bool:
    """Return whether the owner alone decides on this write."""
    return call.op in PRIMITIVES or bool({"if_version", "if_present"} & set(call.args))


def reads(calls: list[Call]) -> list[Read]:
    """Return what calls returned of each key. A call that raised has read nothing."""
    found = []
    for call in calls:
        if call.error or call.end == NEVER:
            continue
        if call.op in READS:
            found.append(Read(call, call.keys[0], call.result, call.op == "peek"))
        elif call.op in MANY:
            found += [Read(call, key, call.result.get(key), False) for key in call.keys]
        elif call.op == "pop" and call.result is not None:
            found.append(Read(call, call.keys[0], call.result, False))
    return found


def writes(calls: list[Call], keys: set[str]) -> list[Write]:
    """Return what calls wrote, or may have written, of each key. One that certainly did nothing is left out."""
    found = []
    for call in calls:
        if call.op not in (*PLAIN, *PRIMITIVES) or call.op == "touch":
            continue
        failed = bool(call.error) or call.end == NEVER
        if failed and call.error not in ("", "PeerError", "NodeClosed"):
            continue  # Conflict, KeyError and their like: nothing was done
        if not failed and call.op in ("set", "add") and conditional(call) and call.result is False:
            continue
        found += [_write(call, key, calls, failed) for key in (keys if call.op == "clear" else call.keys)]
    return found


def _write(call: Call, key: str, calls: list[Call], failed: bool) -> Write:
    if call.op == "incr":
        value = UNKNOWN if failed else call.result
    else:
        value = call.args.get("values", {}).get(key, call.args.get("value"))
    ttl = call.args.get("ttl")
    if ttl is not None and ttl <= 0:
        value = None
    own = conditional(call)
    confirmed = (call.result is True and not own) or (call.op == "remove" and not failed and call.result[1])
    end = call.end
    if failed:
        end = NEVER  # what was sent may still arrive
    elif call.args.get("wait") is False:
        end = _sent(call, key, calls)
    return Write(call, key, value, call.begin, end, confirmed, own, failed, ttl)


def _sent(call: Call, key: str, calls: list[Call]) -> float:
    """Return when a write with wait=False was certainly sent: a later read of its node waits for it."""
    waiting = (*READS[:2], *MANY, "set", "delete")
    return min(
        (
            later.end
            for later in calls
            if later.node == call.node
            and later.op in waiting
            and key in later.keys
            and later.begin > call.end
            and later.args.get("wait") is not False
        ),
        default=NEVER,
    )
