"""One etcd for each file of tests; what a test registers goes when it ends."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamacache import Node
from kamacache.member import Member
from kamacache.registry.etcd import EtcdRegistry
from tests.cluster.conftest import ROOT, Processes
from tests.etcd.server import Etcd, binaries

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=binaries(), ids=lambda binary: binary.parent.name)
def etcd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """A running etcd; a test that stops it starts it again."""
    made = Etcd(tmp_path_factory.mktemp("etcd"), request.param)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[Etcd]:
    """One for a test alone, that may do to it what it likes."""
    made = Etcd(tmp_path)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def service() -> str:
    """A service that no other test uses."""
    return f"app{next(_numbers)}"


class Registered:
    """A registry with one registration, and the changes it was told of."""

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
        """Who is registered; [] while etcd is out of reach."""
        try:
            return sorted(member.id for member in self.registry.members(self.service))
        except ConnectionError:
            return []


@pytest.fixture
def registered(service: str) -> Iterator[Callable[..., Registered]]:
    """Makes registries that have registered, and closes them."""
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
    """Makes nodes of one service with a group "g", and closes them."""
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
    """Makes processes with a node each; where they meet, a test says by `registry=`."""
    made = Processes("local", tmp_path)
    yield made
    for process in made.all:
        process.end()


class Actor:
    """A process with one registry object: see registry_process."""

    def __init__(self, url: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.contract.registry_process", url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children: list[int] = []

    def do(self, command: str, *arguments: str) -> Any:
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._popen.stdin.write(" ".join((command, *arguments)) + "\n")
        self._popen.stdin.flush()
        answer = json.loads(self._popen.stdout.readline())
        if command == "fork":
            self._children.append(answer)
        return answer

    def freeze(self) -> None:
        os.kill(self._popen.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._popen.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(10)

    def end(self) -> None:
        self.kill()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()
        for child in self._children:
            os.kill(child, signal.SIGKILL)


@pytest.fixture
def actor(etcd: Etcd) -> Iterator[Actor]:
    made = Actor(etcd.url)
    yield made
    made.end()
