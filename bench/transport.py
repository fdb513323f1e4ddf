"""Measure a hit in the memory of a peer, beside redis-py with hiredis and a real redis-server.

    python bench/transport.py [--rounds 7] [--number 4000] [--json]

Client and server are two processes pinned to one core, so that waking an idle core (20 to 40 us) does not drown what
is measured. Rounds of all contestants are interleaved; the output has the median of the p50 of all rounds, and the
quickest and the slowest round. The throughput of eight threads of one client process runs
unpinned.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kamacache._engine import Clock, Store, Transport

VALUE = b"x" * 100
KEYS = [f"key:{n:016}" for n in range(100)]
Ask = Callable[[], object]


def serve(addresses: list[str]) -> None:
    """Run the server process: print that it is ready, and end with the standard input."""
    store = Store(
        "bench",
        max_bytes=64 << 20,
        policy="s3fifo",
        clock=Clock(),
        near_ttl=5.0,
        remember=10.0,
        decode=None,
        shareable=False,
        keep_evicted=False,
    )
    for key in KEYS:
        store.put(key, VALUE, 1, None, Store.MAIN)
    store.put("big", b"x" * (1 << 20), 1, None, Store.MAIN)
    transport = Transport(max_message=8 << 20)
    transport.serve(store)
    for address in addresses:
        transport.listen(address)
    print("ready", flush=True)
    sys.stdin.read()
    transport.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def process(command: list[str], ready: Callable[[subprocess.Popen[bytes]], None]) -> Iterator[int]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            ready(running)
            yield running.pid
        finally:
            running.terminate()


def pin(pid: int, cores: set[int]) -> None:
    """Pin all threads of a process."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that ended meanwhile
            os.sched_setaffinity(int(task.name), cores)


def p50(ask: Ask, number: int) -> float:
    times = []
    for _ in range(number):
        begun = time.perf_counter_ns()
        ask()
        times.append(time.perf_counter_ns() - begun)
    return statistics.median(times) / 1000


def throughput(ask: Ask, threads: int, seconds: float) -> float:
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def run(n: int) -> None:
        while time.perf_counter() < end:
            for _ in range(20):
                ask()
            counts[n] += 20

    running = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    begun = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def kamacache_asks(client: Transport, address: str) -> dict[str, Ask]:
    return {
        "1": lambda: client.peek(address, "bench", KEYS[0], False, 1.0),
        "100 keys": lambda: client.peek_many([(address, KEYS)], "bench", False, 1.0),
        "1 MiB": lambda: client.peek(address, "bench", "big", False, 1.0),
    }


def redis_asks(**how: object) -> dict[str, Ask]:
    import redis  # noqa: PLC0415 - may be absent

    client = redis.Redis(**how)  # type: ignore[arg-type]
    client.set("big", b"x" * (1 << 20))
    for key in KEYS:
        client.set(key, VALUE)
    return {
        "1": lambda: client.get(KEYS[0]),
        "100 keys": lambda: client.mget(KEYS),
        "1 MiB": lambda: client.get("big"),
    }


def a_line(running: subprocess.Popen[bytes]) -> None:
    if running.stdout is None or not running.stdout.readline():
        raise SystemExit("the server does not start")


def redis_ready(path: str) -> Callable[[subprocess.Popen[bytes]], None]:
    def ready(_: subprocess.Popen[bytes]) -> None:
        for _attempt in range(500):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.connect(path)
                return
            time.sleep(0.01)
        raise SystemExit("redis-server does not start")

    return ready


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        tcp, unix = f"127.0.0.1:{free_port()}", f"unix:{folder}/node.sock"
        command = [sys.executable, __file__, "--serve", tcp, unix]
        pids = [stack.enter_context(process(command, a_line))]
        client = Transport(max_message=8 << 20)
        contestants = {("kamacache", way): kamacache_asks(client, at) for way, at in (("unix", unix), ("tcp", tcp))}
        redis_server = shutil.which("redis-server")
        if redis_server:
            port, path = free_port(), f"{folder}/redis.sock"
            arguments = ["--port", str(port), "--unixsocket", path, "--save", "", "--dir", folder]
            pids.append(stack.enter_context(process([redis_server, *arguments], redis_ready(path))))
            contestants["redis", "unix"] = redis_asks(unix_socket_path=path)
            contestants["redis", "tcp"] = redis_asks(port=port)
        results = measure(contestants, pids, options)
        client.close()
    results["redis-server"] = "present" if redis_server else "absent"
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, result in results.items():
        print(f"{name:34} {result}")


def measure(
    contestants: dict[tuple[str, str], dict[str, Ask]], pids: list[int], options: argparse.Namespace
) -> dict[str, object]:
    rounds: dict[str, list[float]] = {}
    everywhere = os.sched_getaffinity(0)
    for _ in range(options.rounds):
        core = {max(everywhere)}
        for pid in [os.getpid(), *pids]:
            pin(pid, core)
        for (name, way), asks in contestants.items():
            for what, ask in asks.items():
                number = options.number if what == "1" else max(options.number // 20, 50)
                rounds.setdefault(f"{name} {way} {what}, us", []).append(p50(ask, number))
        for pid in [os.getpid(), *pids]:
            pin(pid, everywhere)
        for (name, way), asks in contestants.items():
            rounds.setdefault(f"{name} {way} 8 threads, op/s", []).append(throughput(asks["1"], 8, options.seconds))
    results: dict[str, object] = {}
    median = {name: statistics.median(values) for name, values in rounds.items()}
    for name, values in rounds.items():
        results[name] = {"median": round(median[name], 1), "min": round(min(values), 1), "max": round(max(values), 1)}
    for way in ("unix", "tcp"):
        if ("redis", way) in contestants:
            for what in ("1, us", "100 keys, us", "1 MiB, us", "8 threads, op/s"):
                ratio = median[f"kamacache {way} {what}"] / median[f"redis {way} {what}"]
                results[f"kamacache / redis, {way} {what}"] = round(ratio, 2)
    return results


if __name__ == "__main__":
    main()
