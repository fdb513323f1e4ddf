"""Real `kamacache serve` processes, and the program run against them."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import wait_until
from tests.support.environment import own_environment

PATIENCE = 60.0  # seconds

LOADERS = """
import os, time

def load(key):
    if key == "none":
        return None
    if key == "bad":
        raise ValueError("the secret of the loader")
    return f"value of {key}".encode()

def slow(key):
    with open(os.environ["ENTERED"], "a") as entered:
        entered.write("loading")
    while not os.path.exists(os.environ["GO_ON"]):
        time.sleep(0.01)
    return b"slow"

not_callable = 7
"""

CONFIG = """
[groups.users]
loader = "loaders:load"
ttl = "1h"
max_bytes = "8 MiB"

[groups.bag]

[groups.slow]
loader = "loaders:slow"
"""


class Served:
    """A serve process that has printed its address."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self.log: list[str] = []
        assert popen.stderr is not None
        self._reader = threading.Thread(target=self.log.extend, args=(popen.stderr,), daemon=True)
        self._reader.start()
        assert popen.stdout is not None
        line = popen.stdout.readline()
        if not line:
            self._reader.join(PATIENCE)
            raise AssertionError(f"serve ended: {''.join(self.log)}")
        self.said: dict[str, Any] = json.loads(line)
        self.address: str = self.said["address"]

    def signal(self, number: int) -> None:
        os.kill(self.popen.pid, number)

    def end(self) -> int:
        code = self.popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code


class Program:
    """The program `kamacache` in a directory with loaders, with a registry of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.registry = f"local://{directory}/reg"
        self.served: list[Served] = []
        (directory / "loaders.py").write_text(LOADERS)
        (directory / "node.toml").write_text(CONFIG)

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        files = {"ENTERED": f"{self.directory}/entered", "GO_ON": f"{self.directory}/go-on"}
        return own_environment() | files | {"KAMACACHE_REGISTRY": self.registry} | dict(more)

    def run(
        self, *arguments: str, stdin: bytes = b"", environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "kamacache", *arguments],
            cwd=self.directory,
            env=self.environment(environment or {}),
            input=stdin,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )

    def out(self, *arguments: str, **options: Any) -> str:
        """Return the standard output of a successful run."""
        done = self.run(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout.decode()

    def json(self, *arguments: str, **options: Any) -> Any:
        return json.loads(self.out(*arguments, "--json", **options))

    def fails(self, code: int, *arguments: str, **options: Any) -> str:
        """Return the standard error of a run that fails with this exit code."""
        done = self.run(*arguments, **options)
        assert done.returncode == code, done
        said = done.stderr.decode()
        assert said
        assert "Traceback" not in said
        return said

    def serve(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Served:
        served = launch("serve", *arguments, directory=self.directory, environment=self.environment(environment or {}))
        self.served.append(served)
        return served

    def pair(self) -> list[Served]:
        """Start two nodes that see each other."""
        pair = [self.serve("--config", "node.toml") for _ in range(2)]
        for node in pair:
            wait_until(functools.partial(self._sees_two, node.address), PATIENCE)
        return pair

    def _sees_two(self, address: str) -> bool:
        members = self.json("members", "--node", address)
        return [(member["state"], member["registered"]) for member in members] == [("alive", True)] * 2

    def close(self) -> None:
        (self.directory / "go-on").touch()
        for served in self.served:
            end(served.popen)


def launch(*command: str, directory: Path, environment: Mapping[str, str]) -> Served:
    """Start `kamacache serve …`, and return the process as soon as it serves."""
    popen = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "kamacache", *command, "--json"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        return Served(popen)
    except BaseException:
        end(popen)
        raise


def end(popen: subprocess.Popen[str]) -> None:
    if popen.poll() is None:
        popen.send_signal(signal.SIGCONT)
        popen.kill()
    popen.wait(PATIENCE)
    for stream in (popen.stdout, popen.stderr):
        if stream is not None:
            stream.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    with closing(Program(tmp_path)) as made:
        yield made


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Start two nodes for tests that leave them as they are."""
    with closing(Program(tmp_path_factory.mktemp("cli"))) as made:
        made.pair()
        yield made
