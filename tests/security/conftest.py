"""Servers and clients of the wire with what they protect themselves by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from kamacache._engine import Security, Transport
from tests.security.certificates import Files, issue

Make = Callable[[Security | None], Transport]


@pytest.fixture
def make() -> Iterator[Make]:
    """A transport that ends with its test."""
    made: list[Transport] = []

    def build(security: Security | None) -> Transport:
        made.append(Transport(max_message=8 << 20, security=security))
        return made[-1]

    yield build
    for transport in made:
        transport.close()


@pytest.fixture(params=["tcp", "unix"])
def listen_at(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where to listen."""
    return "127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/node.sock"


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Who signs the certificates of the nodes."""
    return trustme.CA()


@pytest.fixture(scope="session")
def stranger() -> trustme.CA:
    """Another authority."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    """A good certificate of this machine."""
    return issue(tmp_path / "good", authority)
