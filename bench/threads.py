"""Measure hits of two threads beside those of one, and so whether the interpreter's lock is in the way.

Each round times one thread and two in turn, which ask for the same keys or for keys of their own. With the lock (all
but a free-threaded CPython) the ratio is about 1, without it 2 would be perfect. `id`, a function that shares nothing,
shows what the machine has at that time. Only ratios within a run carry over.
"""

from __future__ import annotations

import argparse
import builtins
import json
import random
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from kamacache import Node

if TYPE_CHECKING:
    from kamacache import Group

BAR = 1.7
KEYS = 10_000
GETS = 400_000


def has_lock() -> bool:
    """Return whether one thread of Python runs at a time."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or bool(enabled())


def asking(owner: Any, name: str, keys: list[str], gate: threading.Barrier, times: list[float]) -> None:
    # Objects of this thread: before 3.14 threads would change the count of references of what is common in turn.
    get = getattr(owner, name)
    keys = [*map("".join, zip(*[iter("".join(keys))] * 20, strict=True))]
    gate.wait()
    times.append(time.perf_counter())
    for key in keys:
        get(key)
    times.append(time.perf_counter())


def rate(owner: Any, name: str, parts: list[list[str]]) -> float:
    """Return the gets per second of one thread for each part, all at once."""
    gate, times = threading.Barrier(len(parts)), list[float]()
    threads = [threading.Thread(target=asking, args=(owner, name, part, gate, times)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(map(len, parts)) / (max(times) - min(times))


def filled(node: Node, names: list[str]) -> Group[bytes]:
    group: Group[bytes] = node.group("g", None, max_bytes=1 << 28)
    for name in names:
        group.set(name, bytes(100))
    return group


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    shuffle = random.Random(1)
    names = [f"{shuffle.getrandbits(80):020x}" for _ in range(KEYS)]
    ratios: dict[str, dict[str, list[float]]] = {}
    with Node() as node:
        called: dict[str, tuple[Any, str]] = {"kamacache": (filled(node, names), "get"), "id": (builtins, "id")}
        for _ in range(options.rounds):
            for name, (owner, function) in called.items():
                own = [shuffle.choices(half, k=GETS) for half in (names[: KEYS // 2], names[KEYS // 2 :])]
                same = [shuffle.choices(names, k=GETS) for _ in range(2)]
                for what, parts in (("keys of their own", own), ("the same keys", same)):
                    ratio = rate(owner, function, parts) / rate(owner, function, parts[:1])
                    ratios.setdefault(name, {}).setdefault(what, []).append(ratio)
    found = {
        name: {
            what: {
                "median": round(statistics.median(each), 2),
                "least": round(min(each), 2),
                "most": round(max(each), 2),
            }
            for what, each in rows.items()
        }
        for name, rows in ratios.items()
    }
    if options.json:
        print(json.dumps({"lock": has_lock(), "ratio": found}))
        return
    print(f"hits of two threads / of one, {'with' if has_lock() else 'without'} the interpreter's lock")
    for name, rows in found.items():
        for what, row in rows.items():
            print(f"{name:10} {what:18} {row['median']:.2f}   {row['least']:.2f} .. {row['most']:.2f}")


if __name__ == "__main__":
    main()
