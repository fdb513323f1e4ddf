"""Measure the hit ratios of the policies on recorded traces ($KAMACACHE_TRACES), else on a seeded Zipf trace.

python -m bench.hit_ratio [--short] [--json]        every entry weighs one; capacity in percent of the unique keys
python -m bench.hit_ratio --sizes [--short] [--json]        a store of 64 MiB against its policy in one shard, by size
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys

from tests.support import traces
from tests.support.sizes import hits as hits_of_size

from kamacache._engine import PolicyRun

POLICIES = ("s3fifo", "lru", "lru2")
PERCENTS = (1, 5, 10)
BUDGET = 64 << 20
SIZES = {"10 KiB": 10 << 10, "100 KiB": 100 << 10, "1 MiB": 1 << 20, "4 MiB": 4 << 20}
BAR_POINTS = 0.5


def cachetools_hits(keys: list[int], capacity: int) -> int:
    cache = importlib.import_module("cachetools").LRUCache(capacity)
    hits = 0
    for key in keys:
        if cache.get(key):
            hits += 1
        else:
            cache[key] = True
    return hits


def unit_weights(name: str, keys: list[int]) -> list[dict[str, object]]:
    capacities = [round(len(set(keys)) * percent / 100) for percent in PERCENTS]
    hits = {policy: [PolicyRun(policy, capacity).run(keys) for capacity in capacities] for policy in POLICIES}
    if importlib.util.find_spec("cachetools"):
        hits["cachetools LRU"] = [cachetools_hits(keys, capacity) for capacity in capacities]
    return [
        {"trace": name, "policy": policy, "percent": [round(100 * hit / len(keys), 2) for hit in found]}
        for policy, found in hits.items()
    ]


def sizes(name: str, keys: list[int]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for policy in POLICIES:
        for size, count in SIZES.items():
            percent = [round(100 * hits / len(keys), 2) for hits in hits_of_size(policy, keys, count, BUDGET)]
            rows.append({"trace": name, "policy": f"{policy}, {size}", "percent": percent})
    return rows


def main() -> None:
    measure = sizes if "--sizes" in sys.argv[1:] else unit_weights
    folder = None if "--short" in sys.argv[1:] else traces.folder()
    if folder is None:
        print(f"a seeded Zipf trace, not those recorded in {traces.VARIABLE}", file=sys.stderr)
        rows = measure("zipf 0.9", traces.zipf(seed=1, requests=1_000_000, unique=100_000))
    else:
        rows = [row for name in traces.RECORDED for row in measure(name, traces.recorded(folder, name))]
    if "--json" in sys.argv[1:]:
        print(json.dumps(rows))
        return
    what = "of the store, of one shard" if measure is sizes else f"at {PERCENTS} % of the unique keys"
    print(f"{'trace':<18} {'policy':<15} hit ratio % {what}")
    for row in rows:
        print(f"{row['trace']:<18} {row['policy']:<15} {row['percent']}")


if __name__ == "__main__":
    main()
