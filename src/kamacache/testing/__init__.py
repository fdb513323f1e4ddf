"""Help tests: fakes for loaders, and clusters in memory. The fixtures for pytest are in the package kamacache_pytest.

    with fake(users, {"1": {"name": "Ada"}}):
        assert users.get("1") == {"name": "Ada"}

A cluster in memory has a network whose messages a test can hold and lose, and a registry:

    network = Network()
    a, b = (Node(registry=network.registry(), lane=network.lane(), clock=Clock(manual=True)) for _ in range(2))

A *gate* holds the messages it matches until it is opened, so that a test decides the order in which things happen.
"""

from __future__ import annotations

from kamacache.testing.cluster import MakeCluster
from kamacache.testing.fakes import fake, override_loader
from kamacache.testing.lane import MemoryLane
from kamacache.testing.network import GATE_TIMEOUT, SILENCE, Fault, Gate, HandOver, Missed, Network, Parcel, Peek, Ping
from kamacache.testing.registry import MemoryRegistry

__all__ = [
    "GATE_TIMEOUT",
    "SILENCE",
    "Fault",
    "Gate",
    "HandOver",
    "MakeCluster",
    "MemoryLane",
    "MemoryRegistry",
    "Missed",
    "Network",
    "Parcel",
    "Peek",
    "Ping",
    "fake",
    "override_loader",
]
