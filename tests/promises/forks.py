"""Processes for isolated tests, forked from one that has imported what they use: a new interpreter takes 0.3 s.

The process that forks has made no node and no thread. With KAMACACHE_CASES=all each test gets a new interpreter.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from tests.support.environment import own_environment

ROOT = Path(__file__).parents[2]


class Forks:
    """The process that forks, from the side of the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.promises.support"],
            cwd=ROOT,
            env=own_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._close)

    def run(self, module: str, name: str, arguments: str, limit: float) -> tuple[int, str]:
        """Run a test in a process of its own, and return its exit code and what it has written."""
        assert self._process.stdin is not None
        with tempfile.NamedTemporaryFile() as output:
            self._process.stdin.write(json.dumps([module, name, arguments, str(limit), output.name]) + "\n")
            self._process.stdin.flush()
            timer = threading.Timer(limit + 30, os.kill, (self._read(), signal.SIGKILL))
            timer.start()
            code = self._read()
            timer.cancel()
            return code, Path(output.name).read_text(errors="replace")

    def _read(self) -> int:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that forks has ended"
        return int(line)

    def _close(self) -> None:
        with ExitStack() as stack:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stack.callback(stream.close)
        self._process.wait(10)


@functools.cache
def forks() -> Forks:
    """Return the one of this process."""
    return Forks()


def serve(main: Callable[[str, str, str, str], NoReturn]) -> None:
    """Fork a process for each line of the input; `main` runs the test there, and ends the process."""
    for line in sys.stdin:
        module, name, arguments, limit, output = json.loads(line)
        with suppress(Exception):  # raised again in the process of the test
            importlib.import_module(module)  # for those that follow, too
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for number in (1, 2):
                os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), number)
            main(module, name, arguments, limit)
        print(child, flush=True)  # noqa: T201 - the test reads it
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201
