"""Nodes with one group, with and without its loader, as members and as client nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kamacache import Group, Node
from kamacache.testing import Network
from tests.cluster.cluster import wait_until

KEYS = [f"key{number}" for number in range(60)]


def load(key: str) -> bytes:
    return b"value of " + key.encode()


def load_many(keys: list[str]) -> dict[str, bytes]:
    return {key: load(key) for key in keys}


def load_other(key: str) -> bytes:
    return b"other " + key.encode()


class Shop:
    """Nodes on one network."""

    def __init__(self) -> None:
        self.network = Network(hot=False)
        self.nodes: list[Node] = []

    def make(self, loader: Callable[[str], Any] | None = None, *, client: bool = False, **options: Any) -> Node:
        node = Node(registry=self.network.registry(), lane=self.network.lane(), client=client)
        self.nodes.append(node)
        node.group("users", loader, **options)
        return node

    def add(self, loader: Callable[[str], Any] | None = None, *, client: bool = False, **options: Any) -> Node:
        node = self.make(loader, client=client, **options)
        node.start()
        return node

    def agree(self, *owners: Node) -> None:
        """Wait until all nodes see these owners, and no others."""
        expected = {node.address for node in owners}
        open_ = [node for node in self.nodes if not node._closed]
        wait_until(lambda: all({node.owner("users", key).address for key in KEYS} == expected for node in open_))

    def close(self) -> None:
        for node in self.nodes:
            node.close(drain=0)


def users(node: Node) -> Group[bytes]:
    return node.groups["users"]
