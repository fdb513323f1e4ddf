"""Measure the longest steps of a store with many entries, for which other threads may have to wait.

python -m bench.steps [--short] [--json] [--entries 10000000]

A put is timed by the processor time of its thread. `place` after a change of members, the sweep of expired entries, and
a clear that finds newer ones go slice by slice: their processor time for a slice is shown, and the longest wait of
another thread for a get beside them, which on a busy machine has little to do with them.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from typing import Any

from kamacache._engine import Clock, Store

BAR_MS = 2.0
SLICE = 512  # entries, as in the engine
TTL = 100.0
MS = 1_000_000


def filled(entries: int, clock: Clock) -> tuple[Store, float]:
    """Return a store with that many entries, and the milliseconds of the longest put."""
    store = Store(
        "steps",
        max_bytes=entries * 1_000,
        policy="s3fifo",
        clock=clock,
        near_ttl=5.0,
        remember=10.0,
        decode=None,
        shareable=True,
        keep_evicted=False,
    )
    put, now, value, longest = store.put, time.thread_time_ns, bytes(20), 0
    for number in range(entries):
        key = str(number)
        before = now()
        put(key, value, 1, TTL, Store.MAIN)
        longest = max(longest, now() - before)
    return store, longest / MS


def beside(store: Store, entries: int, call: Callable[[], object]) -> dict[str, float]:
    """Run a call in a thread. Return its milliseconds for a slice, and the longest wait for a get meanwhile."""
    took = 0

    def run() -> None:
        nonlocal took
        before = time.thread_time_ns()
        call()
        took = time.thread_time_ns() - before

    thread = threading.Thread(target=run)
    thread.start()
    longest, number = 0, 0
    while thread.is_alive():
        number = (number + 7919) % entries
        before = time.perf_counter_ns()
        store.lookup(str(number))
        longest = max(longest, time.perf_counter_ns() - before)
    thread.join()
    return {"slice_ms": round(took / (entries / SLICE) / MS, 3), "wait_ms": round(longest / MS, 2)}


def measure(entries: int) -> dict[str, Any]:
    clock = Clock(manual=True)
    store, longest = filled(entries, clock)
    told: dict[str, Any] = {"entries": entries, "put": {"longest_ms": round(longest, 3)}}
    told["place"] = beside(store, entries, lambda: store.place(None, 1))
    clock.advance(TTL + 1)
    told["sweep"] = beside(store, entries, store.sweep)
    told["left"] = store.stats()["entries"]
    fewer = max(entries // 5, 1)  # as this part is slow: each entry is removed by itself
    cleared, _ = filled(fewer, clock)
    for number in range(1_000):  # something newer in every shard
        cleared.put(f"newer {number}", b"", 3, None, Store.MAIN)
    told["clear"] = beside(cleared, fewer, lambda: cleared.clear(2))
    told["left"] += cleared.stats()["entries"] - 1_000
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--short", action="store_true", help="a million entries")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    told = measure(1_000_000 if options.short else options.entries)
    if options.json:
        print(json.dumps(told))
        return
    print(f"{told['entries']:,} entries; no step is to take longer than {BAR_MS:g} ms")
    print(f"put: the longest took {told['put']['longest_ms']:.3f} ms")
    for name in ("place", "sweep", "clear"):
        row = told[name]
        print(f"{name}: {row['slice_ms']:.3f} ms for {SLICE} entries; a get beside it waited {row['wait_ms']:.2f} ms")


if __name__ == "__main__":
    main()
