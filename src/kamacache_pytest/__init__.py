"""The fixtures of kamacache for pytest, which finds them by itself: kamacache_node, kamacache_clock, kamacache_cluster.

This is a package of its own, because pytest imports the plugins of all installed packages: it imports kamacache when a
test asks for a fixture, so that it costs nothing in projects that do not use it.
"""

# ruff: noqa: PLC0415 - as said above

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kamacache import Clock, Node
    from kamacache.testing import MakeCluster


@pytest.fixture
def kamacache_clock() -> Clock:
    """Return a clock that stands still until the test moves it. The nodes of the other fixtures use it, too."""
    from kamacache import Clock

    return Clock(manual=True)


def _clock(request: pytest.FixtureRequest) -> Clock | None:
    """Return the clock of the test, if the test or one of its fixtures asks for it."""
    return request.getfixturevalue("kamacache_clock") if "kamacache_clock" in request.fixturenames else None


@pytest.fixture
def kamacache_node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """Return a new node for this test, which is alone whatever the environment says, and is closed after the test."""
    from kamacache import Node

    node = Node(clock=_clock(request))
    yield node
    node.close(drain=0)


@pytest.fixture
def kamacache_cluster(request: pytest.FixtureRequest) -> Iterator[MakeCluster]:
    """Return a function that makes nodes in memory which have joined; see MakeCluster."""
    from kamacache.testing import MakeCluster

    made = MakeCluster(_clock(request))
    yield made
    made.close()
