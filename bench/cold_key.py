"""Measure how often a new key is loaded that all callers request at once, and how long they wait.

    python -m bench.cold_key [--rounds 10] [--callers 200] [--nodes 3] [--json]

Real processes find each other on this machine (local://). In each, tasks or threads request the same new key at the
same time. An interpreter takes tens of milliseconds to wake hundreds of threads, which the figures of threads include.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time

import kamacache
from bench.common import wait_until, worker

LOAD_SECONDS = 0.2
BAR_SECONDS = 0.25
KINDS = ("tasks", "threads")


def run_node(folder: str, nodes: int, callers: int) -> None:
    """Run one process: for each line "kind key moment" all its callers request the key at that moment."""
    loads = [0]

    def load(key: str) -> bytes:
        loads[0] += 1
        time.sleep(LOAD_SECONDS)
        return key.encode()

    with kamacache.Node(registry=f"local://{folder}") as node:
        users = node.group("users", load)
        wait_until(
            lambda: len(node.members()) == nodes and all("users" in m.groups for m in node.members()),
            "the nodes do not find each other",
        )
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            kind, key, moment = line.split()
            loads[0] = 0
            if kind == "tasks":
                waits = asyncio.run(ask_in_tasks(users, key, float(moment), callers))
            else:
                waits = ask_at(users, key, float(moment), callers)
            print(json.dumps({"loads": loads[0], "waits": waits}), flush=True)


def ask_at(users: kamacache.Group[bytes], key: str, moment: float, callers: int) -> list[float]:
    waits: list[float] = []
    gate = threading.Event()

    def ask() -> None:
        gate.wait()
        begun = time.monotonic()
        if users.get(key) != key.encode():
            raise SystemExit("a wrong value")
        waits.append(time.monotonic() - begun)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, moment - time.monotonic()))
    gate.set()
    for thread in threads:
        thread.join()
    return waits


async def ask_in_tasks(users: kamacache.Group[bytes], key: str, moment: float, callers: int) -> list[float]:
    gate = asyncio.Event()

    async def ask() -> float:
        await gate.wait()
        begun = time.monotonic()
        if await users.aget(key) != key.encode():
            raise SystemExit("a wrong value")
        return time.monotonic() - begun

    tasks = [asyncio.create_task(ask()) for _ in range(callers)]
    await asyncio.sleep(max(0.0, moment - time.monotonic()))
    gate.set()
    return await asyncio.gather(*tasks)


def measure(rounds: int, nodes: int, callers: int) -> list[dict[str, float | str]]:
    rows: list[dict[str, float | str]] = []
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        arguments = ("--node", folder, "--nodes", str(nodes), "--callers", str(callers))
        workers = [stack.enter_context(worker("bench.cold_key", *arguments)) for _ in range(nodes)]
        for each in workers:
            each.answer()
        for number in range(2 * rounds):
            kind = KINDS[number % 2]
            moment = time.monotonic() + 0.5  # the same clock in all processes of a machine
            for each in workers:
                each.send(f"{kind} cold-{number} {moment}")
            answers = [each.answer() for each in workers]
            waits = [wait for answer in answers for wait in answer["waits"]]
            rows.append(
                {
                    "callers are": kind,
                    "loads": sum(answer["loads"] for answer in answers),
                    "callers": len(waits),
                    "median_ms": round(statistics.median(waits) * 1000, 1),
                    "longest_ms": round(max(waits) * 1000, 1),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--node", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        run_node(options.node, options.nodes, options.callers)
        return
    rows = measure(options.rounds, options.nodes, options.callers)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{options.nodes} nodes, {options.callers} callers each, a loader of {LOAD_SECONDS * 1000:.0f} ms")
    print("callers are  loads  median ms  longest ms")
    for row in sorted(rows, key=lambda row: str(row["callers are"])):
        print(f"{row['callers are']:11} {row['loads']:6} {row['median_ms']:10} {row['longest_ms']:11}")


if __name__ == "__main__":
    main()
