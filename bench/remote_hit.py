"""Measure a hit in another process through Group.get, beside redis-py with hiredis and pymemcache on real servers.

    python -m bench.remote_hit [--rounds 7] [--number 3000] [--seconds 1] [--json]

For latency, all processes are pinned to one core, so that waking an idle core (20 to 40 us) does not drown what is
measured. Rounds of all contestants are interleaved; the output has the median, the quickest and the slowest round.
Near copies are off: every get goes to the other process. Eight threads are measured pinned and not pinned.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import kamacache
from bench.common import pin, server, spread, wait_until, worker

VALUE = b"x" * 100
KEYS = 100
THREADS = 8
Ask = Callable[[str], Any]


def load(_: str) -> bytes:
    return VALUE


def make_node(registry: str, listen: str | None) -> tuple[kamacache.Node, kamacache.Group[bytes]]:
    node = kamacache.Node(listen, registry=registry)
    group = node.group("bench", load, near_ttl=0)
    node.start()
    names = [f"key:{n}" for n in range(KEYS)]
    wait_until(
        lambda: len(node.members()) == 2 and any(node.owner("bench", name).address != node.address for name in names),
        "the nodes do not find each other",
    )
    return node, group


def run_nodes(folder: str, ours: str, theirs: str) -> None:
    """Run the server process: a node on a Unix socket and one on TCP."""
    print(json.dumps("started"), flush=True)
    nodes = [make_node(f"local://{folder}", None)[0], make_node(f"static://{ours},{theirs}", theirs)[0]]
    print(json.dumps("ready"), flush=True)
    sys.stdin.read()
    for node in nodes:
        node.close(drain=0)  # it would wait for the next process in the place of the one that has just ended


def remote_keys(node: kamacache.Node, group: kamacache.Group[bytes]) -> list[str]:
    """Return keys that the other process owns and holds."""
    names = [f"key:{n:016}" for n in range(20 * KEYS)]
    keys = [name for name in names if node.owner("bench", name).address != node.address][:KEYS]
    group.get_many(keys)
    return keys


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def p50(ask: Ask, keys: list[str], number: int) -> float:
    times = []
    for at in range(number):
        key = keys[at % len(keys)]
        begun = time.perf_counter_ns()
        ask(key)
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1000


def throughput(ask: Ask, keys: list[str], seconds: float) -> float:
    counts = [0] * THREADS
    end = time.perf_counter() + seconds

    def run(number: int) -> None:
        while time.perf_counter() < end:
            for key in keys[:20]:
                ask(key)
            counts[number] += 20

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


class Contestants:
    """The systems that are measured, as name: (function, keys), and their processes."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._folder = stack.enter_context(tempfile.TemporaryDirectory())
        self.asks: dict[str, tuple[Ask, list[str]]] = {}
        self.groups: list[kamacache.Group[bytes]] = []
        self.pids = [os.getpid()]
        self.absent: list[str] = []
        self._kamacache()
        for add, command, client in (
            (self._redis, "redis-server", "redis"),
            (self._memcached, "memcached", "pymemcache"),
        ):
            path = shutil.which(command)
            if path is None or importlib.util.find_spec(client) is None:
                self.absent.append(command if path is None else client)
            else:
                add(path)

    def _kamacache(self) -> None:
        ours, theirs = (f"127.0.0.1:{free_port()}" for _ in range(2))
        other = self._stack.enter_context(worker("bench.remote_hit", "--nodes", self._folder, ours, theirs))
        other.answer()
        ways = (("unix", f"local://{self._folder}", None), ("tcp", f"static://{ours},{theirs}", ours))
        for way, registry, listen in ways:
            node, group = make_node(registry, listen)
            self._stack.callback(node.close)
            self.groups.append(group)
            self.asks[f"kamacache {way}"] = group.get, remote_keys(node, group)
        other.answer()
        self.pids.append(other.pid)

    def _redis(self, path: str) -> None:
        redis = importlib.import_module("redis")
        port, unix = free_port(), f"{self._folder}/redis.sock"
        clients = {"unix": redis.Redis(unix_socket_path=unix), "tcp": redis.Redis(port=port)}
        command = [path, "--port", str(port), "--unixsocket", unix, "--save", "", "--dir", self._folder]
        self.pids.append(self._stack.enter_context(server(command, clients["tcp"].ping)))
        keys = [f"key:{n:016}" for n in range(KEYS)]
        for key in keys:
            clients["tcp"].set(key, VALUE)
        for way, client in clients.items():
            self.asks[f"redis {way}"] = client.get, keys

    def _memcached(self, path: str) -> None:
        port = free_port()
        client = importlib.import_module("pymemcache").PooledClient(("127.0.0.1", port), no_delay=True)
        command = [path, "-p", str(port), "-l", "127.0.0.1", "-U", "0", *(["-u", "root"] if os.getuid() == 0 else [])]
        self.pids.append(self._stack.enter_context(server(command, client.version)))
        keys = [f"key:{n:016}" for n in range(KEYS)]
        for key in keys:
            client.set(key, VALUE)
        self.asks["memcached tcp"] = client.get, keys


def measure(rounds: int, number: int, seconds: float) -> dict[str, Any]:
    found: dict[str, dict[str, list[float]]] = {"p50_us": {}, "pinned_ops": {}, "free_ops": {}}
    everywhere = os.sched_getaffinity(0)
    with contextlib.ExitStack() as stack:
        all_of_them = Contestants(stack)
        for _ in range(rounds):
            pin(all_of_them.pids, {max(everywhere)})
            for name, (ask, keys) in all_of_them.asks.items():
                found["p50_us"].setdefault(name, []).append(p50(ask, keys, number))
            for name, (ask, keys) in all_of_them.asks.items():
                found["pinned_ops"].setdefault(name, []).append(throughput(ask, keys, seconds))
            pin(all_of_them.pids, everywhere)
            for name, (ask, keys) in all_of_them.asks.items():
                found["free_ops"].setdefault(name, []).append(throughput(ask, keys, seconds))
        for group in all_of_them.groups:
            stats = group.stats()
            if stats.peer_hits < 0.999 * (stats.gets - KEYS):  # the first get of each was a load
                raise SystemExit(f"not every get was a hit in the other process: {stats}")
    result: dict[str, Any] = {
        what: {name: spread(values) for name, values in rows.items()} for what, rows in found.items()
    }
    result["absent"] = all_of_them.absent
    if "redis-server" not in result["absent"]:
        result["kamacache / redis"] = {
            f"{what} {way}": round(rows[f"kamacache {way}"]["median"] / rows[f"redis {way}"]["median"], 2)
            for what, rows in result.items()
            if what in found
            for way in ("unix", "tcp")
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=3000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nodes:
        run_nodes(*options.nodes)
        return
    result = measure(options.rounds, options.number, options.seconds)
    if options.json:
        print(json.dumps(result))
        return
    titles = {
        "p50_us": "p50, us, one core",
        "pinned_ops": "8 threads, one core, gets/s",
        "free_ops": "8 threads, gets/s",
    }
    for what, title in titles.items():
        print(f"\n{title:30} median       min       max")
        for name, row in result[what].items():
            print(f"{name:27} {row['median']:9} {row['min']:9} {row['max']:9}")
    for name in result["absent"]:
        print(f"{name}: absent")
    for name, ratio in result.get("kamacache / redis", {}).items():
        print(f"kamacache / redis, {name}: {ratio}")


if __name__ == "__main__":
    main()
