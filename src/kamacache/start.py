"""The start of a node: one at a time, undone if it fails, made by itself at the first call that needs the node."""

# ruff: noqa: SLF001 - this file is the node's

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache._engine import Promise
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.errors import NodeClosed
from kamacache.log import log
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.node import Node

JOIN_TIMEOUT = 5.0  # seconds that a start waits until the node has joined
GOODBYE = 1.0  # seconds to say goodbye
AUTO_TIMEOUT = 1.0  # seconds that all calls together wait for a node that starts by itself


class Start:
    """Start a node. `done` is True once it has started."""

    def __init__(self, node: Node) -> None:
        self.done = False
        self._node = node
        # Reentrant, for a signal handler or a finaliser on the thread that holds one of these locks.
        self._one = threading.RLock()  # held by the start under way
        self._thread: int | None = None  # the thread of that start
        self._lock = threading.RLock()  # guards _waiting
        self._waiting: Wait | None = None
        self._ended = Bell()

    @property
    def is_here(self) -> bool:
        """Return whether the calling thread starts the node already, as in a signal handler or a finaliser."""
        return self._thread == threading.get_ident()

    def run(self) -> None:
        """Start the node on this thread, unless it has started."""
        if self.is_here:
            return
        try:
            with self._one:
                joined = self._run()
        except Exception as error:
            if self._node._closed:
                raise NodeClosed("the node was closed") from error
            raise
        finally:
            if self._node._closed:  # meanwhile; that close left the rest to this thread
                self._node._end()
        if self._node._closed:
            raise NodeClosed("the node was closed")
        if not joined:
            log.warning("%r has not joined within %g s and goes on trying", self._node, JOIN_TIMEOUT)

    def _run(self) -> bool:
        if self.done or self._node._closed:
            return True
        self._thread = threading.get_ident()
        try:
            joined = self._node._open(Deadline.after(JOIN_TIMEOUT))
            self.done = True
        except BaseException:
            self._undo(self._node)
            raise
        finally:
            self._thread = None
        return joined

    def _undo(self, node: Node) -> None:
        """Close what a failed start has opened, and make new parts for another start."""
        node._membership.stop()
        node._membership.leave(Deadline.after(GOODBYE))
        lane = node._runtime.lane
        node._runtime.lane = lane.renewed()
        lane.close()
        node._membership.deregister()  # a second time: now that nothing listens
        node._sweeper.close()
        node._bound = node._listens = node._address = None
        node._meet()
        node._groups.meet(node._membership)

    def begin(self) -> Wait:
        """Start the node on a thread, if none does, and return the step that waits for it; TimeoutError.

        The thread logs the first error and tries again. All callers together wait for one second.
        """
        with self._lock:
            if self._waiting is None:
                started = Promise()
                thread.start("kamacache-start", self._retry, started)
                self._waiting = Wait(started, Deadline.after(AUTO_TIMEOUT))
            return self._waiting

    def _retry(self, started: Promise) -> None:
        logged = False
        while True:
            try:
                self.run()
                break
            except NodeClosed:
                break
            except Exception as error:  # noqa: BLE001 - a registry of the user's may raise anything
                if not logged:
                    log.warning("%r cannot start, and goes on trying: %s", self._node, error)
                logged = True
            if self._ended.wait(Deadline.after(AUTO_TIMEOUT)):
                break
        started.set_result(None)

    def stop(self, deadline: Deadline) -> None:
        """Stop trying, and wait for a start under way on another thread."""
        self._ended.ring()
        if self._one.acquire(timeout=deadline.left()):
            self._one.release()
