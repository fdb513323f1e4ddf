"""Run pytest in a process of its own, in a directory with the files of a small project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.environment import own_environment

# Installed for the tests of this project. Each costs time, and some warn.
_OTHERS = ("hypothesispytest", "anyio", "cacheprovider", "asyncio", "xdist", "time_machine")


def passed(folder: Path, files: dict[str, str], *arguments: str, plugin: str = "") -> int:
    """Return how many tests passed in a session with one other plugin.

    Any other outcome, or a warning, fails this test with the output.
    """
    without = [f"-pno:{name}" for name in _OTHERS if name != plugin]
    for name, text in files.items():
        (folder / name).write_text(text)
    environment = own_environment() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", *without, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    outcome = re.search(r"^(\d+) passed in ", done.stdout, re.MULTILINE)
    assert outcome, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return int(outcome[1])
