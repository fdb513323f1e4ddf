"""Judge a history by the promises of README.md and docs/guide: written from these pages, before the code was read.

`judge` returns what was broken, in words. Where the pages leave something open, the judge lets it pass.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from .atomic import undecided
from .history import (
    MANY,
    NEVER,
    PLAIN,
    PRIMITIVES,
    READS,
    UNKNOWN,
    Call,
    History,
    Load,
    Options,
    Read,
    Write,
    reads,
    writes,
)

MOVES = ("join", "leave", "crash", "apart", "restart")  # the owners of keys change


def _later(one: Write, other: Write) -> Write:
    return max(one, other, key=lambda write: write.begin)


class Floors:
    """Writes by their ends. Of those over at some place, the one that began last has replaced most."""

    def __init__(self, writes: list[Write]) -> None:
        writes = sorted(writes, key=lambda write: write.call.end)
        self._ends = [write.call.end for write in writes]
        self._last: list[Write] = list(accumulate(writes, _later))

    def at(self, place: float) -> Write | None:
        """Return the one that began last of the writes that were over before a place."""
        count = bisect_left(self._ends, place)
        return self._last[count - 1] if count else None


@dataclass
class Case:
    """The part of a history that concerns one key of one group."""

    history: History
    options: Options
    key: str
    calls: list[Call]
    reads: list[Read]
    writes: list[Write]
    loads: list[Load]

    def __post_init__(self) -> None:
        self._sources: dict[object, list[Write | Load]] = {}
        for write in self.writes:
            self._sources.setdefault(write.value, []).append(write)
        for load in self.loads:
            if not load.failed:
                self._sources.setdefault(load.value, []).append(load)
        self._floors: dict[tuple[str, bool], Floors] = {}

    def sources(self, value: object) -> list[Write | Load]:
        """Return the writes and loads from which a value may be."""
        return self._sources.get(value, []) + (self._sources.get(UNKNOWN, []) if type(value) is int else [])

    def floor(self, place: float, node: str = "") -> Write | None:
        """Return the write that forbids most to a read that begins at a place: of a node, or of those confirmed."""
        kind = (node, not node)
        if kind not in self._floors:
            plain = [
                write
                for write in self.writes
                if write.call.node == node and write.call.op in PLAIN and not write.call.error
            ]
            self._floors[kind] = Floors(plain if node else [write for write in self.writes if write.confirmed])
        return self._floors[kind].at(place)

    def asked_before(self, place: float) -> float:
        """Return since when callers have asked for the key without a pause, or the last one asked, before a place."""
        before = [call for call in self.calls if call.begin <= place]
        under_way = [call.begin for call in before if call.end >= place]
        return min([*under_way, max((call.begin for call in before), default=place)])

    def touched(self, write: Write, call: Call) -> bool:
        """Return whether a value was touched between a write and a read: that writes it anew, on its side of a cut."""
        return any(each.op == "touch" and write.begin < each.end and each.begin < call.end for each in self.calls)

    def written(self, begin: float, end: float, but: Write | None = None) -> bool:
        """Return whether another write was, or may have been, under way between two places."""
        touched = any(call.op == "touch" and call.begin < end and call.end > begin for call in self.calls)
        return touched or any(
            write.begin < end and write.end > begin
            for write in self.writes
            if but is None or write.call is not but.call
        )


def judge(history: History) -> list[str]:
    """Return every promise that the history shows to be broken, in words, with the calls that show it."""
    broken = list(_unanswered(history)) + list(_errors(history))
    for case in _cases(history):
        for rule in RULES:
            broken += [f"{rule.__doc__.splitlines()[0]}\n  {words}" for words in rule(case)]  # type: ignore[union-attr]
    return broken


def _cases(history: History) -> Iterator[Case]:
    for group, options in history.groups.items():
        calls = [call for call in history.calls if call.group == group]
        loads = [load for load in history.loads if load.group == group]
        keys = {key for call in calls for key in call.keys} | {load.key for load in loads}
        all_reads, all_writes = reads(calls), writes(calls, keys)
        for key in sorted(keys):
            yield Case(
                history,
                options,
                key,
                [call for call in calls if key in call.keys or call.op == "clear"],
                [read for read in all_reads if read.key == key],
                [write for write in all_writes if write.key == key],
                [load for load in loads if load.key == key],
            )


def _replaced(source: Write | Load, write: Write) -> bool:
    """Return whether a source is older than a write: it was over, or its load had begun, before the write began."""
    return (source.begin if isinstance(source, Load) else source.end) < write.begin


def _values(case: Case) -> Iterator[tuple[Call, object, list[Write | Load], str]]:
    """Yield each answer with its possible sources: values, absence that a load found, and failures of loads."""
    for read in case.reads:
        found = case.sources(read.value)
        loads = read.call.op not in ("peek", "get_entry")
        if read.value is not None or (found and case.options.loader and loads):
            absent = read.value is None and any(write.value is None for write in case.writes)
            if not absent:
                yield read.call, read.value, found, f"{read.call.node} answers {read.value!r}"
    for call in case.calls:
        if call.cause is not None:
            failed: list[Write | Load] = [load for load in case.loads if load.failed and load.value == call.cause]
            yield call, call.cause, failed, f"{call.node} answers with the failure {call.cause!r}"


def nowhere(case: Case) -> Iterator[str]:
    """A value is what a write or a load gave for that key."""
    for call, _, sources, words in _values(case):
        if not any(source.begin < call.end for source in sources):
            yield f"{words} for {case.key!r}, which nothing has given before: {call}"


def older(case: Case) -> Iterator[str]:
    """Promise 1: when set, delete or clear has returned True, no process serves an older value."""
    for call, _, sources, words in _values(case):
        write = case.floor(call.begin)
        if write is None or not sources or not all(_replaced(source, write) for source in sources):
            continue
        if not case.history.under(("apart", "stood"), call.node, call.begin, call.end):  # each side serves for itself
            yield f"{words}, which this had replaced: {write.call}\n  the answer: {call}"


def own(case: Case) -> Iterator[str]:
    """Reads on the node that wrote see that write or a newer one, also if it returned False or does not wait."""
    for call, _, sources, words in _values(case):
        write = case.floor(call.begin, call.node) if call.op != "pop" else None  # its owner decides, by what that has
        if write is None or not sources or not all(_before(source, write) for source in sources):
            continue
        ordered = (
            case.history.one_clock and not case.touched(write, call) and all(_earlier(each, write) for each in sources)
        )
        # Two sides that do not see each other may write at one moment. One that does not wait is not told.
        until = min(write.end, call.end)
        unheard = write.call.result is None and not case.history.calm(write.begin, until)
        if ordered or not (write.call.result is False or unheard):
            yield f"{words}, which its own write had replaced: {write.call}\n  the answer: {call}"


def _before(source: Write | Load, write: Write) -> bool:
    """Return whether a source is older than a write of the same node, whose writes of a key keep their order."""
    if isinstance(source, Write) and source.call.node == write.call.node and not source.maybe:
        return source.call.end < write.begin
    return _replaced(source, write)


def healed(case: Case) -> Iterator[str]:
    """A member fetches what it has missed once it can be reached, and when two sides meet, the later write wins."""
    for call, _, sources, words in _values(case):
        if not case.history.calm(call.begin, call.end):
            continue
        for write in case.writes:
            if write.maybe or write.end > call.begin or not sources:
                continue
            gone = case.history.under(("leave", "crash", "restart"), None, write.begin, call.end)
            if gone and not write.confirmed:
                continue  # it may have been known to the member that went alone
            if not write.confirmed and (not case.history.one_clock or case.touched(write, call)):
                continue
            if all(_replaced(source, write) and _earlier(source, write) for source in sources):
                yield f"{words} although the members agree, and this came later: {write.call}\n  the answer: {call}"
                break


def _earlier(source: Write | Load, write: Write) -> bool:
    """Return whether the clock tells that a source is older: two sides may write at one moment."""
    return (source.began if isinstance(source, Load) else source.call.ended) < write.call.began


def lost(case: Case) -> Iterator[str]:
    """A value that was set is in memory until it expires, if no member comes or goes."""
    for read in case.reads:
        call = read.call
        last = _last(case, call) if case.history.calm(call.begin, call.end) else None
        if last is None or last.value is None or not case.history.calm(last.begin, call.end):
            continue
        if read.value == last.value or last.value is UNKNOWN or (read.local and read.value is None):
            continue
        if _good_for(case, last) <= call.ended - last.call.began:
            continue
        yield f"{call.node} answers {read.value!r} and not what this wrote: {last.call}\n  the answer: {call}"
    for call in case.calls:
        last = _last(case, call) if call.error == "LoadError" else None
        if (
            last is None
            or last.value is None
            or call.error != "LoadError"
            or not case.history.calm(last.begin, call.end)
        ):
            continue
        if _good_for(case, last) > call.ended - last.call.began and call.keys[0] == case.key and len(call.keys) == 1:
            yield f"{call.node} loads in vain although this wrote the value: {last.call}\n  the answer: {call}"


def _last(case: Case, call: Call) -> Write | None:
    """Return the write that was the last before a call, if that is beyond doubt."""
    before = [write for write in case.writes if write.end < call.begin]
    if not before:
        return None
    last = max(before, key=lambda write: write.begin)
    return None if last.maybe or case.written(last.begin, call.end, last) else last


def _good_for(case: Case, write: Write) -> float:
    """Return the seconds for which a value is certainly kept and not loaded anew."""
    if "keep" in write.call.args or (write.call.op == "incr" and case.options.ttl is not None):
        return 0.0  # the rest of a time that is not known here
    ttl = write.ttl if write.ttl is not None else case.options.ttl
    ends = [ttl * (1 - case.options.jitter)] if ttl is not None else []
    if case.options.refresh_after is not None:
        ends.append(case.options.refresh_after)
    return min(ends, default=NEVER)


def twice(case: Case) -> Iterator[str]:
    """Promise 2: a cold key that everyone requests at once is loaded once."""
    loads = sorted(case.loads, key=lambda load: load.begin)
    for first, second in pairwise(loads):
        if not case.history.calm(first.begin, second.begin):
            continue
        since = case.asked_before(first.begin)
        if second.begin > first.end or not case.history.calm(since, second.begin) or case.written(since, second.begin):
            continue
        if second.began - first.began < 1.0:  # after a second in vain a node may load by itself
            yield f"{first}\n  {second}"


def again(case: Case) -> Iterator[str]:
    """A value is loaded once, and then found in memory."""
    loads = sorted(case.loads, key=lambda load: load.begin)
    for first, second in pairwise(loads):
        if not case.history.calm(first.begin, second.begin):
            continue
        since = case.asked_before(first.begin)
        if first.failed or not case.history.calm(since, second.begin) or case.written(since, second.begin):
            continue
        if any(
            _writes(call) and not case.history.calm(call.begin, call.end)
            for call in case.calls
            if call.begin < second.begin
        ):
            continue  # some members may know of it, and others hear of it from them
        if any(case.history.under(("join",), None, write.begin, second.begin) for write in case.writes):
            continue  # the new member may know of a write that the owner has forgotten: it asks for a newer value, once
        kept = min(
            (read.call.end for read in case.reads if read.value == first.value and not read.local), default=NEVER
        )
        if first.value is None:
            kept = first.end
        ttl = case.options.ttl if first.value is not None else case.options.negative_ttl
        ends = [ttl * (1 - case.options.jitter)] if ttl is not None else []
        if case.options.refresh_after is not None:
            ends.append(case.options.refresh_after)
        if kept < case.asked_before(second.begin) and second.began - first.began < min(ends, default=NEVER):
            yield f"{first}\n  {second}"


def _writes(call: Call) -> bool:
    return call.op in (*PLAIN, *PRIMITIVES)


def expired(case: Case) -> Iterator[str]:
    """Promise 4: no copy lives longer than its value, and the options of the group."""
    options = case.options
    if any(call.op == "touch" or "keep" in call.args for call in case.calls):
        return
    for call, value, sources, words in _values(case):
        if call.cause is not None or not sources:
            continue
        after = max(options.stale_while_revalidate, options.stale_if_error)
        over = []
        for source in sources:
            ttl = options.negative_ttl if value is None else options.ttl
            if isinstance(source, Write):
                if source.call.op == "incr" or source.end == NEVER or source.call.args.get("wait") is False:
                    break  # it keeps the time that the number had left; it is sent later, and its ttl begins then
                ttl = source.ttl if source.ttl is not None else options.ttl
            end = source.ended if isinstance(source, Load) else source.call.ended
            if ttl is None or call.began - end <= ttl + after:
                break
            over.append(source)
        else:
            yield f"{words}, {call.began:g} s, which lived {ttl:g} s: {over[-1]}\n  the answer: {call}"


def atomic(case: Case) -> Iterator[str]:
    """The owner decides on a key in one step: of two callers one wins, and no increment is lost."""
    yield from undecided(case.history, case.options, case.key, case.calls, case.loads)


def _unanswered(history: History) -> Iterator[str]:
    for call in history.calls:
        if call.end == NEVER:
            yield f"Promise 3: no wait of more than a second.\n  {call}"
        elif (
            call.took is not None
            and call.took > history.slow
            and not any(
                load.key in call.keys and load.begin < call.end and load.end > call.begin for load in history.loads
            )
        ):
            yield f"Promise 3: no wait of more than a second. It took {call.took:.2f} s.\n  {call}"


def _errors(history: History) -> Iterator[str]:
    for call in history.calls:
        calm = history.calm(call.begin, call.end)
        if not call.error:
            if (
                call.op in PLAIN
                and call.result is False
                and calm
                and not _met(history, call)
                and "if_present" not in call.args
            ):
                yield f"A write returns True if every member can be reached.\n  {call}"
            elif call.op in PLAIN and call.args.get("wait") is not False and call.result not in (True, False):
                yield f"A write returns True or False.\n  {call}"
            continue
        leaving = history.under(("leave", "restart", "crash"), call.node, call.begin, call.end)
        if call.error in ("NodeClosed", "GroupClosed") and leaving:
            continue
        allowed = _allowed(history, call, calm)
        if call.error not in allowed:
            may = ", ".join(allowed) or "none"
            yield f"Promise 3: no errors for callers, but those of their loads (here: {may}).\n  {call}"


def _met(history: History, call: Call) -> bool:
    return any(_meets(call, other) for other in history.calls)


def _meets(call: Call, other: Call) -> bool:
    """Return whether another write of one of its keys was under way: which of the two came later may not be known."""
    if (
        other is call
        or other.group != call.group
        or not _writes(other)
        or other.begin > call.end
        or other.end < call.begin
    ):
        return False
    return "clear" in (call.op, other.op) or bool(set(call.keys) & set(other.keys))


def _allowed(history: History, call: Call, calm: bool) -> list[str]:
    """Return the errors that the pages let a call raise."""
    found = []
    options = history.groups[call.group]
    if call.op in READS or call.op in MANY:
        loads = [load for load in history.loads if load.group == call.group and load.key in call.keys]
        if any(load.failed and load.begin < call.end for load in loads):
            found.append("LoadError")
        if options.load_timeout is not None and any(
            load.begin < call.end and min(load.ended, call.ended) - load.began >= options.load_timeout for load in loads
        ):
            found.append("LoadTimeout")
        if not calm:
            found.append("NoLoader")  # a node without a loader, if none that has one answers: client nodes have none
        return found
    if call.op == "incr":
        found += ["KeyError", "TypeError"]
    if "if_version" in call.args:
        found.append("Conflict")
    if not calm and (
        call.op in ("add", "incr", "touch", "pop") or {"if_version", "if_present", "keep"} & set(call.args)
    ):
        found.append("PeerError")
    return found


RULES: list[Callable[[Case], Iterator[str]]] = [nowhere, older, own, healed, lost, twice, again, expired, atomic]
