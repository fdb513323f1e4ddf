"""Describe this process, for people who look for the node that an address belongs to."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

_TITLE = 200  # characters


def describe() -> dict[str, Any]:
    """Return the id, the machine and the title of the process, and the version of its Python."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "title": _title(), "python": sys.version.split()[0]}


def _title() -> str:
    """Return what `ps` shows: a title that the process has given itself, as gunicorn does, or its arguments."""
    try:
        raw = Path("/proc/self/cmdline").read_bytes()  # Linux
    except OSError:
        return " ".join(sys.orig_argv)[:_TITLE]
    return raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace").strip()[:_TITLE]
