"""Nodes across fork and exit: a forked child joins as a new member, a process that ends says goodbye."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING
from weakref import WeakSet

from kamacache import _engine

if TYPE_CHECKING:
    from kamacache.node import Node

_nodes: WeakSet[Node] = WeakSet()
_AT_EXIT = 0.5  # seconds for pending writes


def keep(node: Node) -> None:
    """Have a node looked after from now on."""
    _nodes.add(node)


def free_address(listen: str | None) -> str | None:
    """Where a child listens whose parent has this address."""
    if listen is None:
        return None
    if listen.startswith("unix:"):
        return f"{listen}.{os.getpid()}"
    return listen.rpartition(":")[0] + ":0"


def advertised(advertise: str | None, bound: str, *, forked: bool) -> str:
    """The address to tell others: the user's, in a child with the child's own port."""
    if advertise is None or not forked:
        return advertise or bound
    return f"{advertise.rpartition(':')[0]}:{bound.rpartition(':')[2]}"


def _in_child() -> None:
    _engine.after_fork_in_child()
    for node in list(_nodes):
        node.after_fork_in_child()


def _at_exit() -> None:
    for node in list(_nodes):
        node.close(drain=_AT_EXIT)


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
