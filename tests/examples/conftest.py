"""Examples run as their README says, each in a registry of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path

import pytest
import redis

from tests.cluster.cluster import wait_until
from tests.support.environment import own_environment

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0  # seconds

_README = (ROOT / "examples/README.md").read_text()


def script(heading: str, number: int = 0) -> str:
    """Return the shell block of this number under a heading of the README."""
    section = re.split(r"^## ", _README.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    block: str = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[number]
    return block


class Running:
    """A running example, and its output. The last command takes the place of the shell, and gets its signals."""

    def __init__(self, script: str, environment: Mapping[str, str]) -> None:
        *before, last = script.splitlines()
        self._popen = subprocess.Popen(
            ["/bin/sh", "-c", "\n".join(["set -e", *before, f"exec {last}"])],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        assert self._popen.stdout is not None
        self._reader = threading.Thread(target=self.lines.extend, args=(self._popen.stdout,), daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        return "".join(list(self.lines))

    def wait_for(self, pattern: str, count: int = 1, *, after: int = 0) -> list[re.Match[str]]:
        """Wait until so many of the lines, from number `after` on, match, and return the matches."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self._popen.poll() is not None and not self._reader.is_alive()
            found = [match for line in self.lines[after:] if (match := re.search(pattern, line))]
            if len(found) >= count:
                return found
            assert not ended, f"it has ended without {pattern!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"it does not say {pattern!r}:\n{self.said}"
            time.sleep(0.02)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(PATIENCE)

    def stop(self) -> None:
        """Send it the signal to end."""
        self._popen.terminate()

    def reload(self) -> None:
        """Send it the signal to read its program again."""
        self._popen.send_signal(signal.SIGHUP)

    def end(self) -> int:
        """Return its exit code, once it has ended by itself."""
        code = self._popen.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)  # its workers, too
        self.end()
        assert self._popen.stdout is not None
        self._popen.stdout.close()


class Examples:
    """The maker of running examples; it ends them with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[Running] = []

    def start(self, heading: str, number: int = 0, **more: str) -> Running:
        """Start the commands under this heading of the README, with these variables added to the environment."""
        return self.run(script(heading, number), **more)

    def run(self, commands: str, **more: str) -> Running:
        """Start these commands in the same way."""
        own = {name: value for name, value in own_environment().items() if not name.startswith("XDG_")}
        places = {
            "PATH": os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent), own["PATH"])),
            "HOME": str(self.directory),  # gunicorn has a control socket there
            "KAMACACHE_REGISTRY": f"local://{self.directory}/reg",
            "PYTHONUNBUFFERED": "",  # a line that is flushed is written at once: those of several workers stay whole
        }
        running = Running(commands, own | places | more)
        self._running.append(running)
        return running

    def wait_for_nodes(self, count: int, group: str) -> None:
        """Wait until exactly so many nodes see each other with this group."""
        wait_until(lambda: self._views(group) == [count] * count, PATIENCE)

    def _views(self, group: str) -> list[int]:
        """Return how many members each node considers alive."""
        found = []
        for path in self.directory.glob("reg/**/*.sock"):
            try:
                with redis.Redis(unix_socket_path=str(path), decode_responses=True) as node:
                    members = json.loads(str(node.execute_command("KC.MEMBERS")))
            except (redis.ConnectionError, redis.ResponseError):  # one that comes, or one that goes
                return []
            good = [member for member in members if member["state"] == "alive" and member["groups"] == [group]]
            found.append(len(good) if len(good) == len(members) else -1)
        return found

    def registered(self) -> list[Path]:
        """Return the files of nodes that have not said goodbye."""
        return [path for path in self.directory.glob("reg/**/*") if path.is_file() or path.is_socket()]

    def close(self) -> None:
        for running in self._running:
            running.close()


@pytest.fixture
def examples(tmp_path: Path) -> Iterator[Examples]:
    with closing(Examples(tmp_path)) as made:
        yield made
