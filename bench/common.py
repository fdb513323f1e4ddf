"""Share code between benches: worker processes that answer lines of JSON, pinning, the spread of rounds."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Worker:
    """A process of this interpreter that takes lines, prints lines of JSON, and ends with its standard input."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running
        self.pid = running.pid

    @property
    def output(self) -> int:
        """Return the descriptor that can be read when the process has answered."""
        assert self._running.stdout is not None  # noqa: S101 - it is a pipe
        return self._running.stdout.fileno()

    def send(self, line: str) -> None:
        assert self._running.stdin is not None  # noqa: S101 - it is a pipe
        print(line, file=self._running.stdin, flush=True)

    def answer(self) -> Any:
        assert self._running.stdout is not None  # noqa: S101 - it is a pipe
        line = self._running.stdout.readline()
        if not line:
            raise SystemExit(f"a worker ended: {self._running.args!r}")
        return json.loads(line)


@contextlib.contextmanager
def worker(module: str, *arguments: str) -> Iterator[Worker]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield Worker(running)
            assert running.stdin is not None  # noqa: S101 - it is a pipe
            running.stdin.close()
            running.wait(10)
        finally:
            running.kill()


@contextlib.contextmanager
def server(command: Sequence[str], answers: Callable[[], object]) -> Iterator[int]:
    """Run the server of another system, and yield its process id once `answers` no longer raises."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: not raises(answers), f"{command[0]} does not start")
            yield running.pid
        finally:
            running.kill()


def raises(function: Callable[[], object]) -> bool:
    try:
        function()
    except Exception:  # noqa: BLE001 - each client has errors of its own
        return True
    return False


def wait_until(condition: Callable[[], bool], failure: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(failure)
        time.sleep(0.01)


def pin(pids: Sequence[int], cores: set[int]) -> None:
    """Pin all threads of these processes."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(task.name), cores)


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def copied(function: F) -> F:
    """Return a copy of a function, whose calls the interpreter adapts to the arguments of this copy alone."""
    assert isinstance(function, types.FunctionType)  # noqa: S101 - it is written in Python
    return cast("F", types.FunctionType(function.__code__.replace(), function.__globals__))
