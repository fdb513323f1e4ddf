"""Guarantees 1 and 2 under random schedules: three nodes whose messages take random times and overtake each other.

KAMACACHE_SOAK is the number of seconds in which one seed after the other is run; without it there are a few short runs.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from dataclasses import dataclass, field

import pytest

from kamacache import Group
from tests.cluster.cluster import Cluster, JitteryNetwork, Source, in_thread

SOAK = float(os.environ.get("KAMACACHE_SOAK", "0"))
KEYS = [f"key{number}" for number in range(4)]
OPERATIONS = 60 if SOAK else 30  # of each thread
READERS = 2  # threads for each node
DELAY = 0.02  # seconds that a message takes at most


class SlowSource(Source):
    """A source whose loads take a random time after they have read the value."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)

    def load(self, key: str) -> bytes | None:
        value = super().load(key)
        time.sleep(DELAY * self._random.random())
        return value


@dataclass
class History:
    """The known values of one key. A value is the number of the source's change that made it; newer is greater."""

    lock: threading.Lock = field(default_factory=threading.Lock)  # held by the writer
    confirmed: int = 0  # no read that begins now may bring less


class Checker:
    """Writers that change the source and the cluster, and readers that must never see less than was confirmed."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.seed = seed
        self.numbers = itertools.count(1)
        self.history = {key: History() for key in KEYS}
        self.wrong: list[str] = []
        self.confirmed = 0
        for key in KEYS:
            cluster.source.values[key] = b"0"

    def write(self, turn: int) -> None:
        chance = random.Random(self.seed * 1000 + turn)
        for _ in range(OPERATIONS // 3):
            group = chance.choice(self.cluster.groups)
            kind = chance.choice(["set", "delete", "delete", "delete", "clear", "batch", "behind"])
            keys = KEYS if kind == "clear" else sorted(chance.sample(KEYS, 3 if kind == "batch" else 1))
            histories = [self.history[key] for key in keys]
            for history in histories:
                history.lock.acquire()
            try:
                self._write(group, kind, keys, histories)
            finally:
                for history in histories:
                    history.lock.release()

    def _write(self, group: Group[bytes], kind: str, keys: list[str], histories: list[History]) -> None:
        number = next(self.numbers)
        value = str(number).encode()
        self.cluster.source.values.update(dict.fromkeys(keys, value))
        if kind == "clear":
            done = group.clear()
        elif kind == "batch":
            done = group.set_many(dict.fromkeys(keys, value))
        elif kind == "delete":
            done = group.delete(keys[0])
        elif kind == "behind":
            assert group.set(keys[0], value, wait=False) is None
            self.check(group, keys[0], number, group.get(keys[0]))  # this node reads its own write
            done = False
        else:
            done = group.set(keys[0], value)
        if done:
            self.confirmed += 1
            for history in histories:
                history.confirmed = number
            for reader in self.cluster.groups:  # at once, while loads from before may be under way
                self.check(reader, keys[0], number, reader.get(keys[0]))

    def read(self, turn: int) -> None:
        chance = random.Random(self.seed * 1000 + 500 + turn)
        group = self.cluster.groups[turn % len(self.cluster.groups)]
        for _ in range(OPERATIONS):
            key = chance.choice(KEYS)
            least = self.history[key].confirmed
            kind = chance.choice(["get", "get", "aget", "get_many", "peek"])
            if kind == "get":
                self.check(group, key, least, group.get(key))
            elif kind == "aget":
                self.check(group, key, least, asyncio.run(group.aget(key)))
            elif kind == "get_many":
                leasts = {key: self.history[key].confirmed for key in KEYS}
                found = group.get_many(KEYS)
                for key in KEYS:
                    self.check(group, key, leasts[key], found.get(key))
            elif (value := group.peek(key)) is not None:
                self.check(group, key, least, value)

    def check(self, group: Group[bytes], key: str, least: int, value: bytes | None) -> None:
        if value is None or int(value) < least:
            self.wrong.append(f"{key}: {value!r} after {least} was confirmed, at {self.cluster.groups.index(group)}")

    def run(self) -> None:
        work = [in_thread(self.write, turn) for turn in range(3)]
        work += [in_thread(self.read, turn) for turn in range(READERS * len(self.cluster.nodes))]
        for one in work:
            one.result(120)
        assert not self.wrong, f"seed {self.seed}: {self.wrong}"
        assert self.confirmed


def check_once_per_cold_key(cluster: Cluster, seed: int) -> None:
    """Ask every node for the same cold keys at once, in another order each."""
    cold = [f"cold{number}" for number in range(10)]

    def ask(turn: int) -> None:
        keys = random.Random(seed + turn).sample(cold, len(cold))
        group = cluster.groups[turn % len(cluster.groups)]
        if turn % 2:
            group.get_many(keys)
        else:
            for key in keys:
                group.get(key)

    for asked in [in_thread(ask, turn) for turn in range(12)]:
        asked.result(60)
    assert {key: cluster.source.loads[key] for key in cold} == dict.fromkeys(cold, 1), f"seed {seed}"


def run(seed: int) -> None:
    network, source = JitteryNetwork(seed, DELAY), SlowSource(seed)
    with Cluster(3, network=network, source=source, unix=(1000.0, 10.0, 50_000.0)) as cluster:
        check_once_per_cold_key(cluster, seed)
        Checker(cluster, seed).run()


def run_mixed(seed: int) -> None:
    """Do the same with a client node, and with a member that gets its loader, and so its keys, meanwhile."""
    network, source = JitteryNetwork(seed, DELAY), SlowSource(seed)
    with Cluster(2, network=network, source=source, unix=(1000.0, 50_000.0)) as cluster:
        cluster.add(client=True, unix=10.0)
        late = cluster.add(loader=False)
        cluster.settle()
        check_once_per_cold_key(cluster, seed)
        checker = Checker(cluster, seed)
        checking = in_thread(checker.run)
        time.sleep(random.Random(seed).random())  # at no certain moment
        cluster.load_at(late)
        checking.result(120)
        cluster.settle()
        assert cluster.key_of(late)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_schedules(seed: int) -> None:
    run(seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_schedules_of_members_that_differ(seed: int) -> None:
    run_mixed(seed)


@pytest.mark.skipif(not SOAK, reason="KAMACACHE_SOAK is not set")
def test_soak() -> None:
    until = time.monotonic() + SOAK
    for seed in itertools.count(int(time.time())):
        if time.monotonic() > until:
            return
        run(seed)
        run_mixed(seed)
