"""What the cluster promises, checked against what its processes wrote down. Pure functions: no process, no clock.

How often a key may be loaded, where nothing expires and nothing is evicted:
  once                        the first time that anybody asks for it
  once more for each delete   of that key, confirmed or not, as the delete has made the cache forget it
  once more                   if the killed node owned it, as the main copy died with it
A set brings the value itself, and a restarted node takes over what the others still hold: neither allows a load.

Two loads of one key at once are allowed only where a write of that key came in between: who asks after the write
must not be given what was read before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from kamacache.demo.evidence import Load, Write


@dataclass(slots=True, frozen=True)
class Window:
    """A time in which the nodes did not agree on who is there."""

    begin: float
    end: float

    def meets(self, begin: float, end: float) -> bool:
        return begin <= self.end and self.begin <= end


@dataclass(slots=True, frozen=True)
class Check:
    """One promise, and whether it held."""

    name: str
    held: bool
    detail: str


@dataclass(slots=True, frozen=True)
class Counted:
    """How many loads there were, and why."""

    loads: int
    first: int
    after_deletes: int
    after_kill: int
    too_many: dict[int, int]  # key: loads more than allowed


def count_loads(loads: Iterable[Load], writes: Iterable[Write], lost: Collection[int]) -> Counted:
    """Compare each key's loads with what is allowed. `lost` are the keys that the killed node owned."""
    loaded = Counter(load.key for load in loads)
    deleted = Counter(write.key for write in writes if write.delete)
    lost = frozenset(lost)
    after_deletes = after_kill = 0
    too_many = {}
    for key, count in loaded.items():
        more = count - 1
        for_deletes = min(more, deleted[key])
        for_kill = min(more - for_deletes, key in lost)
        after_deletes += for_deletes
        after_kill += for_kill
        if more > for_deletes + for_kill:
            too_many[key] = more - for_deletes - for_kill
    return Counted(loaded.total(), len(loaded), after_deletes, after_kill, too_many)


@dataclass(slots=True, frozen=True)
class Overlaps:
    """Pairs of loads of one key at one time."""

    by_writes: list[tuple[Load, Load]]  # a write came in between
    in_windows: list[tuple[Load, Load]]  # the nodes did not agree on who is there
    broken: list[tuple[Load, Load]]  # neither


def find_overlaps(loads: Iterable[Load], writes: Iterable[Write], windows: Sequence[Window]) -> Overlaps:
    """Every load that began while another of its key was running."""
    by_key: defaultdict[int, list[Load]] = defaultdict(list)
    for load in loads:
        by_key[load.key].append(load)
    written: defaultdict[int, list[Write]] = defaultdict(list)
    for write in writes:
        written[write.key].append(write)
    found = Overlaps([], [], [])
    for key, its_loads in by_key.items():
        its_loads.sort(key=lambda load: load.begin)
        running = its_loads[0]
        for load in its_loads[1:]:
            if load.begin < running.end:
                if any(write.begin <= load.begin and write.end >= running.begin for write in written[key]):
                    found.by_writes.append((running, load))
                elif any(window.meets(running.begin, load.begin) for window in windows):
                    found.in_windows.append((running, load))
                else:
                    found.broken.append((running, load))
            running = max(running, load, key=lambda load: load.end)
    return found


def unconfirmed(writes: Iterable[Write], windows: Sequence[Window]) -> tuple[int, int]:
    """Writes that returned False: all of them, and those far from any change of members."""
    without = [write for write in writes if write.confirmed is False]
    apart = [write for write in without if not any(window.meets(write.begin, write.end) for window in windows)]
    return len(without), len(apart)


@dataclass(slots=True, frozen=True)
class Facts:
    """The whole run."""

    loads: Sequence[Load]
    writes: Sequence[Write]
    lost: Collection[int]
    windows: Sequence[Window]
    reads: int
    stale: int
    errors: int
    words: Sequence[str]  # what the first stale reads and errors were


def check(facts: Facts) -> list[Check]:
    """All that is promised."""
    counted = count_loads(facts.loads, facts.writes, facts.lost)
    overlaps = find_overlaps(facts.loads, facts.writes, facts.windows)
    failed, apart = unconfirmed(facts.writes, facts.windows)
    confirmed = sum(write.confirmed is True for write in facts.writes)
    extra = sum(counted.too_many.values())
    words = "; ".join(facts.words)
    return [
        Check(
            "one load per key",
            extra == 0,
            f"{counted.loads:,} loads = {counted.first:,} keys + {counted.after_deletes:,} after deletes"
            f" + {counted.after_kill:,} after the kill"
            + (f" + {extra:,} too many, of the keys {_some(counted.too_many)}" if extra else ""),
        ),
        Check(
            "never two loads of a key at once",
            not overlaps.broken,
            f"{len(overlaps.broken)} while the nodes agreed, {len(overlaps.in_windows)} while they did not;"
            f" {len(overlaps.by_writes)} had to, a write came in between"
            + (f"; keys {_some(load.key for load, _ in overlaps.broken)}" if overlaps.broken else ""),
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
            f"all but {failed}, called while a node had just died or come"
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


def _some(keys: Iterable[int], most: int = 5) -> str:
    found = sorted(set(keys))
    return ", ".join(map(str, found[:most])) + (", ..." if len(found) > most else "")
