"""The last minutes of each group on this node, for people: a few numbers every five seconds, 4 KB for a group."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kamacache._engine import Clock
    from kamacache.core import GroupCore

STEP = 5.0  # seconds of a period; they begin at the same time on all nodes, as far as their clocks agree
PERIODS = 60
COUNTS = ("gets", "memory", "loads", "errors", "writes")  # `memory`: gets answered from the memory of any node
LEVELS = ("bytes", "near_bytes")
_WIDTH = 1 + len(COUNTS) + len(LEVELS)  # of a row: the number of its period, then counters and sizes at its end
_TIMES = 6  # snapshots of the times of loads: one each minute


class History:
    """See above. One thread calls `sample`, any thread the rest."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._period = -1
        self._rows: dict[str, array[float]] = {}  # by group
        self._times: dict[str, deque[tuple[list[int], float]]] = {}  # by group, the oldest first

    def sample(self, groups: Mapping[str, GroupCore]) -> None:
        """Note the numbers of all groups if another period has begun."""
        now = self._clock.unix()
        period = int(now // STEP)
        if period == self._period:
            return
        self._period = period
        cores = dict(groups.items())
        for name in self._rows.keys() - cores.keys():
            del self._rows[name]
            self._times.pop(name, None)
        for name, core in cores.items():
            rows = self._rows.get(name)
            if rows is None:  # all that was counted before belongs to the first period
                counts, _ = core.misses.times.read()
                self._times[name] = deque([([0] * len(counts), 0.0)], maxlen=_TIMES)
                new = now - core.age >= period * STEP
                rows = self._rows[name] = array("d", [period if new else period - 1, *[0.0] * (_WIDTH - 1)])
                if new:
                    continue
            kept = rows[-PERIODS * _WIDTH :]  # a new one, as others read the old
            self._rows[name] = kept + array("d", [period, *_numbers(core)])
            if period % (60 // STEP) == 0:
                self._times[name].append(core.misses.times.read())

    def of(self, name: str) -> dict[str, Any]:
        """Return what happened in each period of a group, and its sizes at the end of each, by name.

        `at` are the numbers of the periods, counted since 1970.
        """
        flat = self._rows.get(name, array("d"))
        rows = [flat[start : start + _WIDTH].tolist() for start in range(0, len(flat), _WIDTH)]
        found: dict[str, Any] = {"at": [int(row[0]) - 1 for row in rows[1:]]}
        for place, column in enumerate(COUNTS, 1):
            # A test may have reset the counters.
            found[column] = [max(0, int(row[place] - last[place])) for last, row in pairwise(rows)]
        for place, column in enumerate(LEVELS, 1 + len(COUNTS)):
            found[column] = [int(row[place]) for row in rows[1:]]
        return found

    def times(self, core: GroupCore) -> tuple[list[int], float]:
        """Return the times of the loads of a group in the last minutes, as Histogram.read does."""
        counts, total = core.misses.times.read()
        noted = self._times.get(core.name)
        before, gone = noted[0] if noted else ([0] * len(counts), 0.0)
        return [max(0, now - then) for now, then in zip(counts, before, strict=True)], max(0.0, total - gone)


def _numbers(core: GroupCore) -> list[float]:
    stats = core.stats()
    memory = stats.hits + stats.near_hits + stats.peer_hits + stats.absent - stats.unanswered
    return [stats.gets, memory, stats.loads, stats.load_errors, stats.writes, stats.bytes, stats.near_bytes]
