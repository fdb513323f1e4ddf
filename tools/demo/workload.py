"""Put load on the cache, as one process: pages that read users by Zipf's law, and a writer.

A read is stale if its value is older than a write that was confirmed, on any node, before the read began.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from itertools import accumulate

from tools.demo.database import Database, version_of
from tools.demo.evidence import CONFIRMED, DELETE, SET, UNCONFIRMED, Journal, Versions
from tools.demo.latency import bucket

from kamacache import Group

READERS = 2  # threads
_SKEW = 0.99  # of Zipf's law, as in YCSB
_PAGE = 20  # users read for one page
_PAUSE = 0.002  # seconds from one page to the next
_WRITE_PAUSE = 0.01  # seconds from one write to the next
_MOST = 5  # errors described in words


class Zipf:
    """Row numbers by popularity, spread over the table."""

    def __init__(self, rows: int, rng: random.Random) -> None:
        self._rng = rng
        self._weights = list(accumulate(1 / rank**_SKEW for rank in range(1, rows + 1)))
        self._numbers = list(range(rows))
        random.Random(rows).shuffle(self._numbers)  # noqa: S311 - the same for all processes

    def draw(self, count: int) -> list[int]:
        return self._rng.choices(self._numbers, cum_weights=self._weights, k=count)


class Tally:
    """The counts of one thread. Only that thread writes to them."""

    def __init__(self) -> None:
        self.reads = 0
        self.stale = 0
        self.slowest = 0
        self.latency: Counter[int] = Counter()
        self.confirmed = 0
        self.unconfirmed = 0
        self.errors = 0
        self.words: list[str] = []

    def error(self, words: str) -> None:
        self.errors += 1
        if len(self.words) < _MOST:
            self.words.append(words)


class Workload:
    """The threads of one process: readers, and one writer that alone writes its share of the keys."""

    def __init__(
        self, users: Group[bytes], database: Database, versions: Versions, journal: Journal, share: tuple[int, int]
    ) -> None:
        self._users = users
        self._database = database
        self._confirmed = versions.confirmed
        self._journal = journal
        self._share = share  # (which, of how many): two writers of one row could set in one order and update in another
        self._stop = threading.Event()
        self.tallies = [Tally() for _ in range(READERS + 1)]
        rows = len(self._confirmed)
        self._keys = [str(number) for number in range(rows)]
        self._threads = [
            threading.Thread(target=work, args=(tally, Zipf(rows, random.Random())), daemon=True)  # noqa: S311
            for work, tally in zip([self._read] * READERS + [self._write], self.tallies, strict=True)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self, tally: Tally, zipf: Zipf) -> None:
        keys, confirmed, clock = self._keys, self._confirmed, time.perf_counter_ns
        while not self._stop.wait(_PAUSE):
            for number in zipf.draw(_PAGE):
                least = confirmed[number]
                begin = clock()
                try:
                    user = self._users.get(keys[number])
                except Exception as error:  # noqa: BLE001 - each one breaks a promise, and is shown
                    tally.error(f"get {number}: {type(error).__name__}: {error}")
                    continue
                took = clock() - begin
                tally.reads += 1
                tally.latency[bucket(took)] += 1
                tally.slowest = max(tally.slowest, took)
                if user is None:
                    tally.error(f"get {number}: None, but the row exists")
                elif (version := version_of(user)) < least:
                    tally.stale += 1
                    if len(tally.words) < _MOST:
                        tally.words.append(f"get {number}: version {version} after {least} was confirmed")

    def _write(self, tally: Tally, zipf: Zipf) -> None:
        which, of = self._share
        count = 0
        while not self._stop.wait(_WRITE_PAUSE):
            number = next((number for number in zipf.draw(50) if number % of == which), which)
            count += 1
            try:
                self._change(number, count, tally)
            except Exception as error:  # noqa: BLE001 - as above
                tally.error(f"write {number}: {type(error).__name__}: {error}")

    def _change(self, number: int, count: int, tally: Tally) -> None:
        """Change the row, then write to the cache: delete and set take turns."""
        version = self._database.update(number)
        if count % 2:
            self._journal.note(DELETE, number, count)
            done = self._users.delete(str(number))
        else:
            user = self._database.select(number) or b""
            self._journal.note(SET, number, count)
            done = self._users.set(str(number), user)
        self._journal.note(CONFIRMED if done else UNCONFIRMED, number, count)
        if done:
            self._confirmed[number] = version
            tally.confirmed += 1
        else:
            tally.unconfirmed += 1
