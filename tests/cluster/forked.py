"""Children of multiprocessing get keys: `python -m tests.cluster.forked METHOD TASKS`, with KAMACACHE_REGISTRY."""

from __future__ import annotations

import multiprocessing
import os
import sys

from kamacache import Node

node = Node.from_env(registry="local://", service="forked")
group = node.group("g", lambda key: f"value of {key}", codec="text", near_ttl="500ms")


def ask(number: int) -> int:
    """Get ten keys, and return the process that did."""
    keys = [f"key{(number * 7 + turn) % 100}" for turn in range(10)]
    assert [group.get(key) for key in keys] == [f"value of {key}" for key in keys]
    return os.getpid()


def main(method: str, tasks: str) -> None:
    ask(0)  # the node of the parent has started
    context = multiprocessing.get_context(method)
    with context.Pool(4, maxtasksperchild=20) as pool:
        processes = set(pool.imap_unordered(ask, range(int(tasks)), chunksize=1))
        pool.close()
        pool.join()
    assert len(processes) >= int(tasks) / 20
    assert os.getpid() not in processes
    ask(1)
    node.close(drain=0)  # else it waits for members that replace the last processes


if __name__ == "__main__":
    main(*sys.argv[1:])
