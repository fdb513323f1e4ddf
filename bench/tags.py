"""Measure what tags cost: to delete one, beside the number of entries; a hit, beside one of a group without tags.

A delete of a tag is timed in groups of few and of many entries, all with one of so many tags, and a tag that all
entries have. It has to be the same in both. Hits are timed in slices, the groups in turn. Only ratios within a run
carry over to other machines.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.common import copied, spread
from kamacache import Group, Node
from kamacache.tags import tagged

FEW = 10_000
SLICE = 5_000
DELETES = 200


def filled(node: Node, name: str, entries: int, tags: int) -> Group[bytes]:
    """Return a group with so many entries of 20 bytes; with 0 tags, untagged ones."""
    made: Group[bytes] = node.group(name, None, max_bytes="2 GiB")
    store = made._core.store  # noqa: SLF001 - filled at once, with no cost of a write
    for number in range(entries):
        value = b"%020d" % number
        raw = tagged(value, (f"tag:{number % tags}", "all")) if tags else value
        store.put(f"key:{number}", store_bytes(raw), 0, None, store.MAIN)
    return made


def store_bytes(raw: bytes) -> bytes:
    """Return the bytes of a value as its store keeps them: no tag of it was ever deleted."""
    return raw.replace(b"\xff" * 16, bytes(16))


def delete_us(group: Group[bytes], tags: list[str]) -> float:
    """Return the microseconds of one delete, the median."""
    times = []
    for tag in tags:
        began = time.perf_counter_ns()
        group.delete_tag(tag)
        times.append(time.perf_counter_ns() - began)
    return statistics.median(times) / 1_000


def hit_ns(get: Callable[[str], Any], keys: list[str]) -> float:
    began = time.thread_time_ns()
    for key in keys:
        get(key)
    return (time.thread_time_ns() - began) / len(keys)


def hits(node: Node, rounds: int) -> dict[str, list[float]]:
    """Return the nanoseconds of a hit in each round: without tags, beside tagged entries, of tagged ones."""
    plain = filled(node, "plain", FEW, 0)
    mixed = filled(node, "mixed", FEW, 0)
    for group, tags in ((plain, ()), (mixed, ("t",))):
        store = group._core.store  # noqa: SLF001 - as above
        for number in range(FEW):
            raw = store_bytes(tagged(b"%020d" % number, tags))
            store.put(f"other:{number}", raw, 0, None, store.MAIN)
    keys = [f"key:{number}" for number in range(FEW)]
    asked = {
        "untagged": (copied(hit_ns), plain.get, keys),
        "untagged, among tagged ones": (copied(hit_ns), mixed.get, keys),
        "tagged": (copied(hit_ns), mixed.get, [f"other:{number}" for number in range(FEW)]),
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(rounds):
        for name, (timed, get, names) in asked.items():
            times[name].append(timed(get, random.sample(names, SLICE)))
    return times


def measure(entries: int, tags: int, rounds: int) -> dict[str, Any]:
    node = Node()
    times = hits(node, rounds)
    base = times["untagged"]
    result: dict[str, Any] = {
        "entries": entries,
        "tags": tags,
        "hit_ns": {name: spread(row) for name, row in times.items()},
        "hit_ratio": {
            name: spread([one / other for one, other in zip(row, base, strict=True)], 2) for name, row in times.items()
        },
    }
    few = filled(node, "few", FEW, tags)
    many = filled(node, "many", entries, tags)
    ratios, us = [], []
    for part in range(rounds):
        names = [f"tag:{number}" for number in range(part * DELETES, (part + 1) * DELETES)]
        us.append((delete_us(few, names), delete_us(many, names)))
        ratios.append(us[-1][1] / us[-1][0])
    result["delete_us"] = {"few": spread([a for a, _ in us]), "many": spread([b for _, b in us])}
    result["delete_ratio"] = spread(ratios, 2)
    assert many.peek("key:0") is None  # noqa: S101 - it was deleted
    kept = f"key:{tags - 1}"
    assert many.peek(kept) is not None  # noqa: S101 - it was not
    result["all_us"] = round(delete_us(many, ["all"]), 1)
    assert many.peek(kept) is None  # noqa: S101 - it was deleted now
    began = time.perf_counter()
    many.delete_prefix("key:1")
    result["prefix_ms"] = round((time.perf_counter() - began) * 1_000, 1)
    node.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--tags", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.entries, options.tags, options.rounds)
    if options.json:
        print(json.dumps(result))
        return
    for name, row in result["hit_ns"].items():
        print(f"hit, {name}: {row['median']} ns, {result['hit_ratio'][name]['median']} x")
    few, many = result["delete_us"]["few"]["median"], result["delete_us"]["many"]["median"]
    print(f"delete of one of {options.tags:,} tags: {few} us at {FEW:,} entries, {many} us at {options.entries:,}")
    print(f"delete of a tag that all {options.entries:,} entries have: {result['all_us']} us")
    print(f"delete of a prefix among them: {result['prefix_ms']} ms")


if __name__ == "__main__":
    main()
