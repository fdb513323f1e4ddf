"""Run all benches, each in a process of its own, and print one table of results and targets.

python -m bench [--short] [--json]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.cold_key import BAR_SECONDS, KINDS
from bench.idle import BAR_PERCENT
from bench.import_time import BAR_MS, IMPORTS
from bench.memory import BAR as GROWTH
from bench.stalls import BAR_MS as STALL_MS
from bench.threads import BAR as THREADS
from bench.writes import ALONE_US, BARS


@dataclass(frozen=True)
class Row:
    """One line of the table; `bar` is the target, empty if there is none."""

    what: str
    measured: str
    bar: str = ""
    met: bool | None = None


def local_hit(result: Any) -> Iterator[Row]:
    for count, ratios in result.items():
        for name in ("kamacache", "kamacache, ttl"):
            ratio = ratios[name]["ratio"]
            asked = int(count) in {500, 100_000}
            yield Row(
                f"local hit, {int(count):,} keys: {name} / cachebox TTLCache",
                f"{ratio:.2f}",
                "<= 0.80" if asked else "",
                ratio <= 0.8 if asked else None,
            )


def miss(result: Any) -> Iterator[Row]:
    for section, peer, bar in (("get", "cachetools cached", 1.0), ("aget", "async-lru", 2.0)):
        for name, row in result[section].items():
            if name == peer:
                continue
            ratio, asked = row["ratio"]["median"], name == "kamacache"
            yield Row(
                f"miss, {section}: {name} / {peer}",
                f"{ratio:.2f} ({row['us']['median']:.1f} us)",
                f"<= {bar:.2f}" if asked else "",
                ratio <= bar if asked else None,
            )
    for name, row in result["many"].items():
        us, asked = row["us"]["median"], name.startswith("get_many")
        yield Row(
            f"miss, 100 keys: {name}, us a key",
            f"{us:.1f}",
            "<= 10.0" if asked else "",
            us <= 10 if asked else None,
        )


def functions(result: Any) -> Iterator[Row]:
    for call, rows in result["async"].items():
        for peer in ("async-lru", "cashews"):
            ratio = rows["kamacache"]["ns"] / rows[peer]["ns"]
            yield Row(f"hit of a cached function, {call}: kamacache / {peer}", f"{ratio:.2f}", "<= 1.00", ratio <= 1)


def threads(result: Any) -> Iterator[Row]:
    for what, row in result["ratio"]["kamacache"].items():
        asked = not result["lock"] and what == "keys of their own"
        yield Row(
            f"hits of two threads / of one, {what}{', with the interpreter lock' if result['lock'] else ''}",
            f"{row['median']:.2f}",
            f">= {THREADS:.2f}" if asked else "",
            row["median"] >= THREADS if asked else None,
        )


def tags(result: Any) -> Iterator[Row]:
    ratio = result["hit_ratio"]["untagged, among tagged ones"]["median"]
    yield Row("hit: an untagged entry among tagged ones / without any", f"{ratio:.2f}", "<= 1.05", ratio <= 1.05)
    yield Row("hit: a tagged entry / an untagged one", f"{result['hit_ratio']['tagged']['median']:.2f}")
    ratio = result["delete_ratio"]["median"]
    what = f"delete of one of {result['tags']:,} tags: at {result['entries']:,} entries / at 10,000"
    measured = f"{ratio:.2f} ({result['delete_us']['many']['median']:.1f} us)"
    yield Row(what, measured, "<= 2.00", ratio <= 2)


def remote_hit(result: Any) -> Iterator[Row]:
    for name in result["absent"]:
        yield Row(f"remote hit: {name}", "absent")
    ratios = result.get("kamacache / redis", {})
    for way in ("unix", "tcp"):
        if f"p50_us {way}" not in ratios:
            continue
        ratio = ratios[f"p50_us {way}"]
        yield Row(f"remote hit, {way}: p50 / redis-py", f"{ratio:.2f}", "<= 0.60", ratio <= 0.6)
        for what, title in (("pinned_ops", "one core"), ("free_ops", "all cores")):
            ratio = ratios[f"{what} {way}"]
            yield Row(
                f"remote hit, {way}, 8 threads, {title}: gets/s / redis-py", f"{ratio:.2f}", ">= 3.00", ratio >= 3
            )


def writes(result: Any) -> Iterator[Row]:
    for name in result["absent"]:
        yield Row(f"writes: {name}", "absent")
    for name in ("set, alone", "delete, alone"):
        us = result["us"][name]["median"]
        yield Row(f"{name}, us", f"{us:.1f}", f"<= {ALONE_US:.1f}", us <= ALONE_US)
    for name, row in result["ratio"].items():
        ratio, bar = row["median"], BARS[name]
        least = name.endswith("redis.asyncio")
        met = ratio >= bar if least else ratio <= bar
        yield Row(name, f"{ratio:.2f}", f"{'>=' if least else '<='} {bar:.2f}", met)


def cold_key(rows: Any) -> Iterator[Row]:
    loads = sorted({row["loads"] for row in rows})
    yield Row(f"cold key, {len(rows)} rounds: loads", "/".join(map(str, loads)), "1", loads == [1])
    bar = BAR_SECONDS * 1000
    for kind in KINDS:
        longest = [row["longest_ms"] for row in rows if row["callers are"] == kind]
        yield Row(
            f"cold key, callers are {kind}: longest wait of a round, ms",
            f"{min(longest)} .. {max(longest)}",
            f"<= {bar:.0f}",
            max(longest) <= bar,
        )


def hit_ratio(rows: Any) -> Iterator[Row]:
    for row in rows:
        yield Row(f"hit ratio, {row['trace']}: {row['policy']}", " / ".join(f"{part:.2f}" for part in row["percent"]))


def placement(rows: Any) -> Iterator[Row]:
    for row in rows:
        yield Row(f"placement of {row['members']} members, ms", f"{row['equal_ms']}, weighted {row['weighted_ms']}")


def import_time(result: Any) -> Iterator[Row]:
    for code in IMPORTS:
        yield Row(f"{code}: ms over the interpreter", f"{result[code]}", f"<= {BAR_MS:.0f}", result[code] <= BAR_MS)


def idle(result: Any) -> Iterator[Row]:
    percent = result["percent"]["median"]
    what = f"{result['nodes']} idle nodes on one machine: percent of a core for each"
    yield Row(what, f"{percent:.2f}", f"<= {BAR_PERCENT:.2f}", percent <= BAR_PERCENT)


def stalls(result: Any) -> Iterator[Row]:
    for name, row in result.items():
        ms = row["busy"]["median"]
        what = f"{name}: time of the wire thread during one PING beside it, ms"
        yield Row(what, f"{ms:.1f} (PING {row['ping']['median']:.1f})", f"<= {STALL_MS:.1f}", ms <= STALL_MS)


def memory(result: Any) -> Iterator[Row]:
    for case, steps in result.items():
        most = max(step["most"] for step in steps.values())
        yield Row(
            f"memory, {case}: growth of the process / max_bytes", f"{most:.2f}", f"<= {GROWTH:.2f}", most <= GROWTH
        )


@dataclass(frozen=True)
class Bench:
    """A module of this package, its arguments for a short run, and the reader of its output."""

    module: str
    short: tuple[str, ...]
    read: Callable[[Any], Iterator[Row]]


BENCHES = (
    Bench("local_hit", ("--rounds", "2"), local_hit),
    Bench("threads", ("--rounds", "3"), threads),
    Bench("functions", ("--rounds", "40"), functions),
    Bench("tags", ("--entries", "100000", "--rounds", "10"), tags),
    Bench("miss", ("--rounds", "5"), miss),
    Bench("remote_hit", ("--rounds", "3", "--number", "1000", "--seconds", "0.5"), remote_hit),
    Bench("writes", ("--rounds", "3", "--number", "400"), writes),
    Bench("cold_key", ("--rounds", "3"), cold_key),
    Bench("hit_ratio", ("--short",), hit_ratio),
    Bench("placement", (), placement),
    Bench("import_time", ("--rounds", "10"), import_time),
    Bench("idle", ("--seconds", "5"), idle),
    Bench("memory", ("--short",), memory),
    Bench("stalls", ("--rounds", "2", "--keys", "200000"), stalls),
)


def run(bench: Bench, *, short: bool) -> list[Row]:
    command = [sys.executable, "-m", f"bench.{bench.module}", "--json", *(bench.short if short else ())]
    print(f"... {bench.module}", file=sys.stderr, flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return list(bench.read(json.loads(done.stdout)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute or two; the numbers are rough")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [row for bench in BENCHES for row in run(bench, short=options.short)]
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
        return
    width = max(len(row.what) for row in rows)
    print(f"{'':{width}}  {'measured':>20}  {'asked':>8}")
    for row in rows:
        verdict = {None: "", True: "yes", False: "NO"}[row.met]
        print(f"{row.what:{width}}  {row.measured:>20}  {row.bar:>8}  {verdict}")


if __name__ == "__main__":
    main()
