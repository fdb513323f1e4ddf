"""Start threads. Every thread of the library begins here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kamacache.errors import Overloaded


def start(name: str, target: Callable[..., Any], *args: Any) -> threading.Thread:
    """Start a daemon thread and return it.

    The caller notes that the thread exists only after this returned. Raises Overloaded if the process can have no
    more threads or the interpreter is ending.
    """
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise Overloaded(f"the thread {name} could not be started: {error}") from error
    return thread
