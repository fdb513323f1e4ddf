"""Start threads. Every thread of the library begins here."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kamacache.errors import ConfigError, Overloaded

if TYPE_CHECKING:
    from kamacache._engine import Lead, Promise

_GREEN = (
    ("gevent", "gevent.monkey", "is_module_patched", "threading", "monkey.patch_all(thread=False)"),
    ("eventlet", "eventlet.patcher", "is_monkey_patched", "thread", "monkey_patch(thread=False)"),
)


def check_real() -> None:
    """Raise ConfigError if gevent or eventlet has replaced the threads of this process."""
    for name, module, asks, what, remedy in _GREEN:
        is_patched = getattr(sys.modules.get(module), asks, None)
        if is_patched is not None and is_patched(what):
            raise ConfigError(
                f"{name} has replaced the threads of this process, and a node needs real ones: "
                f"leave them as they are with {name}.{remedy}, or run the node in another process"
            )


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


def after(seconds: float, late: Callable[[], object], *, unless: Lead | Promise) -> None:
    """Call `late` after so many seconds on a daemon thread, unless something ends before.

    If the process can have no more threads, it is not called: those who wait go on waiting.
    """
    timer = threading.Timer(seconds, late)
    timer.name, timer.daemon = "kamacache-late", True
    with suppress(RuntimeError):
        timer.start()
    if not unless.wake(timer.cancel):
        timer.cancel()
