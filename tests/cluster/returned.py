"""A child of multiprocessing sets keys and returns: `python -m tests.cluster.returned METHOD`, with KAMACACHE_REGISTRY.

With a second argument, `imported`, the node starts when the module is imported, which forkserver does before the child
has become one of multiprocessing.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import Any

from kamacache import Node

KEYS = [f"key{number}" for number in range(60)]

node = Node.from_env(registry="local://", service="returned")
group = node.group("g", codec="json")
if "imported" in sys.argv:
    node.start()


def work() -> None:
    """Set all keys, of which this process owns its share."""
    assert group.set_many(dict.fromkeys(KEYS, 1)) is True
    assert len(node.members()) == 2
    assert node.address in {node.owner("g", key).address for key in KEYS}


def main(method: str, *_: str) -> None:
    node.start()
    context: Any = multiprocessing.get_context(method)
    child = context.Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert [group.incr(key) for key in KEYS] == [2] * len(KEYS)  # the child has handed them over, and said goodbye
    node.close(drain=0)  # else it waits for a member that replaces the child


if __name__ == "__main__":
    main(*sys.argv[1:])
