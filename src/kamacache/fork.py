"""Begin and end lives of nodes: after a fork, by a start after close, when a node is dropped, and at exit.

A child of multiprocessing ends by os._exit, without atexit. It runs the finalizers of multiprocessing.util instead:
first those with a priority of 0 and above; then it joins its own children; and last come the others.
"""

# ruff: noqa: SLF001 - this file is the node's

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING
from weakref import WeakSet

from kamacache import _engine, thread
from kamacache.errors import CLOSED, NodeClosed, Overloaded

if TYPE_CHECKING:
    from kamacache.node import Node

nodes: WeakSet[Node] = WeakSet()  # to be renewed in a forked child, and closed at exit
_AT_EXIT = 1.5  # seconds to send pending writes, and to hand over
_TOGETHER = 10.0  # seconds
_LAST = -100  # the priority of a finalizer that runs after those of pools and queues, the least of which has -5
_exiting = False  # from now on no closed node begins a new life
_ends_known = False  # multiprocessing.util knows what to do at the end of its children


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


def revive(node: Node) -> None:
    """Begin a new life of a closed node, once its close is over. Of several threads one does it. Raises NodeClosed."""
    life = node._start
    if not life.closed:
        return
    life.wait_for_end()
    with node._lock:
        if _exiting:
            raise NodeClosed("the node was closed because the process ends")
        if node._start is life:
            node._find_registry()
            node._live(node._runtime.lane.renewed())


def _renew(node: Node) -> None:
    """Become a new member: the threads, sockets and locks of the parent cannot be used here. A closed node stays so."""
    closed = node._closed
    if node._registry is not None:
        node._registry.after_fork_in_child()
    node._listen = free_address(node._listen)
    node._forked = True
    node._groups.after_fork_in_child()
    node._live(node._runtime.lane.renewed())
    if closed:
        node._start.closed = True
        node._groups.close_all(NodeClosed(CLOSED))
        node._start.ended.set_result(None)


def _in_child() -> None:
    _engine.after_fork_in_child()
    for node in list(nodes):
        _renew(node)


def _at_exit() -> None:
    global _exiting  # noqa: PLW0603 - a process ends once
    _exiting = True
    for node in list(nodes):
        node.close(drain=_AT_EXIT)


def close_in_children() -> None:
    """Have nodes closed at the end of each child of multiprocessing, which this process may be.

    A process in which that module was never loaded is none, and loads none for this.
    """
    global _ends_known  # noqa: PLW0603 - forked children inherit it, as they do what multiprocessing.util knows
    if _ends_known or "multiprocessing.util" not in sys.modules:
        return
    from multiprocessing import parent_process, util  # noqa: PLC0415 - they are loaded

    _ends_known = True
    util.register_after_fork(nodes, _close_at_end)  # a child that begins drops all finalizers, and runs this
    if parent_process() is not None:
        _close_at_end(nodes)


def _close_at_end(_: object) -> None:
    from multiprocessing import util  # noqa: PLC0415 - it is loaded

    util.Finalize(None, _at_exit, exitpriority=_LAST)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
