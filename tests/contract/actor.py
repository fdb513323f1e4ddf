"""A process with one registry object, as its parent drives it: see registry_process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_PROGRAM = Path(__file__).with_name("registry_process.py")


class Actor:
    """A process that ends with `end`, as do the children that `fork` made."""

    def __init__(self, url: str) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, str(_PROGRAM), url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._children: list[int] = []

    def send(self, *words: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(" ".join(words) + "\n")
        self._popen.stdin.flush()

    def answer(self) -> Any:
        assert self._popen.stdout is not None
        return json.loads(self._popen.stdout.readline())

    def do(self, *words: str) -> Any:
        self.send(*words)
        return self.answer()

    def fork(self, *words: str) -> None:
        self._children.append(self.do("fork", *words))

    def freeze(self) -> None:
        self._popen.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._popen.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait(10)

    def end(self) -> None:
        self.kill()
        for stream in (self._popen.stdin, self._popen.stdout):
            if stream is not None:
                stream.close()
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
