"""Nodes and transports that end with their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kamacache import Clock, Node
from kamacache._engine import Transport
from kamacache.deadline import Deadline
from kamacache.net.native import NativeLane
from kamacache.net.security import Protection
from tests.conftest import MakeTransport
from tests.unit.wire import make_users

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True, unix=1e9)


@pytest.fixture
def node(clock: Clock) -> Iterator[Node]:
    """Return a node alone, whose time stands still."""
    node = Node(clock=clock)
    yield node
    node.close()


@pytest.fixture
def server(transports: MakeTransport) -> Transport:
    return transports()


@pytest.fixture
def client(transports: MakeTransport) -> Transport:
    return transports()


@pytest.fixture
def address(server: Transport, listen_at: str) -> str:
    server.serve(make_users())
    return server.listen(listen_at)


@pytest.fixture
def lane() -> Iterator[NativeLane]:
    lane = NativeLane(max_value=1 << 20, protection=Protection(None, None))
    lane.start(None, lambda _: None, Deadline.after(1.0))
    yield lane
    lane.close()
