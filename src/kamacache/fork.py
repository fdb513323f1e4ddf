"""Handle fork, drop and exit: a forked child joins as a new member; a node that is no longer used is closed."""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from kamacache import _engine, thread
from kamacache.errors import Overloaded

if TYPE_CHECKING:
    from kamacache.node import Node

nodes: WeakSet[Node] = WeakSet()  # to be renewed in a forked child, and closed at exit
_AT_EXIT = 1.5  # seconds to send pending writes, and to hand over
_TOGETHER = 10.0  # seconds


def drop(node: Node) -> None:
    """Warn that the program has dropped a node without closing it, and close it."""
    import warnings  # noqa: PLC0415 - rarely needed

    text = f"{node!r} was dropped without close()"
    with suppress(Overloaded):  # called by the garbage collector in any thread, which must not wait
        thread.start("kamacache-drop", node.close, _AT_EXIT)
    warnings.warn(text, ResourceWarning, source=node, stacklevel=3)


def is_replaced(parted: tuple[str, float]) -> bool:
    """Return whether a node should wait for others to come: a member of another process has just left, or is leaving.

    A server that reloads ends its old workers together, while the new ones start.
    """
    member, when = parted
    return _engine.monotonic() - when < _TOGETHER and member not in {node.id for node in list(nodes)}


def free_address(listen: str | None) -> str | None:
    """Return the address on which a forked child listens, given the address of its parent."""
    if listen is None:
        return None
    if listen.startswith("unix:"):
        return f"{listen}.{os.getpid()}"
    return listen.rpartition(":")[0] + ":0"


def advertised(advertise: str | None, bound: str, *, forked: bool) -> str:
    """Return the address that others use: the user's, in a forked child with the child's own port."""
    if advertise is None or not forked:
        return advertise or bound
    return f"{advertise.rpartition(':')[0]}:{bound.rpartition(':')[2]}"


def _in_child() -> None:
    _engine.after_fork_in_child()
    for node in list(nodes):
        node._after_fork_in_child()  # noqa: SLF001 - not for users


def _at_exit() -> None:
    for node in list(nodes):
        node.close(drain=_AT_EXIT)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
