"""Nodes and clients that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.nodes import PLACES, Trio
from tests.support.sample import keep_sample

HERE = Path(__file__).parent


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose a sample of the cases: kinds of registries, versions of the protocol and bytes multiply."""
    keep_sample(config, items, lambda case: case.path.parent == HERE)


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
