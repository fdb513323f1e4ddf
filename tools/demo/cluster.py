"""Start the processes of the demonstration, send them orders over pipes, kill them and start them again."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kamacache.errors import KamaCacheError

NAMES = ("A", "B", "C")
SERVICE = "demo"
PATIENCE = 30.0  # seconds for anything that takes a moment on an idle machine


View = tuple[tuple[str, ...], int]  # the members as one node sees them, and a checksum of the owners


class DemoError(KamaCacheError):
    """Report that the demonstration cannot continue."""


@dataclass
class Process:
    """One life of the process of a node, and the latest facts that it reported."""

    name: str
    life: str  # its name and the number of its life, as in A2
    popen: subprocess.Popen[str]
    errors: Path
    died: float | None = None
    address: str | None = None
    view: View | None = None
    views: list[tuple[float, View]] = field(default_factory=list)  # each with its start
    unsure: list[tuple[float, float]] = field(
        default_factory=list
    )  # from when to when its view may have been different
    doubts: list[float] = field(default_factory=list)  # when it considered another dead
    looked: int = 0  # how many of them its last view includes
    registered: bool = False
    counters: dict[str, Any] = field(default_factory=dict)
    answers: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    @property
    def pid(self) -> int:
        return self.popen.pid

    def listen(self) -> None:
        """Read the reports of the process, on a thread of its own."""
        assert self.popen.stdout is not None  # noqa: S101 - it is a pipe
        for line in self.popen.stdout:
            try:
                fact = json.loads(line)
            except ValueError:  # half a line: it was killed
                break
            if fact["fact"] == "started":
                self.address = fact["address"]
            elif fact["fact"] == "view":
                self._saw(fact)
            elif fact["fact"] == "doubt":
                self.doubts.append(fact["at"])
            elif fact["fact"] == "counters":
                self.counters = fact
            else:
                self.answers.put(fact["answer"])
        self.answers.put(EOFError)

    def _saw(self, fact: dict[str, Any]) -> None:
        view = tuple(fact["members"]), fact["owners"]
        if view != self.view:
            self.views.append((fact["at"], view))
            self.unsure.append((fact["since"], fact["at"]))
        self.unsure += [(at, fact["at"]) for at in self.doubts[self.looked : fact["doubts"]]]
        self.looked = fact["doubts"]
        self.view = view
        self.registered = fact["registered"]

    def order(self, do: str, **arguments: Any) -> None:
        """Send an order to the process."""
        assert self.popen.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self.popen.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.popen.stdin.flush()
        except OSError as error:
            raise self.broken() from error

    def answer(self) -> Any:
        """Wait for the result of the order and return it."""
        try:
            answer = self.answers.get(timeout=PATIENCE)
        except queue.Empty:
            raise DemoError(f"node {self.name} did not answer within {PATIENCE:g} s") from None
        if answer is EOFError:
            raise self.broken()
        return answer

    def ask(self, do: str, **arguments: Any) -> Any:
        self.order(do, **arguments)
        return self.answer()

    def broken(self) -> DemoError:
        """Return the error that says why the process cannot be reached."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(1.0)
        words = self.errors.read_text(errors="replace").strip()
        return DemoError(f"node {self.name} ended with exit code {self.popen.returncode}: {words[-2000:]}")


class Cluster:
    """All processes, the dead ones included."""

    def __init__(self, directory: Path, rows: int, registry: str) -> None:
        self.processes: list[Process] = []
        self._directory = directory
        self._arguments = [str(directory), str(rows), registry]

    @property
    def alive(self) -> list[Process]:
        return [process for process in self.processes if process.died is None]

    def start(self, name: str) -> Process:
        """Start the process of a node; `settle` waits for it."""
        life = f"{name}{sum(process.name == name for process in self.processes) + 1}"
        errors = self._directory / f"{life}.errors"
        share = [str(NAMES.index(name)), str(len(NAMES))]
        with errors.open("w") as stderr:
            popen = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-m", "tools.demo.worker", life, *self._arguments, *share],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        process = Process(name, life, popen, errors)
        self.processes.append(process)
        threading.Thread(target=process.listen, daemon=True).start()
        return process

    def kill(self, process: Process) -> None:
        """Kill the process with SIGKILL."""
        process.popen.kill()
        process.popen.wait()
        process.died = time.monotonic()

    def agreed(self) -> bool:
        """Return whether all living nodes see exactly each other, and agree on the owner of every key."""
        alive = self.alive
        addresses = tuple(sorted(process.address or "" for process in alive))
        views = [process.view for process in alive]
        return all(view is not None and view == views[0] and view[0] == addresses for view in views)

    def settle(self, tick: Callable[[], None] = lambda: None) -> float:
        """Wait until the nodes agree, and return the time."""
        until = time.monotonic() + PATIENCE
        while not self.agreed():
            if time.monotonic() > until:
                views = {process.name: process.view and process.view[0] for process in self.alive}
                raise DemoError(f"the nodes did not agree on the members within {PATIENCE:g} s: {views}")
            self.check()
            tick()
            time.sleep(0.01)
        return time.monotonic()

    def check(self) -> None:
        """Raise DemoError if a process has died that was not killed."""
        for process in self.alive:
            if process.popen.poll() is not None:
                raise process.broken()

    def all_do(self, do: str, **arguments: Any) -> list[Any]:
        """Send one order to all processes at once."""
        alive = self.alive
        for process in alive:
            process.order(do, **arguments)
        return [process.answer() for process in alive]

    def close(self) -> None:
        """End all processes, by force if they do not end by themselves."""
        for process in self.alive:
            assert process.popen.stdin is not None  # noqa: S101 - it is a pipe
            with contextlib.suppress(OSError):
                process.popen.stdin.close()
        until = time.monotonic() + PATIENCE / 3
        for process in self.alive:
            try:
                process.popen.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            process.died = time.monotonic()
