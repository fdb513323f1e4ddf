"""Run one process of the demonstration, which embeds a node and obeys its parent.

Orders come on standard input, one JSON object a line. Facts go to standard output in the same way: answers, the
members as this node sees them whenever they change, and its counters several times a second.
"""

from __future__ import annotations

import itertools
import json
import logging
import signal
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from tools.demo.cluster import SERVICE
from tools.demo.database import Database
from tools.demo.evidence import LOAD, LOADED, Journal, Versions
from tools.demo.latency import merged
from tools.demo.workload import Workload

from kamacache import Node
from kamacache.registry import parse
from kamacache.registry.etcd import EtcdRegistry

_WATCH = 0.02  # seconds between two looks at the members
_REPORT = 0.2  # seconds between two reports of the counters
_SAMPLES = [f"sample {number}" for number in range(256)]


class Doubts(logging.StreamHandler[TextIO]):
    """Write the log of the node to standard error, and count and report how often it considered another dead."""

    def __init__(self, tell: Callable[[], None]) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        self.count = 0
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        if "is considered dead" in record.getMessage():
            self._tell()  # first: a view is reported with the count, and the parent must know what was counted
            self.count += 1


class Worker:
    """The node, its groups, and the orders of the parent."""

    def __init__(self, name: str, directory: Path, rows: int, registry: str, share: tuple[int, int]) -> None:
        self._name = name
        self._out = threading.Lock()
        self._rows = rows
        self._database = Database(directory / "users.db")
        self._journal = Journal(directory / f"{name}.journal")
        self._numbers = itertools.count(1)
        self._doubts = Doubts(lambda: self._say(fact="doubt"))
        log = logging.getLogger("kamacache")
        log.addHandler(self._doubts)
        log.setLevel(logging.INFO)
        self._registry = parse(registry)
        self._node = Node(registry=self._registry, service=SERVICE)
        # Nothing expires and nothing is evicted, so that every load has a known reason.
        self._users = self._node.group("users", self._load, ttl=None, max_bytes="1 GiB")
        self._greetings = self._node.group("greetings", codec="text", ttl=None)
        self._work = Workload(self._users, self._database, Versions(directory / "versions", rows), self._journal, share)
        self._ended = threading.Event()

    def _load(self, key: str) -> bytes | None:
        number, load = int(key), next(self._numbers)
        self._journal.note(LOAD, number, load)
        user = self._database.select(number)
        self._journal.note(LOADED, number, load)
        return user

    def run(self) -> None:
        self._node.start()
        self._say(fact="started", address=self._node.address)
        threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._report)]
        for thread in threads:
            thread.start()
        for line in sys.stdin:  # ends with the parent, in whatever way
            order = json.loads(line)
            answer = getattr(self, "do_" + order.pop("do"))(**order)
            self._say(fact="done", answer=answer)
        self._ended.set()
        self._node.close(drain=0)  # all end now, and none is to hand over to another

    def do_greet(self) -> bool:
        """Set the key of this node."""
        return bool(self._greetings.set(self._name, f"hello from {self._name}"))

    def do_greeting(self, name: str) -> str | None:
        """Read the key of another node."""
        return self._greetings.get(name)

    def do_load(self) -> None:
        """Start to read and write."""
        self._work.start()

    def do_stop(self) -> None:
        """Stop reading and writing, and report the counts."""
        self._work.stop()
        self._count()

    def do_owned_by(self, address: str, path: str) -> int:
        """Record the keys that a member owns, and return their number."""
        owner = self._node.owner
        owned = array("I", (n for n in range(self._rows) if owner("users", str(n)).address == address))
        Path(path).write_bytes(owned.tobytes())
        return len(owned)

    def _watch(self) -> None:
        """Report the members, and a checksum of all owners: views agree if both are equal everywhere."""
        last, since = None, time.monotonic()
        while not self._ended.wait(_WATCH):
            doubts, begin = self._doubts.count, time.monotonic()
            members = sorted(str(member) for member in self._node.members())
            owners = ",".join(str(self._node.owner("users", key)) for key in _SAMPLES)
            registered = not isinstance(self._registry, EtcdRegistry) or self._registry.registered
            view = members, zlib.crc32(owners.encode()), registered, doubts
            if view != last:
                last = view
                names = ("members", "owners", "registered", "doubts")
                self._say(fact="view", since=since, **dict(zip(names, view, strict=True)))
            since = begin

    def _report(self) -> None:
        while not self._ended.wait(_REPORT):
            self._count()

    def _count(self) -> None:
        tallies = self._work.tallies
        self._say(
            fact="counters",
            stats=self._users.stats().as_dict(),
            latency=merged([dict(tally.latency) for tally in tallies]),
            slowest=max(tally.slowest for tally in tallies) / 1e9,
            words=[words for tally in tallies for words in tally.words],
            **{
                name: sum(getattr(tally, name) for tally in tallies)
                for name in ("reads", "stale", "errors", "confirmed", "unconfirmed")
            },
        )

    def _say(self, **fact: Any) -> None:
        line = json.dumps({**fact, "at": time.monotonic()})
        with self._out:
            print(line, flush=True)  # noqa: T201 - the parent reads it


def main() -> None:
    """Run as a child, with a name, the directory, the rows, the registry and its share of the writes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and then closes our standard input
    name, directory, rows, registry, which, of = sys.argv[1:]
    Worker(name, Path(directory), int(rows), registry, (int(which), int(of))).run()


if __name__ == "__main__":
    main()
