"""Five processes, a real etcd, and a fault every few seconds: the same judge reads what all of them wrote down.

python -m tests.proof.soak --minutes 30 [--seed 1]
"""

# ruff: noqa: T201 - it is a program

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.etcd.server import Etcd, free_port
from tests.proof.history import Call, Fault, History, Load, Options
from tests.proof.judge import judge
from tests.proof.proxy import Proxies, Proxy
from tests.proof.soaked import TTL

READS = ("get", "get_many", "get_or_load", "peek")
AWAKE = 0.1  # seconds for which a process that stood still may answer from memory: README
ROOT = Path(__file__).parents[2]


class Process:
    """One process of the soak, its proxy and the file that it writes."""

    def __init__(self, name: str, soak: Soak, *, client: bool = False) -> None:
        self.name = name
        self.port = free_port()
        self.proxy: Proxy = soak.proxies.make(self.port)
        self.log = soak.folder / f"{name}.jsonl"
        options = {
            "name": name,
            "log": str(self.log),
            "listen": f"127.0.0.1:{self.port}",
            "advertise": f"127.0.0.1:{self.proxy.port}",
            "registry": soak.etcd.url,
            "threads": soak.args.threads,
            "pause": soak.args.pause,
            "client": client,
        }
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.proof.soaked", json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=(soak.folder / f"{name}.err").open("w"),
        )

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.popen.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait(10)
        self.proxy.close()


class Soak:
    """The processes, the faults under way, and what is to be done when."""

    def __init__(self, args: argparse.Namespace, folder: Path, etcd: Etcd) -> None:
        self.args = args
        self.folder = folder
        self.etcd = etcd
        self.proxies = Proxies()
        self.random = random.Random(args.seed)
        self.history = History(groups={"g": Options(ttl=TTL)})
        self.history.faults.append(Fault("soak", (), 0.0))  # no time is calm
        self.processes: list[Process] = []
        self.faults: Counter[str] = Counter()
        self._names = 0
        self._busy: set[str] = set()
        self._todo: list[tuple[float, Callable[[], None]]] = []
        self._read: dict[Path, int] = {}
        self._begun: dict[tuple[str, int], Call] = {}
        self.longest = {"read": 0.0, "write": 0.0}
        self.late = 0
        self._slow: list[Call] = []  # reads of more than a second, to be shown
        self.ends: Counter[str] = Counter()
        self._stood: list[Fault] = []
        self._course: list[str] = []  # what was done to whom, and when

    def start(self) -> None:
        for place in range(5):
            self.add(client=place == 4)

    def add(self, *, client: bool = False) -> None:
        self._names += 1
        self.processes.append(Process(f"p{self._names}", self, client=client))

    # -- faults ------------------------------------------------------------------------------------------------------

    def fault(self) -> None:
        """Begin a fault, unless too many are under way."""
        kinds = [
            self.kill,
            self.stop,
            self.cut,
            self.slow,
            self.reset,
            self.etcd_killed,
            self.etcd_emptied,
            self.etcd_away,
        ]
        weights = [3, 4, 4, 3, 2, 2, 1, 2]
        if only := self.args.only:
            weights = [
                weight if kind.__name__ in only.split(",") else 0 for kind, weight in zip(kinds, weights, strict=True)
            ]
        kind = self.random.choices(kinds, weights)[0]
        process = self.random.choice(self.processes)
        if kind.__name__.startswith("etcd"):
            if "etcd" not in self._busy:
                self._begin(kind, process)
        elif len(self._busy - {"etcd"}) < 2 and process.name not in self._busy:
            self._begin(kind, process)

    def _begin(self, kind: Callable[[Process], None], process: Process) -> None:
        self.faults[kind.__name__] += 1
        self._course.append(f"{time.monotonic():.3f} {kind.__name__} {process.name} 127.0.0.1:{process.proxy.port}")
        kind(process)

    def during(self, name: str, seconds: float, end: Callable[[], None]) -> None:
        self._busy.add(name)

        def over() -> None:
            end()
            self._busy.discard(name)
            self._course.append(f"{time.monotonic():.3f} over: {name}")

        self._todo.append((time.monotonic() + seconds, over))

    def kill(self, process: Process) -> None:
        client = self.processes.index(process) == 4
        process.kill()
        place = self.processes.index(process)

        def again() -> None:
            self._names += 1
            self.processes[place] = Process(f"p{self._names}", self, client=client)

        self.during(process.name, self.random.uniform(0.5, 12.0), again)

    def stop(self, process: Process) -> None:
        seconds = self.random.choice([1.0, 2.0, 5.0, 12.0, self.random.uniform(1.0, 60.0)])
        fault = Fault("stood", (process.name,), time.monotonic())
        process.signal(signal.SIGSTOP)
        self.history.faults.append(fault)
        self._stood.append(fault)

        def go() -> None:
            process.signal(signal.SIGCONT)
            fault.end = time.monotonic() + AWAKE

        self.during(process.name, seconds, go)

    def cut(self, process: Process) -> None:
        ways = self.random.choice([["to"], ["back"], ["to", "back"]])
        for way in ways:
            process.proxy.cut(way, cut=True)
        reset = self.random.random() < 0.5  # else what the cut has held arrives when it ends

        def mend() -> None:
            if reset:
                process.proxy.reset()  # first
            for way in ways:
                process.proxy.cut(way, cut=False)

        self.during(process.name, self.random.choice([0.3, 1.0, 3.0, 10.0, 20.0]), mend)

    def slow(self, process: Process) -> None:
        way = self.random.choice(["to", "back"])
        process.proxy.delay[way] = self.random.choice([0.05, 0.2, 0.5, 1.5])
        self.during(process.name, self.random.uniform(1.0, 8.0), lambda: process.proxy.delay.update({way: 0.0}))

    def reset(self, process: Process) -> None:
        process.proxy.reset()

    def etcd_killed(self, _: Process) -> None:
        self.etcd.kill()
        self.during("etcd", self.random.uniform(1.0, 25.0), self.etcd.start)

    def etcd_away(self, _: Process) -> None:
        self.etcd.freeze()
        self.during("etcd", self.random.uniform(1.0, 25.0), self.etcd.thaw)

    def etcd_emptied(self, _: Process) -> None:
        self.etcd.empty()

    # -- what was written down ---------------------------------------------------------------------------------------

    def read(self) -> None:
        """Take in the lines that are new."""
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._read[path] = self._read.get(path, 0) + len(line)
                    self._take(path.stem, json.loads(line))

    def _take(self, name: str, line: dict[str, Any]) -> None:
        if "load" in line:
            begin = line["begin"]
            self.history.loads.append(Load(name, line["load"], begin, begin, line["value"], end=begin, ended=begin))
            return
        call = self._begun.pop((name, line["number"]), None)
        if call is None:
            call = Call(name, line["op"], tuple(line["keys"]), line["begin"], line["begin"], line["args"])
            self.history.calls.append(call)
        if "end" not in line:
            self._begun[name, line["number"]] = call
            return
        call.end = call.ended = line["end"]
        call.result, call.error = line.get("result"), line.get("error", "")
        took = call.end - call.begin
        if not any(
            fault.nodes == (name,) and fault.begin < call.end and fault.end > call.begin for fault in self._stood
        ):
            kind = "read" if call.op in READS else "write"
            self.longest[kind] = max(self.longest[kind], took)
            if took > 1.0 and kind == "read":
                self.late += 1
                self._slow.append(call)
        self.ends[
            call.error or ("False" if call.result is False and call.op in ("set", "delete", "clear") else "done")
        ] += 1
        if call.error:
            call.args["text"] = line.get("text", "")

    def judge(self) -> list[str]:
        """Judge what is known by now: calls under way may not have returned yet. Forget reads that were judged."""
        before = time.monotonic() - 1.0  # of what came later, some may be written down, and some not
        self.read()
        calls = [call for call in self.history.calls if call.op not in READS or call.end < before]
        later = [call for call in self.history.calls if call.op in READS and call.end >= before]
        self.history.calls = calls
        broken = [words for words in judge(self.history) if "has not returned" not in words]
        lost = [call for call in self.history.calls if call.error == "NoLoader"]  # some that can load are always there
        broken += [f"Promise 3: no errors for callers.\n  {call}" for call in lost]
        self.history.calls = later + [call for call in calls if call.op not in READS]
        return broken

    # -- the course --------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run to the end. Return the number of broken promises."""
        began = time.monotonic()
        until = began + self.args.minutes * 60
        next_fault, next_line = began + 8.0, began + 15.0
        broken = 0
        while (now := time.monotonic()) < until:
            time.sleep(0.05)
            for due in [each for each in self._todo if each[0] <= now]:
                self._todo.remove(due)
                due[1]()
            if now >= next_fault:
                self.fault()
                next_fault = now + self.random.uniform(1.0, 5.0)
            if now >= next_line:
                broken += self.say(now - began)
                next_line = now + 15.0
        for _, end in self._todo:
            end()
        self._todo.clear()
        time.sleep(3.0)
        broken += self.say(time.monotonic() - began)
        return broken

    def say(self, seconds: float) -> int:
        """Print a line of progress, and what was broken."""
        found = self.judge()
        for words in found:
            print(words, *self.about(words), sep="\n", flush=True)
        if self._slow:
            call = max(self._slow, key=lambda call: call.end - call.begin)
            print(
                f"{len(self._slow)} reads over 1 s, for example {call}",
                *self.lately(call.begin - 5, call.end),
                sep="\n",
            )
            self._slow.clear()
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        print(
            f"seed {self.args.seed} {seconds / 60:5.1f} min: {len(found)} broken; {ends}; "
            f"{self.late} reads over 1 s, longest {self.longest['read']:.2f} s, "
            f"longest write {self.longest['write']:.2f} s; faults {dict(self.faults)}",
            flush=True,
        )
        return len(found)

    def about(self, words: str) -> list[str]:
        """Return what the processes wrote down of the value in question."""
        value = re.search(r"answers '([^']+)'", words)
        if value is None:
            return []
        lines = []
        for path in sorted(self.folder.glob("*.jsonl")):
            with path.open() as file:
                lines += [f"  {path.stem}: {line.strip()}" for line in file if f'"{value[1]}"' in line]
        now = time.monotonic()
        return sorted(lines, key=lambda line: '"get' in line)[:12] + self.lately(now - 25.0, now)

    def lately(self, since: float, until: float) -> list[str]:
        """Return the faults of that time, and what the processes wrote to their logs then."""
        lines = [f"{line} (fault)" for line in self._course]
        for path in self.folder.glob("*.err"):
            lines += [f"{line} ({path.stem})" for line in path.read_text().splitlines() if line[:1].isdigit()]
        return [f"  {line}" for line in sorted(lines) if since < float(line.split()[0]) < until]

    def close(self) -> None:
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.kill()


@contextlib.contextmanager
def started(args: argparse.Namespace) -> Iterator[Soak]:
    """Start etcd and the processes, and end them."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, Etcd(Path(folder)) as etcd:
        soak = Soak(args, Path(folder), etcd)
        try:
            soak.start()
            yield soak
        finally:
            soak.close()


def main() -> int:
    """Soak for so many minutes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--pause", type=float, default=0.1)
    parser.add_argument("--only", help="the names of faults, with commas: kill,etcd_emptied")
    parser.add_argument("--folder")
    args = parser.parse_args()
    with started(args) as soak:
        broken = soak.run()
    print(f"seed {args.seed}: {broken} broken in {args.minutes:g} minutes")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
