"""Measure the processor time of idle nodes: real processes on one machine that found each other by local://.

python -m bench.idle [--json] [--nodes N] [--seconds S] [--registry URL]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.common import Worker, spread, worker

BAR_PERCENT = 0.2  # of one core, for each of NODES
NODES = 24
SETTLE = 3.0  # seconds for hellos and tables after the last node has joined


def serve(registry: str) -> None:
    """Run one node in this process until its standard input ends."""
    from kamacache import Node  # noqa: PLC0415 - the process that measures needs none

    with Node(registry=registry, service="idle") as node:
        node.group("g", lambda key: key)
        for line in sys.stdin:
            members = len(node.members())
            names = {str(one.native_id): one.name for one in threading.enumerate()}
            print(json.dumps(members if line == "members\n" else names), flush=True)


def used(pid: int) -> dict[str, float]:
    """Return the seconds of processor time that each thread of a process has used so far, by its number."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {task.name: float((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def measure(nodes: int, seconds: float, registry: str) -> dict[str, Any]:
    with contextlib.ExitStack() as running:
        workers = [running.enter_context(worker("bench.idle", "--serve", registry)) for _ in range(nodes)]
        wait_for_all(workers, nodes)
        time.sleep(SETTLE)
        before = [used(one.pid) for one in workers]
        begun = time.monotonic()
        time.sleep(seconds)
        after = [used(one.pid) for one in workers]
        elapsed = time.monotonic() - begun
        names = [answer(one, "threads") for one in workers]
    threads: dict[str, float] = {}
    percent = []
    for first, last, named in zip(before, after, names, strict=True):
        percent.append(100 * (sum(last.values()) - sum(first.values())) / elapsed)
        for number, spent in last.items():
            name = named.get(number, "kamacache-wire")  # the one thread that is not Python's
            threads[name] = threads.get(name, 0.0) + 100 * (spent - first.get(number, 0.0)) / elapsed / nodes
    return {
        "nodes": nodes,
        "percent": spread(percent, 3),
        "threads": {name: round(spent, 3) for name, spent in sorted(threads.items())},
    }


def wait_for_all(workers: list[Worker], nodes: int) -> None:
    end = time.monotonic() + 60
    for one in workers:
        while answer(one, "members") < nodes:
            if time.monotonic() > end:
                raise SystemExit("the nodes do not find each other")
            time.sleep(0.1)


def answer(one: Worker, question: str) -> Any:
    one.send(question)
    return one.answer()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--registry", help="default: local:// in a directory of its own")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    with tempfile.TemporaryDirectory() as directory:
        result = measure(options.nodes, options.seconds, options.registry or f"local://{directory}")
    if options.json:
        print(json.dumps(result))
        return
    print(f"{result['nodes']} idle nodes, percent of one core for each: {result['percent']}")
    for name, percent in result["threads"].items():
        print(f"  {name:20} {percent}")


if __name__ == "__main__":
    main()
