"""Check the promises of the cluster against the records of its processes. Pure functions: no process, no clock.

The number of loads of a key that is allowed, if nothing expires and nothing is evicted:
  once                        for the first request
  once more for each delete   of that key, confirmed or not, because the delete made the cache forget it
  once more                   if the killed node owned it, because the main copy died with it
A set brings the value itself, and a restarted node takes over what the others still hold: neither allows a load.
"Once" is promised while the nodes agree on the members. They do not agree right after the kill and the restart, and
while a node that is too busy to answer is considered dead. Then there may be one load too many, or a node that is not
sure to own the key keeps its load for a few seconds only; a set may leave its value with a node that no reader asks.
Loads with no other reason are counted apart, and shown.

Two loads of one key at once are allowed only if a write of that key came in between: a caller that asks after the write
must not receive what was read before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from tools.demo.evidence import Load, Write
from tools.demo.views import Window, any_meets

BACK = 5.0  # seconds, besides its lease, within which a registry that is back lists every node again
PROBED = 1.0  # seconds within which a probe finds that a node is gone


@dataclass(slots=True, frozen=True)
class Check:
    """A promise, with the verdict."""

    name: str
    held: bool
    detail: str
    numbers: Mapping[str, float] = field(default_factory=dict)  # the detail, for machines


@dataclass(slots=True, frozen=True)
class Counted:
    """The numbers of loads, by reason."""

    loads: int
    first: int
    after_deletes: int
    after_kill: int
    in_windows: int
    too_many: Counter[int]  # key: loads more than allowed


def count_loads(
    loads: Iterable[Load], writes: Iterable[Write], lost: Collection[int], killed: Window, windows: Sequence[Window]
) -> Counted:
    """Find a reason for every load but the first of its key. `lost` are the keys that the killed node owned.

    The reason for a load must lie between the load before it and itself, and is good for one load only.
    """
    lost = frozenset(lost)
    deletes = _by_key(sorted((write for write in writes if write.delete), key=lambda write: write.end))
    astray = _by_key(write for write in writes if not write.delete and any_meets(windows, write.begin, write.end))
    by_key = _by_key(sorted(loads, key=lambda load: load.begin))
    after_deletes = after_kill = in_windows = 0
    too_many: Counter[int] = Counter()
    for key, its_loads in by_key.items():
        reasons = deletes.get(key, [])
        for before, load in pairwise(its_loads):
            reason = next((write for write in reasons if _between(write, before, load)), None)
            if reason is not None:
                reasons.remove(reason)
                after_deletes += 1
            elif key in lost and killed.meets(before.begin, load.begin):
                after_kill += 1
            elif any(any_meets(windows, at, at) for at in (before.begin, load.begin)):
                in_windows += 1
            elif reason := next((write for write in astray.get(key, ()) if _between(write, before, load)), None):
                astray[key].remove(reason)
                in_windows += 1
            else:
                too_many[key] += 1
    total = len(by_key) + after_deletes + after_kill + in_windows + too_many.total()
    return Counted(total, len(by_key), after_deletes, after_kill, in_windows, too_many)


def _between(write: Write, before: Load, load: Load) -> bool:
    """Return whether the write may have taken effect between the starts of the two loads."""
    return write.begin <= load.begin and write.end >= before.begin


_Keyed = TypeVar("_Keyed", Load, Write)


def _by_key(found: Iterable[_Keyed]) -> dict[int, list[_Keyed]]:
    by_key: defaultdict[int, list[_Keyed]] = defaultdict(list)
    for each in found:
        by_key[each.key].append(each)
    return by_key


@dataclass(slots=True, frozen=True)
class Overlaps:
    """The pairs of loads of one key that ran at the same time."""

    by_writes: list[tuple[Load, Load]]  # a write came in between
    in_windows: list[tuple[Load, Load]]  # the nodes did not agree on the members
    broken: list[tuple[Load, Load]]  # neither


def find_overlaps(loads: Iterable[Load], writes: Iterable[Write], windows: Sequence[Window]) -> Overlaps:
    """Return every load that began while another load of its key was running."""
    by_key = _by_key(sorted(loads, key=lambda load: load.begin))
    written = _by_key(writes)
    found = Overlaps([], [], [])
    for key, its_loads in by_key.items():
        running = its_loads[0]
        for load in its_loads[1:]:
            if load.begin < running.end:
                if any(_between(write, running, load) for write in written.get(key, ())):
                    found.by_writes.append((running, load))
                elif any_meets(windows, running.begin, load.begin):
                    found.in_windows.append((running, load))
                else:
                    found.broken.append((running, load))
            running = max(running, load, key=lambda load: load.end)
    return found


def unconfirmed(writes: Iterable[Write], windows: Sequence[Window]) -> tuple[int, int]:
    """Return the writes that returned False: all, and those far from any change of members.

    A member whose connections break holds up writes until a probe has found that nothing listens there any more.
    """
    without = [write for write in writes if write.confirmed is False]
    apart = [write for write in without if not any_meets(windows, write.begin - PROBED, write.end)]
    return len(without), len(apart)


@dataclass(slots=True, frozen=True)
class Facts:
    """Everything recorded in one run."""

    loads: Sequence[Load]
    writes: Sequence[Write]
    lost: Collection[int]
    killed: Window  # the moment of the kill
    windows: Sequence[Window]
    reads: int
    stale: int
    errors: int
    words: Sequence[str]  # the first stale reads and errors, in words


def check(facts: Facts) -> list[Check]:
    """Return the verdict on every promise."""
    counted = count_loads(facts.loads, facts.writes, facts.lost, facts.killed, facts.windows)
    overlaps = find_overlaps(facts.loads, facts.writes, facts.windows)
    failed, apart = unconfirmed(facts.writes, facts.windows)
    confirmed = sum(write.confirmed is True for write in facts.writes)
    extra = counted.too_many.total()
    words = "; ".join(facts.words)
    return [
        Check(
            "one load per key",
            extra == 0,
            f"{counted.loads:,} loads = {counted.first:,} keys + {counted.after_deletes:,} after deletes"
            f" + {counted.after_kill:,} after the kill + {counted.in_windows:,} while views differed"
            + (f" + {extra:,} too many, of the keys {_some(counted.too_many)}" if extra else ""),
            {
                "loads": counted.loads,
                "first": counted.first,
                "after_deletes": counted.after_deletes,
                "after_kill": counted.after_kill,
                "while_views_differed": counted.in_windows,
                "too_many": extra,
            },
        ),
        Check(
            "never two loads of a key at once",
            not overlaps.broken,
            f"{len(overlaps.broken)} while the nodes agreed, {len(overlaps.in_windows)} while they did not;"
            f" {len(overlaps.by_writes)} had to, a write came in between"
            + (f"; keys {_some(load.key for load, _ in overlaps.broken)}" if overlaps.broken else ""),
            {
                "too_many": len(overlaps.broken),
                "while_views_differed": len(overlaps.in_windows),
                "after_writes": len(overlaps.by_writes),
            },
        ),
        Check(
            "no stale read after a confirmed write",
            facts.stale == 0,
            f"{facts.stale:,} of {facts.reads:,} reads, after {confirmed:,} confirmed writes"
            + (f": {words}" if facts.stale else ""),
        ),
        Check(
            "every write confirmed by every node",
            apart == 0,
            f"all but {failed}, called while the nodes did not agree"
            if failed and not apart
            else f"{apart} unconfirmed while the nodes agreed, {failed} in all"
            if apart
            else f"all {confirmed:,}",
        ),
        Check("no error", facts.errors == 0, f"{facts.errors:,}" + (f": {words}" if facts.errors else "")),
        Check(
            "enough has happened to tell",
            facts.reads > counted.loads > 0 and confirmed > 0,
            f"{facts.reads:,} reads, {counted.loads:,} loads, {confirmed:,} confirmed writes",
        ),
    ]


@dataclass(slots=True, frozen=True)
class Outage:
    """A time without etcd, and when all nodes that lived then were registered again."""

    gone: float
    back: float
    registered: float
    names: str
    emptied: bool

    @property
    def took(self) -> float:
        return self.registered - self.back


def check_outages(
    outages: Sequence[Outage], loads: Sequence[Load], writes: Sequence[Write], promised: float
) -> list[Check]:
    """Return the verdicts on the promises for the time while etcd is down, and after it is back."""
    away = [Window(outage.gone, outage.back) for outage in outages]
    seconds = sum(window.end - window.begin for window in away)
    done = [
        write for write in writes if any(window.begin <= write.begin and write.end <= window.end for window in away)
    ]
    confirmed = sum(write.confirmed is True for write in done)
    loaded = sum(any_meets(away, load.begin, load.end) for load in loads)
    slowest = max((outage.took for outage in outages), default=0.0)
    return [
        Check(
            "the cluster goes on without etcd",
            confirmed > 0,
            f"{confirmed:,} confirmed writes and {loaded:,} loads in the {seconds:.1f} s that it was away",
            {"seconds": seconds, "confirmed": confirmed, "loads": loaded},
        ),
        Check(
            f"registered within {promised:g} s of its return",
            len(outages) > 0 and slowest <= promised,
            "; ".join(
                f"{outage.names} {outage.took:.1f} s after it was back {'empty' if outage.emptied else 'with its data'}"
                for outage in outages
            ),
            {"slowest": slowest, "promised": promised},
        ),
    ]


def _some(keys: Iterable[int], most: int = 5) -> str:
    found = sorted(set(keys))
    return ", ".join(map(str, found[:most])) + (", ..." if len(found) > most else "")
