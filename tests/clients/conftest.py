"""Nodes and clients that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.nodes import PLACES, Trio


@pytest.fixture(params=PLACES)
def trio(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Trio]:
    made = Trio(PLACES[request.param](tmp_path))
    yield made
    made.close()


@pytest.fixture
def tcp_trio(tmp_path: Path) -> Iterator[Trio]:
    made = Trio(PLACES["static"](tmp_path), max_value="1 MiB")
    yield made
    made.close()
