"""Nodes of the examples: their commands, variables and files as they are, but for the places that they name."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PATIENCE, end, launch
from tests.cluster.cluster import wait_until
from tests.deploy.files import Container
from tests.etcd.server import Etcd, free_port
from tests.http.client import Answer, request
from tests.support.environment import own_environment

PORT = "8001"  # of all nodes of the examples, here each has another


class Replica:
    """A node that a container or unit stands for."""

    def __init__(self, container: Container, places: Mapping[str, str], directory: Path) -> None:
        self.port = free_port()
        self._places = {**places, f":{PORT}": f":{self.port}"}
        self._directory = directory
        self._unseen = set(self._places)
        self.address = f"127.0.0.1:{self.port}"
        directory.mkdir()
        for file in container.files:
            (directory / file.name).write_text(self.moved(file.read_text()))
        self._command = [self.moved(word) for word in container.command]
        self._environment = own_environment() | {
            name: self.moved(value) for name, value in container.environment.items()
        }
        assert not self._unseen, "these are named nowhere"
        self._access = ["--node", self.address, *container.access] if container.access else []

    def moved(self, text: str) -> str:
        """Return a text with the paths and addresses replaced by those of this test."""
        for place, here in self._places.items():
            if place in text:
                self._unseen.discard(place)
                text = text.replace(place, here)
        return text

    def start(self) -> None:
        program, *arguments = self._command
        assert Path(program).name == "kamacache"
        self.served = launch(*arguments, directory=self._directory, environment=self._environment)

    def get(self, path: str) -> Answer:
        return request(self.address, path)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the replica, as `docker compose exec` and `kubectl exec` do."""
        program = {"kamacache": ["-m", "kamacache"], "python": []}[command[0]]
        return subprocess.run(
            [sys.executable, *program, *command[1:]],
            cwd=self._directory,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def asked(self, *arguments: str) -> Any:
        """Return the output of `kamacache …` in the replica."""
        done = self.execute("kamacache", *arguments, *self._access, "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def sees(self, count: int) -> bool:
        return [member["state"] for member in self.asked("members")] == ["alive"] * count


class Replicas:
    """The maker of replicas; it ends them, too."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.all: list[Replica] = []

    def pair(self, container: Container, places: Mapping[str, str]) -> list[Replica]:
        """Start two replicas, and wait until they serve, are ready and see each other."""
        for _ in range(2):
            replica = Replica(container, places, self._directory / f"replica-{len(self.all)}")
            replica.start()
            self.all.append(replica)
        for replica in self.all:
            wait_until(lambda replica=replica: replica.get("/readyz").status == 200, PATIENCE)  # type: ignore[misc]
            wait_until(functools.partial(replica.sees, len(self.all)), PATIENCE)
        return self.all

    def close(self) -> None:
        for replica in self.all:
            end(replica.served.popen)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[Replicas]:
    with closing(Replicas(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    with Etcd(tmp_path_factory.mktemp("etcd")) as made:
        yield made
