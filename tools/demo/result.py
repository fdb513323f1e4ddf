"""Hold the result of the demonstration, for people and machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tools.demo.checks import Check
from tools.demo.latency import merged, quantile


@dataclass
class Numbers:
    """The numbers of one node, or of all together."""

    reads: int = 0
    loads: int = 0
    hits: dict[str, int] = field(default_factory=dict)
    latency: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    confirmed: int = 0
    unconfirmed: int = 0
    stale: int = 0
    errors: int = 0

    def add(self, counters: dict[str, Any]) -> None:
        """Add the counters that one process reported last."""
        stats = counters["stats"]
        for name in ("gets", "hits", "near_hits", "peer_hits", "absent"):
            self.hits[name] = self.hits.get(name, 0) + stats[name]
        self.latency = merged([self.latency, {int(number): n for number, n in counters["latency"].items()}])
        self.slowest = max(self.slowest, counters["slowest"])
        for name in ("reads", "confirmed", "unconfirmed", "stale", "errors"):
            setattr(self, name, getattr(self, name) + counters[name])

    @property
    def hit_ratio(self) -> float:
        gets = self.hits.get("gets", 0)
        return (sum(self.hits.values()) - gets) / gets if gets else 0.0

    def as_dict(self) -> dict[str, Any]:
        milliseconds = {f"p{share:g}_ms": quantile(self.latency, share / 100) * 1e3 for share in (50, 99)}
        names = ("reads", "loads", "hit_ratio", "confirmed", "unconfirmed", "stale", "errors")
        return {name: getattr(self, name) for name in names} | milliseconds | {"slowest_ms": self.slowest * 1e3}


@dataclass
class Result:
    """The numbers and checks that the table shows."""

    registry: str
    nodes: dict[str, Numbers]
    total: Numbers
    checks: list[Check]
    lost: int
    seconds: float

    @property
    def held(self) -> bool:
        return all(check.held for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "held": self.held,
            "registry": self.registry,
            "checks": [
                {"name": check.name, "held": check.held, "detail": check.detail, **check.numbers}
                for check in self.checks
            ],
            "nodes": {name: numbers.as_dict() for name, numbers in self.nodes.items()},
            "total": self.total.as_dict(),
            "queries_without_cache": self.total.reads,
            "queries_with_cache": self.total.loads,
            "keys_lost_by_kill": self.lost,
            "seconds": self.seconds,
        }
