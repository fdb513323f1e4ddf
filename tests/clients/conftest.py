"""Nodes and clients that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from kamacache import Node
from tests.clients.nodes import PLACES, Trio, where
from tests.support.sample import keep_sample

HERE = Path(__file__).parent
Connect = Callable[..., Any]  # redis-py's own types differ between its versions


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


@pytest.fixture(params=[None, 2, 3], ids=["default", "resp2", "resp3"])
def connected(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Yield a maker of clients that speak one version of the protocol."""
    made: list[redis.Redis] = []
    version = {} if request.param is None else {"protocol": request.param}

    def make(node: Node, **options: Any) -> Any:
        made.append(redis.Redis(**where(node), **version, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()
