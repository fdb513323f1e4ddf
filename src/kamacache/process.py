"""Describe this process, for people who look for the node that an address belongs to."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path
from typing import Any

_TITLE = 200  # characters


def describe() -> dict[str, Any]:
    """Return the id, the machine and the title of the process, and the version of its Python."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "title": _title(), "python": sys.version.split()[0]}


def _title() -> str:
    """Return what `ps` shows: a title that the process has given itself, as gunicorn does, or its arguments.

    It has no user and password of a URL, nor what a terminal would obey.
    """
    try:
        raw = Path("/proc/self/cmdline").read_bytes()  # Linux
    except OSError:
        raw = os.fsencode("\0".join(sys.orig_argv))
    return shown(raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace").strip())[:_TITLE]


def shown(title: str) -> str:
    """Return a title without secrets and with printable characters alone."""
    return printable(re.sub(r"://[^/\s]*@", "://", title), " ")


def printable(text: str, instead: str) -> str:
    """Return a text with another character for each that a terminal would obey."""
    return "".join(character if character.isprintable() else instead for character in text)
