"""Run the demonstration: meet, share, load, kill, restart, count; with etcd, which fails twice meanwhile."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tools.demo import checks, database
from tools.demo.cluster import NAMES, PATIENCE, SERVICE, Cluster, DemoError, Process
from tools.demo.etcd import Etcd
from tools.demo.evidence import Load, Versions, Write, read_journal
from tools.demo.report import Report
from tools.demo.result import Numbers, Result
from tools.demo.views import Window, any_meets, disagreements, merged

from kamacache.registry.etcd import EtcdRegistry

_KILL, _RESTART = 0.4, 0.6  # of the time under load
_ETCD_GONE, _KILL_MEANWHILE, _ETCD_BACK, _RESTART_WITH_ETCD, _ETCD_EMPTIED = 0.1, 0.25, 0.4, 0.55, 0.75
_TICK = 0.05  # seconds
_READ_AGAIN = 1.5  # seconds within which every node has read the registry's list once more


class Scenario:
    """One run in a directory of its own."""

    def __init__(self, directory: Path, rows: int, seconds: float, report: Report, etcd: Etcd | None = None) -> None:
        self._etcd = etcd
        self._directory = directory
        self._rows = rows
        self._seconds = seconds
        self._report = report
        registry = f"local://{directory}/nodes" if etcd is None else etcd.url
        self._cluster = Cluster(directory, rows, registry)
        self._windows: list[Window] = []
        self._lost: array[int] = array("I")
        self._killed = Window(0.0, 0.0)
        self._began = self._ended = 0.0
        self._checks: list[checks.Check] = []
        self._outages: list[checks.Outage] = []

    def run(self) -> Result:
        try:
            self._prepare()
            if self._etcd is not None:
                self._start(self._etcd)
            self._meet()
            self._share()
            self._load()
        finally:
            self._cluster.close()
            if self._etcd is not None:
                self._etcd.kill()
        return self._result()

    def _prepare(self) -> None:
        began = time.monotonic()
        path = self._directory / "users.db"
        database.create(path, self._rows)
        Versions(self._directory / "versions", self._rows)
        size = path.stat().st_size / 2**20
        self._report.say("database", f"{self._rows:,} users in SQLite, {size:.1f} MiB, made in {_since(began)}")

    def _start(self, etcd: Etcd) -> None:
        began = time.monotonic()
        etcd.start()
        self._report.say("etcd", f"pid {etcd.pid}, started in {_since(began)}, at {etcd.url}")

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
        if self._etcd is None:
            self._until(_KILL)
            victim = self._kill()
            self._until(_RESTART)
            self._restart(victim)
        else:
            self._with(self._etcd)
        self._until(1.0)
        self._ended = time.monotonic()
        cluster.all_do("stop")
        report.end_progress()

    def _kill(self) -> Process:
        cluster = self._cluster
        victim, *others = cluster.alive
        path = self._directory / "lost"
        owned = others[0].ask("owned_by", address=victim.address, path=str(path))
        self._lost.frombytes(path.read_bytes())
        killed = time.monotonic()
        cluster.kill(victim)
        self._killed = Window(killed, victim.died or killed)
        self._event(f"kill -9 {victim.name} (pid {victim.pid}), the owner of {owned:,} keys")
        agreed = cluster.settle(self._tick)
        self._windows.append(Window(killed, agreed))
        self._event(f"{_names(others)} agree that it is gone, after {agreed - killed:.2f} s")
        return victim

    def _restart(self, victim: Process) -> None:
        cluster = self._cluster
        started = time.monotonic()
        again = cluster.start(victim.name)
        self._event(f"{again.name} is started again (pid {again.pid})")
        agreed = cluster.settle(self._tick)
        again.ask("load")
        self._windows.append(Window(started, agreed))
        self._event(f"all three agree that it is back, after {agreed - started:.2f} s")

    def _with(self, etcd: Etcd) -> None:
        """Kill a node while etcd is down, and later bring etcd back without its data."""
        self._until(_ETCD_GONE)
        gone = self._kill_etcd(etcd)
        self._until(_KILL_MEANWHILE)
        victim = self._kill()
        self._until(_ETCD_BACK)
        self._bring_back(etcd, gone, emptied=False)
        self._until(_RESTART_WITH_ETCD)
        self._restart(victim)
        self._until(_ETCD_EMPTIED)
        gone = self._kill_etcd(etcd)
        etcd.wipe()
        self._bring_back(etcd, gone, emptied=True)

    def _kill_etcd(self, etcd: Etcd) -> float:
        pid = etcd.pid
        etcd.kill()
        gone = time.monotonic()
        self._event(f"kill -9 etcd (pid {pid})")
        return gone

    def _bring_back(self, etcd: Etcd, gone: float, *, emptied: bool) -> None:
        started = time.monotonic()
        etcd.start()
        back = time.monotonic()
        self._event(
            f"etcd is back after {back - gone:.1f} s (pid {etcd.pid})" + (", all its data lost" if emptied else "")
        )
        registered = self._await_registered(etcd)
        names = _names(self._cluster.alive)
        self._outages.append(checks.Outage(gone, back, registered, names, emptied))
        self._event(f"{names} are registered again, {registered - back:.1f} s after")
        if emptied:  # for a moment some were registered and others not
            while time.monotonic() < registered + _READ_AGAIN:
                self._pause()
            self._windows.append(Window(started, self._cluster.settle(self._tick)))

    def _await_registered(self, etcd: Etcd) -> float:
        """Wait until etcd lists all living nodes and they know that their leases live; return the time."""
        until = time.monotonic() + PATIENCE
        with closing(EtcdRegistry(etcd.url)) as observer:
            while not self._registered(observer):
                if time.monotonic() > until:
                    raise DemoError(f"not every node was registered again within {PATIENCE:g} s")
                self._pause()
        return time.monotonic()

    def _registered(self, observer: EtcdRegistry) -> bool:
        try:
            listed = {member.address for member in observer.members(SERVICE)}
        except ConnectionError:
            return False
        return all(process.registered and process.address in listed for process in self._cluster.alive)

    def _event(self, words: str) -> None:
        self._report.event(time.monotonic() - self._began, words)

    def _until(self, share: float) -> None:
        while time.monotonic() - self._began < self._seconds * share:
            self._pause()

    def _pause(self) -> None:
        self._cluster.check()
        if self._etcd is not None:
            self._etcd.check()
        self._tick()
        time.sleep(_TICK)

    def _tick(self) -> None:
        processes = self._cluster.processes
        total = Numbers()
        for process in processes:
            if process.counters:
                total.add(process.counters)
        alive = " ".join(name if any(p.name == name for p in self._cluster.alive) else "-" for name in NAMES)
        if self._etcd is not None:
            alive += " etcd" if self._etcd.pid is not None else " -   "
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
        windows = self._windows + self._differing()
        facts = checks.Facts(
            loads, writes, self._lost, self._killed, windows, total.reads, total.stale, total.errors, words[:5]
        )
        found = self._checks + checks.check(facts)
        if self._etcd is not None:
            found += checks.check_outages(self._outages, loads, writes, EtcdRegistry.lease + checks.BACK)
        registry = "local" if self._etcd is None else "etcd"
        return Result(registry, nodes, total, found, len(self._lost), time.monotonic() - self._began)

    def _differing(self) -> list[Window]:
        """Return all times in which the nodes may not have agreed, and report those without a known reason."""
        processes = self._cluster.processes
        found = disagreements([(process.died or self._ended, process.views) for process in processes])
        found += [Window(*times) for process in processes for times in process.unsure]
        for window in merged(found):
            known = any_meets(self._windows, window.begin, window.end)
            if not known and self._began < window.begin < self._ended:
                took = (window.end - window.begin) * 1e3
                words = f"for {took:.0f} ms the nodes may not have agreed on the members"
                self._report.event(window.begin - self._began, words)
        return found

    def _journal(self, process: Process) -> tuple[list[Load], list[Write]]:
        assert process.died is not None  # noqa: S101 - the cluster is closed
        if not process.counters:
            raise DemoError(f"node {process.name} reported nothing")
        path = self._directory / f"{process.life}.journal"
        return read_journal(path, process.name, process.died)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"


def _names(processes: Sequence[Process]) -> str:
    *most, last = sorted(process.name for process in processes)
    return f"{', '.join(most)} and {last}"
