"""The course of the demonstration: meet, share, load, kill, restart, count."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kamacache.demo import checks, database
from kamacache.demo.cluster import NAMES, Cluster, DemoError, Process
from kamacache.demo.evidence import Load, Versions, Write, read_journal
from kamacache.demo.latency import merged, quantile

if TYPE_CHECKING:
    from kamacache.demo.report import Report

_KILL, _RESTART = 0.4, 0.6  # of the time under load
_TICK = 0.05  # seconds


@dataclass
class Numbers:
    """What one node, or all together, did."""

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
    """Everything that the table shows."""

    nodes: dict[str, Numbers]
    total: Numbers
    checks: list[checks.Check]
    lost: int
    seconds: float

    @property
    def held(self) -> bool:
        return all(check.held for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        return {
            "held": self.held,
            "checks": [{"name": check.name, "held": check.held, "detail": check.detail} for check in self.checks],
            "nodes": {name: numbers.as_dict() for name, numbers in self.nodes.items()},
            "total": self.total.as_dict(),
            "queries_without_cache": self.total.reads,
            "queries_with_cache": self.total.loads,
            "keys_lost_by_kill": self.lost,
            "seconds": self.seconds,
        }


class Scenario:
    """One run in a directory of its own."""

    def __init__(self, directory: Path, rows: int, seconds: float, report: Report) -> None:
        self._directory = directory
        self._rows = rows
        self._seconds = seconds
        self._report = report
        self._cluster = Cluster(directory, rows)
        self._windows: list[checks.Window] = []
        self._lost: array[int] = array("I")
        self._killed = checks.Window(0.0, 0.0)
        self._began = 0.0
        self._checks: list[checks.Check] = []

    def run(self) -> Result:
        try:
            self._prepare()
            self._meet()
            self._share()
            self._load()
        finally:
            self._cluster.close()
        return self._result()

    def _prepare(self) -> None:
        began = time.monotonic()
        path = self._directory / "users.db"
        database.create(path, self._rows)
        Versions(self._directory / "versions", self._rows)
        size = path.stat().st_size / 2**20
        self._report.say("database", f"{self._rows:,} users in SQLite, {size:.1f} MiB, made in {_since(began)}")

    def _meet(self) -> None:
        began = time.monotonic()
        for name in NAMES:
            self._cluster.start(name)
        self._cluster.settle()
        alive = self._cluster.alive
        pids = "  ".join(f"{process.name} pid {process.pid}" for process in alive)
        self._report.say("processes", f"{pids}  found each other in {_since(began)}")
        by_address = {process.address: process.name for process in alive}
        for process in alive:
            seen = sorted(by_address.get(address, "?") for address in (process.view or ([], 0))[0])
            self._report.say("members", f"as {process.name} sees them: {' '.join(seen)}")

    def _share(self) -> None:
        alive = self._cluster.alive
        confirmed = self._cluster.all_do("greet")
        good = all(confirmed)
        for process in alive:
            answers = self._cluster.all_do("greeting", name=process.life)
            right = sum(answer == f"hello from {process.life}" for answer in answers)
            good &= right == len(alive)
            self._report.say("keys", f"{process.name} set a key of its own: {answers[-1]!r}, read by {right} of 3")
        self._checks.append(checks.Check("each node reads what the others set", good, "3 keys, 9 reads"))

    def _load(self) -> None:
        cluster, report = self._cluster, self._report
        report.say("load", f"{self._seconds:g} s of reads by Zipf's law, and writes, from all three")
        for process in cluster.alive:
            process.ask("load")
        self._began = time.monotonic()
        self._until(_KILL)
        victim, *others = cluster.alive
        path = self._directory / "lost"
        owned = others[0].ask("owned_by", address=victim.address, path=str(path))
        self._lost.frombytes(path.read_bytes())
        killed = time.monotonic()
        cluster.kill(victim)
        self._killed = checks.Window(killed, victim.died or killed)
        self._event(f"kill -9 {victim.name} (pid {victim.pid}), the owner of {owned:,} keys")
        agreed = cluster.settle(self._tick)
        self._windows.append(checks.Window(killed, agreed))
        self._event(f"{' and '.join(p.name for p in others)} agree that it is gone, after {agreed - killed:.2f} s")
        self._until(_RESTART)
        started = time.monotonic()
        again = cluster.start(victim.name)
        self._event(f"{again.name} is started again (pid {again.pid})")
        agreed = cluster.settle(self._tick)
        again.ask("load")
        self._windows.append(checks.Window(started, agreed))
        self._event(f"all three agree that it is back, after {agreed - started:.2f} s")
        self._until(1.0)
        cluster.all_do("stop")
        report.end_progress()

    def _event(self, words: str) -> None:
        self._report.event(time.monotonic() - self._began, words)

    def _until(self, share: float) -> None:
        while time.monotonic() - self._began < self._seconds * share:
            self._cluster.check()
            self._tick()
            time.sleep(_TICK)

    def _tick(self) -> None:
        processes = self._cluster.processes
        total = Numbers()
        for process in processes:
            if process.counters:
                total.add(process.counters)
        alive = " ".join(name if any(p.name == name for p in self._cluster.alive) else "-" for name in NAMES)
        self._report.progress(time.monotonic() - self._began, self._seconds, total, alive)

    def _result(self) -> Result:
        nodes = {name: Numbers() for name in NAMES}
        total = Numbers()
        loads: list[Load] = []
        writes: list[Write] = []
        words: list[str] = []
        for process in self._cluster.processes:
            its_loads, its_writes = self._journal(process)
            loads += its_loads
            writes += its_writes
            for numbers in (nodes[process.name], total):
                numbers.add(process.counters)
                numbers.loads += len(its_loads)
            words += [f"{process.name}: {text}" for text in process.counters["words"]]
        facts = checks.Facts(
            loads, writes, self._lost, self._killed, self._windows, total.reads, total.stale, total.errors, words[:5]
        )
        return Result(nodes, total, self._checks + checks.check(facts), len(self._lost), time.monotonic() - self._began)

    def _journal(self, process: Process) -> tuple[list[Load], list[Write]]:
        assert process.died is not None  # noqa: S101 - the cluster is closed
        if not process.counters:
            raise DemoError(f"node {process.name} reported nothing")
        path = self._directory / f"{process.life}.journal"
        return read_journal(path, process.name, process.died)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
