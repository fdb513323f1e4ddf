"""A node that stands for a Redis server until the process ends."""

from __future__ import annotations

import os

from kamacache import Node

_nodes: list[Node] = []


def redis_address() -> str:
    """Start a node that keeps the keys of programs written for Redis, and may be emptied by them. Return where."""
    os.environ["KAMACACHE_ALLOW_FLUSH"] = "1"
    node = Node("127.0.0.1:0")
    node.group("redis")
    node.start()
    _nodes.append(node)
    assert node.address is not None
    return node.address
