"""Nodes and transports that end with their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kamacache import Clock, Node
from kamacache._engine import Transport
from tests.unit.wire import make_users

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True, unix=1e9)


@pytest.fixture
def node(clock: Clock) -> Iterator[Node]:
    """A node alone, whose time stands still."""
    node = Node(clock=clock)
    yield node
    node.close()


@pytest.fixture
def transports() -> Iterator[Callable[[], Transport]]:
    made: list[Transport] = []

    def make() -> Transport:
        made.append(Transport(max_message=8 << 20))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture(params=["tcp", "unix"])
def listen_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/node.sock"


@pytest.fixture
def server(transports: Callable[[], Transport]) -> Transport:
    return transports()


@pytest.fixture
def client(transports: Callable[[], Transport]) -> Transport:
    return transports()


@pytest.fixture
def address(server: Transport, listen_at: str) -> str:
    server.serve(make_users())
    return server.listen(listen_at)
