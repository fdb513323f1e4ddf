"""Run schedules that a seed decides, judge them, and shrink those that break a promise to the fewest steps.

    python -m tests.proof.schedule --first 1 --seeds 1000 --shrink

The seed decides the members, their ids, the steps, what is held, lost and late, and the clock. Messages pass one after
the other, also those that one step sends at once, and hand-overs come after the step that is their cause. Real threads
decide only which of two callers that wait for one load goes on first. What a step leaves is complete before the next
begins. `--twice` compares all that happened.
"""

# ruff: noqa: T201 - it is a program, too

from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.proof.judge import judge
from tests.proof.simulation import Simulation, injected
from tests.proof.steps import KEYS, Step, choose, do

LENGTH = 40  # steps


@dataclass
class Schedule:
    """A seed, which decides the members at the beginning, and the steps."""

    seed: int
    steps: list[Step]

    @classmethod
    def of(cls, seed: int, length: int = LENGTH) -> Schedule:
        """Return the schedule that a seed decides."""
        chance = random.Random(f"steps {seed}")
        few = KEYS
        if seed % 2:  # one or two keys of one group, so that more happens to each
            group = chance.choice(list(KEYS))
            few = {group: chance.sample(KEYS[group], chance.randint(1, 2))}
        return cls(seed, [choose(chance, number, few) for number in range(1, length + 1)])


@dataclass
class Run:
    """What came out of a schedule."""

    broken: list[str]
    trace: list[str]
    lines: list[str]
    calls: int


def run(schedule: Schedule) -> Run:
    """Carry a schedule out, mend all faults, read every key at every node, and judge."""
    simulation = Simulation(schedule.seed)
    chance = random.Random(f"members {schedule.seed}")
    if schedule.seed % 4 == 0:
        simulation.skew = {number: chance.choice([0.0, 0.5, 3.0, 50_000.0]) for number in range(5)}
        simulation.history.one_clock = False
    with injected(simulation):
        try:
            _begin(simulation, chance)
            for step in schedule.steps:
                do(simulation, step)
                simulation.rest(step.number, step.kind)
            simulation.mend(9_000)
            _read_all(simulation)
        finally:
            simulation.close()
    return Run(
        simulation.hung + judge(simulation.history),
        simulation.trace,
        list(simulation.history.lines()),
        len(simulation.history.calls),
    )


def _begin(simulation: Simulation, chance: random.Random) -> None:
    """Start three to five members: at most one of them a client node, at most one without a loader."""
    count = chance.randint(3, 5)
    odd = chance.choice(["", "", "client", "loader"])
    for number in range(count):
        last = number == count - 1
        node = simulation.make(number, client=last and odd == "client", loader=not (last and odd == "loader"))
        simulation.nodes[number] = node
        node.start()
    simulation.mend(0)


def _read_all(simulation: Simulation) -> None:
    number = 10_000
    for group, keys in KEYS.items():
        for key in keys:
            for node in sorted(simulation.nodes):
                number += 1
                simulation.call(node, group, "get", (key,), number)
                simulation.rest(number, "read")


def shrink(schedule: Schedule, promise: str) -> Schedule:
    """Return a part of the schedule, as small as can be, that still breaks the promise."""

    def breaks(steps: Sequence[Step]) -> bool:
        return any(words.startswith(promise) for words in run(Schedule(schedule.seed, list(steps))).broken)

    steps, part = schedule.steps, len(schedule.steps) // 2
    while part:
        begin = 0
        while begin < len(steps):
            fewer = steps[:begin] + steps[begin + part :]
            if breaks(fewer):
                steps = fewer
            else:
                begin += part
        part //= 2
    return Schedule(schedule.seed, steps)


def report(schedule: Schedule, found: Run) -> str:
    """Return a failure in words, with the fewest steps and what happened in them."""
    promise = found.broken[0].splitlines()[0]
    small = shrink(schedule, promise)
    again = run(small)
    lines = [
        f"seed {schedule.seed}: {promise}",
        *found.broken[0].splitlines()[1:],
        f"shrunk to {len(small.steps)} steps:",
    ]
    lines += [f"    {step}," for step in small.steps]
    lines += ["which break:", *again.broken, "history:", *again.lines]
    return "\n".join(lines)


def main() -> int:
    """Run many seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--length", type=int, default=LENGTH)
    parser.add_argument("--twice", action="store_true", help="run each twice and compare the traces")
    parser.add_argument("--shrink", action="store_true")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    logging.getLogger("kamacache").setLevel(logging.CRITICAL)  # members come and go all the time
    began, failed, differ, calls = time.monotonic(), 0, 0, 0
    for seed in range(args.first, args.first + args.seeds):
        schedule = Schedule.of(seed, args.length)
        faulthandler.dump_traceback_later(300, exit=True)
        found = run(schedule)
        calls += found.calls
        if args.show:
            print("\n".join(found.lines), "\n".join(found.trace), sep="\n")
        if found.broken:
            failed += 1
            print(
                f"seed {seed}:", *([report(schedule, found)] if args.shrink else found.broken[:3]), sep="\n", flush=True
            )
        if args.twice:
            again = run(schedule)
            for one, other in zip(found.trace, again.trace, strict=False):
                if one != other:
                    differ += 1
                    print(f"seed {seed} differs:\n- {one[-500:]}\n+ {other[-500:]}", flush=True)
                    break
        if seed % 100 == 0:
            print(
                f"{seed}: {failed} failed, {differ} differ, {calls} calls, {time.monotonic() - began:.0f} s", flush=True
            )
    print(f"{args.seeds} schedules, {failed} failed, {differ} differ, {calls} calls, {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
