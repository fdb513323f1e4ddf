"""What peers ask of this node, on the lane's thread, which never waits: loads go to the pool or the home loop.

What clients ask goes to clients.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kamacache.deadline import Deadline
from kamacache.errors import GroupClosed, KamaCacheError, NodeClosed, Overloaded, UnknownGroup
from kamacache.load.flight import MAX_DEPTH
from kamacache.load.outcome import SERVED
from kamacache.net.messages import (
    ClientRequest,
    Hello,
    LoadReply,
    LoadRequest,
    TellReply,
    TellRequest,
    WriteReply,
    WriteRequest,
)
from kamacache.serve.loads import ServedLoad
from kamacache.serve.metrics import render

if TYPE_CHECKING:
    from kamacache._engine import Promise
    from kamacache.core import GroupCore
    from kamacache.deadline import Deadline
    from kamacache.net.lane import Call
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime
    from kamacache.serve.clients import Clients

log = logging.getLogger("kamacache")


class Serving:
    """Answers the calls of peers, and has Clients answer those of clients. `groups` are the node's by name."""

    def __init__(self, runtime: Runtime, groups: Mapping[str, GroupCore], options: NodeOptions) -> None:
        self._runtime = runtime
        self._cores = groups
        self._find = groups.get
        self._options = options
        self._clients: Clients | None = None  # made for the first; guarded by _idle, as is _closed
        self._closed = False
        self._idle = threading.Condition()
        self._serving = 0  # loads for peers under way; guarded by _idle

    def publish(self, *addresses: str | None) -> None:
        """Answer over HTTP, under the names in these addresses."""
        hosts = [address.rpartition(":")[0] for address in addresses if address is not None]
        names = [host for host in hosts if host != "unix"]
        self._runtime.lane.publish(names, lambda: render(self._cores, self._runtime))

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
        elif isinstance(message, ClientRequest):
            self._answering_clients().receive(call, message)

    def _core(self, name: str) -> GroupCore:
        core = self._find(name)
        if core is None:
            raise UnknownGroup(f"there is no group {name!r} on this node")
        return core

    def _write(self, request: WriteRequest) -> WriteReply:
        return self._core(request.group).writes.ordered(request)

    def _tell(self, request: TellRequest) -> TellReply:
        core = self._find(request.group)
        if core is None:  # nothing of it is held here
            self._runtime.saw(request.clock)
            return TellReply([0] * len(request.writes), clock=self._runtime.hlc.latest())
        return core.writes.told(request)

    def _load(self, call: Call, request: LoadRequest) -> None:
        core = self._core(request.group)
        self._runtime.saw(request.clock)
        skipped = self._runtime.membership.peers.by_id(request.skipped)
        served = ServedLoad(core, request.keys, skipped, min(request.depth, MAX_DEPTH - 1))
        call.accept()
        core.store.count(SERVED, len(request.keys))
        with self._idle:
            self._serving += 1
        if not served.answer.wake(lambda: self._reply(call, served.answer)):
            self._reply(call, served.answer)

    def drain(self, deadline: Deadline) -> None:
        """Wait until the loads for peers are done and the clients answered, at the latest until the deadline."""
        with self._idle:
            while self._serving and (left := deadline.left()) > 0:
                self._idle.wait(left)
        if self._clients is not None:
            self._clients.drain(deadline)

    def close(self) -> None:
        """Drop the clients that still wait."""
        with self._idle:
            self._closed = True
            clients = self._clients
        if clients is not None:
            clients.close()

    def _answering_clients(self) -> Clients:
        from kamacache.serve.clients import Clients  # noqa: PLC0415 - most nodes have none

        with self._idle:
            if self._closed:
                raise NodeClosed("the node was closed")
            if self._clients is None:
                self._clients = Clients(self._runtime, self._cores, self._options)
            return self._clients

    def _reply(self, call: Call, answer: Promise) -> None:
        try:
            call.reply(LoadReply(answer.result(), self._runtime.hlc.latest()))
        except GroupClosed as error:
            call.fail("unknown_group", str(error))
        except KamaCacheError as error:
            call.fail("closed", str(error))
        except BaseException as error:  # noqa: BLE001 - the peer is told; the work's own thread has raised it
            call.fail("closed", type(error).__name__)
        finally:
            with self._idle:  # after the answer, which a close must not overtake
                self._serving -= 1
                self._idle.notify_all()
