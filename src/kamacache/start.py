"""The start of a node, and the end: one start at a time, undone if it fails, made by itself at the first call.

Each life of a node has a Start of its own. So a thread of a life that has ended cannot start, undo or end a later one.
"""

# ruff: noqa: SLF001 - this file is the node's

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from kamacache import thread
from kamacache._engine import Promise
from kamacache.bell import Bell
from kamacache.deadline import Deadline
from kamacache.errors import CLOSED, NodeClosed
from kamacache.log import log
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.node import Node

JOIN_TIMEOUT = 5.0  # seconds that a start waits until the node has joined
GOODBYE = 1.0  # seconds to say goodbye
AUTO_TIMEOUT = 1.0  # seconds that all calls together wait for a node that starts by itself


class Start:
    """Start a node for one life. `done` is True once it has started, `closed` once it is closed, which is for good."""

    def __init__(self, node: Node) -> None:
        self.done = False
        self.closed = False
        self.ended = Promise()  # all parts of this life are closed
        self.closer: int | None = None  # the thread that closes the node
        self._node = node
        self._runtime = node._runtime  # of this life
        # Reentrant, for a signal handler or a finaliser on the thread that holds one of these locks.
        self._one = threading.RLock()  # held by the start under way
        self._thread: int | None = None  # the thread of that start
        self._lock = threading.RLock()  # guards _waiting
        self._waiting: Wait | None = None
        self._stopped = Bell()

    @property
    def is_here(self) -> bool:
        """Return whether the calling thread starts the node already, as in a signal handler or a finaliser."""
        return self._thread == threading.get_ident()

    @property
    def refusal(self) -> NodeClosed | None:
        """Return the error of every call of the closed node; None if it is open."""
        return NodeClosed(CLOSED) if self.closed else None

    def wait_for_end(self) -> None:
        """Wait until all parts of this life, which is closed, are closed, and no start of it is under way.

        Raises NodeClosed on the thread that is to do this: in a signal handler or a finaliser.
        """
        if not self.ended.ended and threading.get_ident() in (self.closer, self._thread):
            raise NodeClosed("the node is being closed on this thread; it can be started when that is done")
        Wait(self.ended, Deadline.after(None)).run()
        with self._one:
            pass

    def run(self) -> None:
        """Start the node on this thread, unless it has started."""
        if self.is_here:
            return
        try:
            with self._one:
                joined = self._run()
        except Exception as error:
            if self.closed:
                raise NodeClosed("the node was closed") from error
            raise
        finally:
            if self.closed:  # meanwhile; that close left the rest to this thread
                self.end()
        if self.closed:
            raise NodeClosed("the node was closed")
        if not joined:
            text = "%(node)s has not joined within %(seconds)g s and goes on trying"
            log.warning(text, node=repr(self._node), seconds=JOIN_TIMEOUT)

    def _run(self) -> bool:
        if self.done or self.closed:
            return True
        self._thread = threading.get_ident()
        try:
            joined = self._node._open(Deadline.after(JOIN_TIMEOUT))
            self.done = True
            self._runtime.refused = None
            if self.closed:  # meanwhile, and the close has waited for a second only: it may have deregistered too early
                self._node._membership.deregister()
                if self.ended.ended and self._node._registry is not None:
                    self._node._registry.close()
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

    def end(self) -> None:
        """Close everything that `close` has stopped, once. An interrupt ends one step, and the next ones follow."""
        if not self.ended.begin():
            return
        self.closer = threading.get_ident()  # it may be a thread whose get would have started the node
        node = self._node
        steps: list[Callable[[], object]] = [
            partial(node._membership.leave, Deadline.after(GOODBYE)),
            partial(node._serving.drain, node._drained),
            partial(node._groups.close_all, NodeClosed(CLOSED)),
            *(node._serving.close, node._runtime.lane.close, node._runtime.close, node._sweeper.close),
            *([] if node._registry is None else [node._registry.close]),
            partial(self.ended.set_result, None),
        ]
        with ExitStack() as stack:
            for step in reversed(steps):
                stack.callback(step)

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
                    text = "%(node)s cannot start, and goes on trying: %(error)s"
                    log.warning(text, node=repr(self._node), error=error)
                logged = True
                self._runtime.refused = error.with_traceback(None)  # its frames would keep the node alive
            if self._stopped.wait(Deadline.after(AUTO_TIMEOUT)):
                break
        started.set_result(None)

    def stop(self, deadline: Deadline) -> None:
        """Stop trying, and wait for a start under way on another thread."""
        self._stopped.ring()
        if self._one.acquire(timeout=deadline.left()):
            self._one.release()
