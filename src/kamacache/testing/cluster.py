"""Make clusters in memory for tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from kamacache.node import Node
from kamacache.testing.network import Network

if TYPE_CHECKING:
    from kamacache._engine import Clock


class MakeCluster:
    """Make nodes that find each other on a network in memory, `network`. The fixture kamacache_cluster is one.

        first, second = MakeCluster()(2, lambda node: node.group("users", load_user))

    It calls the function with each node before that starts, to make its groups, and returns the nodes when they have
    joined. A second call adds nodes to the same cluster.

    - `clock`: the clock of all nodes; None: that of the machine.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.network = Network()
        self._clock = clock
        self._nodes = ExitStack()

    def __call__(self, number: int, make_groups: Callable[[Node], object]) -> list[Node]:
        """Return so many nodes that have joined."""
        network = self.network
        made = [Node(registry=network.registry(), lane=network.lane(), clock=self._clock) for _ in range(number)]
        for node in made:
            self._nodes.callback(node.close, drain=0)
            make_groups(node)
        for node in made:
            node.start()
        return made

    def close(self) -> None:
        """Close all nodes, the newest first."""
        self._nodes.close()
