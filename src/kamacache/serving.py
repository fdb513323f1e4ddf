"""What peers ask of this node, on the lane's thread, which never waits: loads go to the pool or the home loop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from kamacache.errors import GroupClosed, KamaCacheError, NodeClosed, Overloaded, UnknownGroup
from kamacache.loader import MAX_DEPTH
from kamacache.messages import Hello, LoadReply, LoadRequest, TellReply, TellRequest, WriteReply, WriteRequest
from kamacache.outcomes import SERVED
from kamacache.steps import adrive, drive

if TYPE_CHECKING:
    from kamacache.group import Group
    from kamacache.lane import Call
    from kamacache.parts import Parts
    from kamacache.runtime import Runtime

log = logging.getLogger("kamacache")


class Serving:
    """Answers the calls of peers. `find` gives the group of a name, or None."""

    def __init__(self, runtime: Runtime, find: Callable[[str], Group[Any] | None]) -> None:
        self._runtime = runtime
        self._find = find
        self._idle = threading.Condition()
        self._serving = 0  # loads for peers under way; guarded by _idle

    def receive(self, call: Call) -> None:
        """Answer a call, now or, for a load, once it is done."""
        try:
            self._answer(call)
        except (UnknownGroup, GroupClosed) as error:
            call.fail("unknown_group", str(error))
        except Overloaded as error:
            call.fail("overloaded", str(error))
        except NodeClosed as error:
            call.fail("closed", str(error))
        except Exception as error:
            log.exception("a peer's call failed")
            call.fail("internal", type(error).__name__)

    def _answer(self, call: Call) -> None:
        message = call.message
        if isinstance(message, Hello):
            call.reply(self._runtime.membership.greeted_by(message))
        elif isinstance(message, LoadRequest):
            self._load(call, message)
        elif isinstance(message, WriteRequest):
            call.reply(self._write(message))
        elif isinstance(message, TellRequest):
            call.reply(self._tell(message))

    def _group(self, name: str) -> Group[Any]:
        group = self._find(name)
        if group is None:
            raise UnknownGroup(f"there is no group {name!r} on this node")
        return group

    def _write(self, request: WriteRequest) -> WriteReply:
        return self._group(request.group).parts.writing.ordered(request)

    def _tell(self, request: TellRequest) -> TellReply:
        group = self._find(request.group)
        if group is None:  # nothing of it is held here
            self._runtime.saw(request.clock)
            return TellReply([0] * len(request.writes), clock=self._runtime.hlc.latest())
        return group.parts.writing.told(request)

    def _load(self, call: Call, request: LoadRequest) -> None:
        parts = self._group(request.group).parts
        self._runtime.saw(request.clock)
        work = parts.loading.serve_soon(request.keys) or self._work(parts, request)
        call.accept()
        parts.store.count(SERVED, len(request.keys))
        with self._idle:
            self._serving += 1
        work.add_done_callback(lambda work: self._loaded(call, parts, request, work))

    def _work(self, parts: Parts, request: LoadRequest) -> Future[Any]:
        """Load for a peer: on the home loop, or on a thread; Overloaded."""
        skipped = self._runtime.membership.by_id(request.skipped)
        depth = min(request.depth, MAX_DEPTH - 1)
        path = parts.loading.serve(request.keys, skipped, depth)
        if parts.loading.loader.is_async:
            return self._runtime.home.spawn(adrive(path))
        return self._runtime.pool(depth).submit(lambda: drive(path))

    def _loaded(self, call: Call, parts: Parts, request: LoadRequest, work: Future[Any]) -> None:
        if not work.cancelled() and work.exception() is None and work.result() is None:  # interrupted: lead the next
            try:
                again = self._work(parts, request)
            except KamaCacheError as error:
                again = Future()
                again.set_exception(error)
            again.add_done_callback(lambda work: self._reply(call, work))
        else:
            self._reply(call, work)

    def drain(self, deadline: float) -> None:
        """Wait until the loads for peers are done, or time.monotonic() is at `deadline`."""
        with self._idle:
            while self._serving and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)

    def _reply(self, call: Call, work: Future[Any]) -> None:
        with self._idle:
            self._serving -= 1
            self._idle.notify_all()
        try:
            call.reply(LoadReply(work.result(0), self._runtime.hlc.latest()))
        except GroupClosed as error:
            call.fail("unknown_group", str(error))
        except KamaCacheError as error:
            call.fail("closed", str(error))
        except BaseException as error:  # noqa: BLE001 - the peer is told; the work's own thread has raised it
            call.fail("closed", type(error).__name__)
