"""Processes with a node each, and shops of nodes in this one. They end with their test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest

from tests.cluster.cluster import wait_until
from tests.cluster.shop import Shop
from tests.support.sample import keep_sample

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Process:
    """A worker process, and its answers."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.worker", json.dumps(options)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        self.address = ""

    @property
    def pid(self) -> int:
        return self._popen.pid

    def send(self, command: str, *arguments: Any) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._popen.stdin.flush()

    def receive(self) -> Any:
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def do(self, command: str, *arguments: Any) -> Any:
        with self._lock:
            self.send(command, *arguments)
            return self.receive()

    def start(self) -> None:
        self.address = self.do("start")

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send a signal. A process that is stopped stands still when this returns, with all its threads."""
        os.kill(self.pid, how)
        if how == signal.SIGSTOP:
            wait_until(lambda: all(state == "T" for state in self._states()))

    def _states(self) -> list[str]:
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks]

    def wait(self, timeout: float) -> int:
        return self._popen.wait(timeout)

    def end(self) -> None:
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()
        self._popen.kill()
        self._popen.wait(10)


class Processes:
    """Maker of processes that share a registry and a log of loads; it ends them, too."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.all: list[Process] = []
        self._log = directory / "loads"
        self._log.touch()
        self._directory = directory
        self.kind = kind
        self.strangers: list[str] = []  # addresses on the list of static:// that are none of these processes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.all:
            process.end()

    def make(self, count: int, *, start: bool = True, **options: Any) -> list[Process]:
        """Start processes, and wait until they see each other and agree on the owners of keys."""
        made = []
        ports = free_ports(count)
        for port in ports:
            place: dict[str, Any] = {"registry": f"local://{self._directory}/reg"}
            if self.kind == "static":
                listed = ",".join([*(f"127.0.0.1:{port}" for port in ports), *self.strangers])
                place = {"registry": f"static://{listed}", "listen": f"127.0.0.1:{port}"}
            made.append(Process({"log": str(self._log)} | place | options))
        self.all += made
        if start:
            for process in made:
                process.send("start")
            for process in made:
                process.address = process.receive()
            wait_until(lambda: all(len(process.do("members")) == len(self.all) for process in made))
            keys = [f"key{number}" for number in range(200)]
            wait_until(lambda: len({str(process.do("owners", keys)) for process in made}) == 1)
        return made

    def again(self, process: Process, *, start: bool = True) -> Process:
        """Start a process with the options of one that has ended."""
        self.all.remove(process)
        process.end()
        made = Process(process.options)
        self.all.append(made)
        if start:
            made.start()
        return made

    def loads(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self._log.read_text().splitlines())

    def key_of(self, owner: Process, *, prefix: str = "key") -> str:
        return self.keys_of(owner, prefix=prefix)[0]

    def keys_of(self, owner: Process, *, prefix: str = "key") -> list[str]:
        keys = [f"{prefix}{number}" for number in range(200)]
        return [key for key, address in zip(keys, owner.do("owners", keys), strict=True) if address == owner.address]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose a sample of the cases that start processes."""
    keep_sample(config, items, lambda case: case.path.parent == HERE and "processes" in case.fixturenames)


@pytest.fixture(params=["local", "static"])
def processes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Processes]:
    with Processes(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def local_processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes("local", tmp_path) as made:
        yield made


@pytest.fixture
def shop() -> Iterator[Shop]:
    with closing(Shop()) as made:
        yield made
