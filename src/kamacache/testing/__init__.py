"""Build a cluster in memory, for tests: a network whose messages a test can hold and lose, and its registry.

    network = Network()
    a, b = (Node(registry=network.registry(), lane=network.lane(), clock=Clock(manual=True)) for _ in range(2))

A *gate* holds the messages it matches until it is opened, so that a test decides the order in which things happen.
"""

from __future__ import annotations

from kamacache.testing.lane import MemoryLane
from kamacache.testing.network import GATE_TIMEOUT, SILENCE, Gate, Missed, Network, Parcel, Peek, Ping
from kamacache.testing.registry import MemoryRegistry

__all__ = [
    "GATE_TIMEOUT",
    "SILENCE",
    "Gate",
    "MemoryLane",
    "MemoryRegistry",
    "Missed",
    "Network",
    "Parcel",
    "Peek",
    "Ping",
]
