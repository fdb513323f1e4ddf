"""Measure writes, batches and tasks with two peers, beside redis-py with hiredis on a real server.

    python -m bench.writes [--rounds 7] [--number 1000] [--json]

All processes are pinned to one core and connected by Unix sockets. Rounds of all contestants are interleaved; the
output has the median, the quickest and the slowest round. Near copies are off. At last all cores
are used, and in every second round a thread of the peer that is asked computes in pure Python.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import kamacache
from bench.common import pin, server, spread, wait_until, worker

VALUE = b"x" * 100
BATCH = 100
MANY = 1_000
TASKS = (32, 256)
NODES = 3


def make_node(folder: str) -> tuple[kamacache.Node, kamacache.Group[bytes]]:
    node = kamacache.Node(registry=f"local://{folder}")
    group = node.group("bench", lambda _: VALUE, near_ttl=0)
    node.start()
    return node, group


def run_node(folder: str) -> None:
    """Run a server process. Each line that comes in begins or ends the work of a thread in pure Python."""
    node, _ = make_node(folder)
    print(json.dumps(node.address), flush=True)
    calm = threading.Event()
    for line in sys.stdin:
        if line.strip() == "busy":
            calm.clear()
            threading.Thread(target=work, args=(calm,), daemon=True).start()
        else:
            calm.set()
        print(json.dumps(line.strip()), flush=True)
    node.close()


def work(calm: threading.Event) -> None:
    while not calm.is_set():
        sum(range(1000))


def times(call: Callable[[], object], number: int) -> list[int]:
    """Return the nanoseconds of so many calls, in order of size."""
    found = []
    for _ in range(number):
        begun = time.perf_counter_ns()
        call()
        found.append(time.perf_counter_ns() - begun)
    return sorted(found)


def p50(call: Callable[[], object], number: int) -> float:
    """Return the median of so many calls, in microseconds."""
    return statistics.median(times(call, number)) / 1000


def p99(call: Callable[[], object], number: int) -> float:
    """Return the time that one of a hundred calls exceeds, in microseconds."""
    return times(call, number)[number * 99 // 100] / 1000


def in_tasks(get: Callable[[str], Awaitable[object]], keys: list[str], tasks: int, number: int) -> float:
    """Return how many gets a second so many tasks make together."""

    async def one(start: int) -> None:
        for at in range(start, start + number):
            await get(keys[at % len(keys)])

    async def all_of_them() -> float:
        await asyncio.gather(*(get(key) for key in keys))
        begun = time.perf_counter()
        await asyncio.gather(*(one(start) for start in range(tasks)))
        return tasks * number / (time.perf_counter() - begun)

    return asyncio.run(all_of_them())


class Contestants:
    """The calls that are measured, by name, and the processes that serve them."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        workers = [stack.enter_context(worker("bench.writes", "--node", folder)) for _ in range(NODES - 1)]
        self.owner = workers[0]
        self.pids = [os.getpid(), *(each.pid for each in workers)]
        other, *_ = [each.answer() for each in workers]
        node, group = make_node(folder)
        stack.callback(node.close)
        wait_until(lambda: len(node.members()) == NODES, "the nodes do not find each other")
        alone = kamacache.Node()
        stack.callback(alone.close)
        here = alone.group("bench", lambda _: VALUE)
        names = [f"key:{n:016}" for n in range(20 * BATCH)]
        # The list is read once a second: a write is confirmed once every node knows the others.
        wait_until(lambda: group.set_many(dict.fromkeys(names, VALUE)), "the writes are not confirmed")
        owners = [node.owner("bench", name).address for name in names]
        remote = [name for name, owner in zip(names, owners, strict=True) if owner == other][:BATCH]
        local = names[:BATCH]
        here.set_many(dict.fromkeys(local, VALUE))
        known = dict.fromkeys(local, VALUE)
        many = {f"many:{n:016}": VALUE for n in range(MANY)}
        turns = itertools.cycle(names[:BATCH])
        far = itertools.cycle(remote)
        self.calls: dict[str, tuple[Callable[[], object], int]] = {
            "set, alone": (lambda: here.set(next(turns), VALUE), 1),
            "delete, alone": (lambda: here.delete(next(turns)), 1),
            "get, remote": (lambda: group.get(next(far)), 1),
            "set": (lambda: group.set(next(turns), VALUE), 1),
            "delete": (lambda: group.delete(next(turns)), 1),
            "set_many": (lambda: group.set_many(many), 50),
            "dict comprehension": (lambda: {key: known[key] for key in local}, 1),
            "get_many, here": (lambda: here.get_many(local), 1),
            "get_many, one owner": (lambda: group.get_many(remote), 5),
        }
        self.gets: dict[str, tuple[Callable[[str], Awaitable[object]], list[str]]] = {"kamacache": (group.aget, remote)}
        self._before: dict[str, Callable[[], object]] = {
            "delete, alone": lambda: here.set_many(known),
            "get_many, here": lambda: here.set_many(known),
        }
        self._before["get, remote"] = self._before["get_many, one owner"] = lambda: group.get_many(remote)
        path = shutil.which("redis-server")
        self.absent = [name for name, found in (("redis-server", path), ("redis", _found("redis"))) if not found]
        if path is not None and not self.absent:
            self._redis(stack, path, folder, many, remote)

    def _redis(
        self, stack: contextlib.ExitStack, path: str, folder: str, many: dict[str, bytes], keys: list[str]
    ) -> None:
        redis, aredis = importlib.import_module("redis"), importlib.import_module("redis.asyncio")
        unix = f"{folder}/redis.sock"
        client = redis.Redis(unix_socket_path=unix)
        command = [path, "--port", "0", "--unixsocket", unix, "--save", "", "--dir", folder]
        self.pids.append(stack.enter_context(server(command, client.ping)))
        client.mset(dict.fromkeys(keys, VALUE))
        turns = itertools.cycle(keys)

        def pipeline() -> None:
            with client.pipeline(transaction=False) as commands:
                for key, value in many.items():
                    commands.set(key, value)
                commands.execute()

        clients: dict[object, Any] = {}

        async def get(key: str) -> object:
            loop = asyncio.get_running_loop()  # a client belongs to one
            if loop not in clients:
                clients[loop] = aredis.Redis(unix_socket_path=unix, max_connections=2 * max(TASKS))
            return await clients[loop].get(key)

        self.calls["redis SET"] = (lambda: client.set(next(turns), VALUE), 1)
        self.calls["redis pipeline"] = (pipeline, 50)
        self.calls["redis MGET"] = (lambda: client.mget(keys), 5)
        self.gets["redis"] = get, keys

    def prepare(self, name: str) -> None:
        self._before.get(name, lambda: None)()


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


RATIOS = {
    "set / get, remote": ("set", "get, remote"),
    "delete / get, remote": ("delete", "get, remote"),
    "set / redis SET": ("set", "redis SET"),
    "delete / redis SET": ("delete", "redis SET"),
    "set_many / redis pipeline": ("set_many", "redis pipeline"),
    "get_many, here / dict comprehension": ("get_many, here", "dict comprehension"),
    "get_many, one owner / redis MGET": ("get_many, one owner", "redis MGET"),
}


ALONE_US = 3.0
BARS = {
    "set / get, remote": 3.0,
    "delete / get, remote": 3.0,
    "set / redis SET": 1.0,
    "delete / redis SET": 1.0,
    "set_many / redis pipeline": 1.0,
    "get_many, here / dict comprehension": 1.3,
    "get_many, one owner / redis MGET": 0.6,
    "get, remote: p99 beside a busy thread / without": 1.3,
    "set: p99 beside a busy thread / without": 1.3,
    "32 tasks: gets/s / redis.asyncio": 15.0,
    "256 tasks: gets/s / redis.asyncio": 20.0,
}


def measure(rounds: int, number: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    tasks: dict[str, list[float]] = {}
    late: dict[str, list[float]] = {}
    everywhere = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        contestants = Contestants(stack)
        pin(contestants.pids, {max(everywhere)})
        for _ in range(rounds):
            for name, (call, share) in contestants.calls.items():
                contestants.prepare(name)
                found.setdefault(name, []).append(p50(call, max(5, number // share)))
            for count in TASKS:
                for name, (get, keys) in contestants.gets.items():
                    contestants.prepare("get, remote")
                    ops = in_tasks(get, keys, count, max(5, 10 * number // count))
                    tasks.setdefault(f"{name}, {count} tasks", []).append(ops)
        pin(contestants.pids, everywhere)
        if len(everywhere) > 1:  # so that the busy thread has a core of its own
            for _ in range(rounds):
                for state in ("calm", "busy"):
                    contestants.owner.send(state)
                    contestants.owner.answer()
                    for name in ("get, remote", "set"):
                        contestants.prepare("get, remote")
                        late.setdefault(f"{name}, {state}", []).append(p99(contestants.calls[name][0], 2 * number))
    result: dict[str, Any] = {
        "us": {name: spread(values) for name, values in found.items()},
        "p99_us": {name: spread(values) for name, values in late.items()},
        "ops": {name: spread(values) for name, values in tasks.items()},
        "absent": contestants.absent,
    }
    pairs = {name: pair for name, pair in RATIOS.items() if all(each in found for each in pair)}
    result["ratio"] = {name: _ratio(found[one], found[other]) for name, (one, other) in pairs.items()}
    for name in ("get, remote", "set") if late else ():
        ratio = _ratio(late[f"{name}, busy"], late[f"{name}, calm"])
        result["ratio"][f"{name}: p99 beside a busy thread / without"] = ratio
    for count in TASKS:
        if f"redis, {count} tasks" in tasks:
            ours, theirs = (tasks[f"{name}, {count} tasks"] for name in ("kamacache", "redis"))
            result["ratio"][f"{count} tasks: gets/s / redis.asyncio"] = _ratio(ours, theirs)
    return result


def _ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    return spread([one / other for one, other in zip(ours, theirs, strict=True)], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--node", metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node:
        run_node(arguments.node)
        return
    result = measure(arguments.rounds, arguments.number)
    if arguments.json:
        print(json.dumps(result))
        return
    for unit in ("us", "p99_us", "ops", "ratio"):
        for name, row in result[unit].items():
            print(f"{name:44} {row['median']:12,.2f} {unit}   ({row['min']:,.2f} to {row['max']:,.2f})")
    for name in result["absent"]:
        print(f"{name} is not installed")


if __name__ == "__main__":
    main()
