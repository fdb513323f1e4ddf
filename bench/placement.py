"""Measure how long a node takes to build the table of candidates when the members change.

python -m bench.placement [--json]
"""

from __future__ import annotations

import json
import sys
import time

from kamacache._engine import Placement

ROUNDS = 7


def build_ms(count: int, *, weighted: bool) -> float:
    """Build a table several times and return the shortest time in milliseconds."""
    members = [(f"10.0.{n // 256}.{n % 256}:8001", 1.0 + n % 4 if weighted else 1.0) for n in range(count)]
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        Placement(members)
        times.append(time.perf_counter() - start)
    return round(min(times) * 1e3, 1)


def main() -> None:
    rows = [
        {"members": count, "equal_ms": build_ms(count, weighted=False), "weighted_ms": build_ms(count, weighted=True)}
        for count in (1, 3, 10, 100, 1000)
    ]
    if "--json" in sys.argv[1:]:
        print(json.dumps(rows))
        return
    print(f"{'members':>8} {'equal':>10} {'weighted':>10}   (ms, best of {ROUNDS})")
    for row in rows:
        print(f"{row['members']:>8} {row['equal_ms']:>10} {row['weighted_ms']:>10}")


if __name__ == "__main__":
    main()
