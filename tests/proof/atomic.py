"""Look for an order in which the owner of a key can have decided on its writes, one after another.

The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects" (1993): of the calls that had
begun before any other had returned, each is tried as the first, and the rest is tried after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .history import NEVER, PLAIN, PRIMITIVES, UNKNOWN, Call, History, Load, Options, Unknown


class Present(Unknown):
    """Some value, which the history does not tell."""


PRESENT = Present()


class State(NamedTuple):
    """What the owner has of a key."""

    value: Any  # None: nothing
    since: float  # the place at which the write began that left it
    expires: float  # the clock's time before which it does not expire
    touched: bool = False  # and so has another version than that of its write
    old: bool = False  # it has expired: only if_version may still meet it, as an old value that may be answered

    def has(self) -> bool | None:
        """Return whether there is a value; None if that is not known."""
        if self.old:
            return False
        return None if self.value is UNKNOWN else self.value is not None


@dataclass(frozen=True, eq=False)
class Step:
    """A call or a load, with the places between which the owner decided. `must`: it certainly did."""

    what: Call | Load
    begin: float
    end: float
    must: bool


def undecided(history: History, options: Options, key: str, calls: list[Call], loads: list[Load]) -> Iterator[str]:
    """Yield the calls of each time without faults for which there is no such order."""
    calls = [call for call in calls if call.op in (*PLAIN, *PRIMITIVES)]
    if not any(call.op in PRIMITIVES or {"if_version", "if_present"} & set(call.args) for call in calls):
        return
    for since, end in _calm(history):
        begin = since
        steps = []
        for call in calls:
            over = NEVER if call.args.get("wait") is False or call.error in ("PeerError", "NodeClosed") else call.end
            if call.begin < begin < call.end:
                begin = call.end  # what it left is not known
            elif call.begin > begin and call.begin < end:
                steps.append(Step(call, call.begin, over, over < end))
        steps = [step for step in steps if step.begin > begin]
        steps += [
            Step(load, load.begin, NEVER, False)
            for load in loads
            if load.end > begin and load.begin < end and not load.failed
        ]
        if sum(step.must for step in steps) > 1 and not _order(steps, options, key):
            yield f"there is no order of these, of {key!r}:\n  " + "\n  ".join(str(step.what) for step in steps)


def _calm(history: History) -> Iterator[tuple[float, float]]:
    """Yield the times without faults."""
    begin = -1.0
    for fault in sorted(history.faults, key=lambda fault: fault.begin):
        if fault.begin > begin:
            yield begin, fault.begin
        begin = max(begin, fault.end)
    if begin < NEVER:
        yield begin, NEVER


def _order(steps: list[Step], options: Options, key: str) -> bool:
    seen = set()

    def search(left: frozenset[Step], state: State) -> bool:
        if not any(step.must for step in left):
            return True
        if (left, state) in seen:
            return False
        seen.add((left, state))
        first = min(step.end for step in left if step.must)
        for step in left:
            if step.begin <= first:
                for after in _after(step.what, state, options, key):
                    if search(left - {step}, after):
                        return True
        return False

    lives = options.ttl is not None or any({"ttl", "keep"} & set(getattr(step.what, "args", ())) for step in steps)
    return search(frozenset(steps), State(UNKNOWN, -1.0, -NEVER if lives else NEVER))


def _after(what: Call | Load, state: State, options: Options, key: str) -> Iterator[State]:
    """Yield what the owner may have after a step; nothing if it cannot have come at this point."""
    if isinstance(what, Load):
        ageing = options.refresh_after is not None or state.expires <= what.ended
        if what.begin > state.since and (state.has() is not True or ageing):
            yield State(what.value, what.begin, _expiry(what.ended, options.ttl, options))
        return
    yield from _decided(what, state, options, key)
    if state.value is not None and state.value is not UNKNOWN and not state.old and state.expires <= what.ended:
        yield from _decided(what, state._replace(old=True), options, key)


def _expiry(now: float, ttl: float | None, options: Options) -> float:
    return NEVER if ttl is None else now + ttl * (1 - options.jitter)


def _decided(call: Call, state: State, options: Options, key: str) -> Iterator[State]:
    has, args, result = state.has(), call.args, call.result
    value = args.get("values", {}).get(key, args.get("value"))
    ttl = args.get("ttl", options.ttl)
    new = State(value, call.begin, _expiry(call.began, ttl, options))
    if ttl is not None and ttl <= 0:
        new = State(None, call.begin, NEVER)
    gone = State(None, call.begin, NEVER)
    there = state if has is not None else state._replace(value=PRESENT)
    is_old = state.old or (has is None and state.expires <= call.ended)
    absent = state._replace(old=True) if is_old else State(None, state.since, NEVER)
    done = _Outcome(has, there, absent)
    if call.op in ("delete", "delete_many", "clear"):
        yield gone
    elif call.op == "remove":
        if "was" in args:
            yield from _conditional(call, state, gone)
        elif not call.error:
            yield from done.either(result[0], gone, gone)
    elif call.op == "add":
        yield from done.either(not result, there, new)
    elif call.op == "touch":
        yield from done.either(
            result, gone if ttl is not None and ttl <= 0 else there._replace(expires=new.expires, touched=True), absent
        )
    elif call.op == "pop":
        if result is None or state.value in (result, UNKNOWN, PRESENT):
            yield from done.either(result is not None, gone, absent)
    elif call.op == "incr":
        yield from _sum(call, state, new, done)
    elif "was" in args:
        yield from _conditional(call, state, new)
    elif "if_present" in args:
        yield from done.either(result, new, absent)
    elif "keep" in args and has:
        yield new._replace(expires=state.expires)
    else:
        yield new


@dataclass
class _Outcome:
    """What a decision shows of the state before it."""

    has: bool | None
    there: State
    absent: State

    def either(self, existed: bool, then: State, other: State) -> Iterator[State]:
        """Yield `then` if a value existed, else `other`, unless it is known to be otherwise."""
        if self.has is None or self.has == existed:
            yield then if existed else other


def _conditional(call: Call, state: State, new: State) -> Iterator[State]:
    """Decide by the value of which the caller knows the version: each write has a value of its own."""
    if call.error:
        if state.old or type(state.value) is int or state.value != call.args["was"] or state.touched:
            yield state
    elif state.value in (call.args["was"], UNKNOWN, PRESENT):
        yield new


def _sum(call: Call, state: State, new: State, done: _Outcome) -> Iterator[State]:
    delta, initial = call.args.get("delta", 1), call.args.get("initial")
    value = None if state.old else state.value
    if call.error == "KeyError":
        if initial is None:
            yield from done.either(False, state, done.absent)
    elif call.error == "TypeError":
        if type(value) is not int:
            yield from done.either(True, done.there, state)
    elif value in (UNKNOWN, PRESENT):
        yield State(call.result, call.begin, state.expires)
    elif value is None:
        if initial is not None and call.result == initial + delta:
            yield new._replace(value=call.result)
    elif type(value) is int and call.result == value + delta:
        yield State(call.result, call.begin, state.expires)
