"""One etcd for each file of tests; the registrations of a test end with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamacache import Node
from kamacache.member import Member
from kamacache.registry.etcd import EtcdRegistry
from tests.cluster.conftest import Processes
from tests.contract.actor import Actor
from tests.etcd.server import Etcd, binaries

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=binaries(), ids=lambda binary: binary.parent.name)
def etcd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """Start an etcd; a test that stops it starts it again."""
    with Etcd(tmp_path_factory.mktemp("etcd"), request.param) as made:
        yield made


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """Start an etcd for one test alone, which may stop or change it."""
    with Etcd(tmp_path) as made:
        yield made


@pytest.fixture
def service() -> str:
    """Return the name of a service that no other test uses."""
    return f"app{next(_numbers)}"


class Registered:
    """A registry with one registration, and the changes that it was notified of."""

    def __init__(self, url: str, service: str, number: int = 1, **more: Any) -> None:
        self.changes = 0
        self.service = service
        self.me = Member(f"id{number}", f"10.0.0.{number}:8001", **more)
        self.registry = EtcdRegistry(url)

    def register(self) -> None:
        self.registry.register(self.service, self.me, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def ids(self) -> list[str]:
        """Return the ids that are registered; [] while etcd is out of reach."""
        try:
            return sorted(member.id for member in self.registry.members(self.service))
        except ConnectionError:
            return []


@pytest.fixture
def registered(service: str) -> Iterator[Callable[..., Registered]]:
    """Yield a maker of registries that have registered, and close them."""
    made: list[Registered] = []

    def make(url: str, number: int = 1, **more: Any) -> Registered:
        made.append(Registered(url, service, number, **more))
        made[-1].register()
        return made[-1]

    yield make
    for one in made:
        one.registry.close()


@pytest.fixture
def node_at(service: str) -> Iterator[Callable[..., Node]]:
    """Yield a maker of nodes of one service with a group "g", and close them."""
    made: list[Node] = []

    def make(url: str, *, start: bool = True, **options: Any) -> Node:
        node = Node(registry=url, service=service, **options)
        made.append(node)
        node.group("g", lambda key: f"value of {key}".encode())
        if start:
            node.start()
        return node

    yield make
    for node in made:
        node.close(drain=0)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """Yield a maker of processes with a node each; a test passes their `registry=`."""
    with Processes("local", tmp_path) as made:
        yield made


@pytest.fixture
def actor(etcd: Etcd) -> Iterator[Actor]:
    made = Actor(etcd.url)
    yield made
    made.end()
