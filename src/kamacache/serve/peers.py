"""The requests of peers. They come in on the lane's thread, which never waits: loads go to the pool or the home loop.

The requests of clients go on to clients.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from kamacache._engine import Promise
from kamacache.errors import GroupClosed, KamaCacheError, NodeClosed, NoLoader, Overloaded, PeerError, UnknownGroup
from kamacache.load.flight import MAX_DEPTH, Holder
from kamacache.load.grant import Granting
from kamacache.load.outcome import SERVED
from kamacache.log import log
from kamacache.net.messages import (
    ClientRequest,
    FillRequest,
    Hello,
    LoadReply,
    LoadRequest,
    TellReply,
    TellRequest,
    WriteRequest,
)
from kamacache.serve.loads import ServedLoad
from kamacache.serve.metrics import render
from kamacache.steps import Wait

if TYPE_CHECKING:
    from kamacache.cluster.peers import Peer
    from kamacache.core import GroupCore
    from kamacache.deadline import Deadline
    from kamacache.net.lane import Call
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime
    from kamacache.serve.clients import Clients


class Serving:
    """Answer the calls of peers, and pass those of clients to Clients. `groups` are the node's by name."""

    def __init__(self, runtime: Runtime, groups: Mapping[str, GroupCore], options: NodeOptions) -> None:
        self._runtime = runtime
        self._cores = groups
        self._options = options
        self._clients: Clients | None = None  # made for the first, on the lane's thread
        self._closed = False
        self._under_way: set[Promise] = set()  # ends of loads for peers; changes in single steps

    def publish(self, *addresses: str | None) -> None:
        """Answer over HTTP to the names in these addresses."""
        hosts = [address.rpartition(":")[0] for address in addresses if address is not None]
        names = [host for host in hosts if host != "unix"]
        self._runtime.lane.publish(names, lambda: render(self._cores, self._runtime))

    def receive(self, call: Call) -> None:
        """Answer a call at once, or, if it is for a load, when that ends."""
        try:
            self._answer(call)
        except (UnknownGroup, GroupClosed) as error:
            call.fail("unknown_group", str(error))
        except Overloaded as error:
            call.fail("overloaded", str(error))
        except (NodeClosed, PeerError) as error:
            call.fail("closed", str(error))
        except Exception as error:
            log.exception("a request of a peer failed inside the library; the peer gets an error")
            call.fail("internal", type(error).__name__)

    def _answer(self, call: Call) -> None:
        message = call.message
        if isinstance(message, Hello):
            call.reply(self._runtime.membership.greeted_by(message))
        elif isinstance(message, LoadRequest):
            self._load(call, message)
        elif isinstance(message, FillRequest):
            self._runtime.saw(message.clock)
            call.reply(self._core(message.group).misses.local.loaded.fill(message))
        elif isinstance(message, WriteRequest) and message.inherit:
            self._answering_clients().inherit(call, message, self._core(message.group))
        elif isinstance(message, WriteRequest) and any(item.terms for item in message.items):
            call.reply(self._core(message.group).decisions.answered(message))
        elif isinstance(message, WriteRequest):
            call.reply(self._core(message.group).writes.ordered(message))
        elif isinstance(message, TellRequest):
            call.reply(self._tell(message))
        elif isinstance(message, ClientRequest):
            self._answering_clients().receive(call, message)

    def _core(self, name: str) -> GroupCore:
        core = self._cores.get(name)
        if core is None:
            raise UnknownGroup(f"there is no group {name!r} on this node")
        return core

    def _tell(self, request: TellRequest) -> TellReply:
        core = self._cores.get(request.group)
        if core is None:  # there is nothing to drop
            self._runtime.saw(request.clock)
            return TellReply([0] * len(request.writes), clock=self._runtime.hlc.latest())
        return core.writes.told(request)

    def _load(self, call: Call, request: LoadRequest) -> None:
        if self._runtime.client:
            raise UnknownGroup("this node is a client node: it loads for no other")
        core = self._core(request.group)
        self._runtime.saw(request.clock)
        core.misses.unread.told(request.keys, request.unread)
        skipped = self._runtime.membership.peers.by_id(request.skipped)
        granting = self._granting(core, request, skipped) if request.lease else None
        depth, gone = min(request.depth, MAX_DEPTH - 1), lambda: call.gone
        context = self._runtime.carried.context(request.context)

        def load() -> ServedLoad:
            return ServedLoad(
                core, request.keys, skipped, depth, gone, context, granting, at_once=request.at_once, anew=request.anew
            )

        telemetry = self._runtime.telemetry
        served = load() if telemetry is None else telemetry.serve(request, context, load)
        call.accept()
        core.store.count(SERVED, len(request.keys))
        done = Promise()
        self._under_way.add(done)

        def reply() -> None:
            try:
                self._reply(call, served.answer)
            finally:  # after the answer, which a close must not overtake
                self._under_way.discard(done)
                done.set_result(None)

        if not served.answer.wake(reply):
            reply()

    def _granting(self, core: GroupCore, request: LoadRequest, skipped: Mapping[str, Peer]) -> Granting:
        """Return what grants leases to the asker."""
        peer = self._runtime.membership.peers.by_id([request.holder]).get(request.holder)
        holder = Holder(request.holder, peer, core.options.load_timeout)
        return Granting(core.misses.local.loaded.leases, request.lease, holder, skipped, self._runtime.clock)

    def drain(self, deadline: Deadline) -> None:
        """Wait until peers and clients have their answers, until the deadline at the latest."""
        with suppress(TimeoutError):
            while under_way := list(self._under_way):
                Wait(under_way[0], deadline).run()
        if self._clients is not None:
            self._clients.drain(deadline)

    def close(self) -> None:
        """Drop the clients that still wait."""
        self._closed = True
        if self._clients is not None:
            self._clients.close()

    def _answering_clients(self) -> Clients:
        from kamacache.serve.clients import Clients  # noqa: PLC0415 - most nodes have none

        if self._clients is None:
            self._clients = Clients(self._runtime, self._cores, self._options)
            if self._closed:  # by another thread, which may have looked for clients before
                self._clients.close()
        return self._clients

    def _reply(self, call: Call, answer: Promise) -> None:
        try:
            call.reply(LoadReply(answer.result(), self._runtime.hlc.latest()))
        except (GroupClosed, NoLoader) as error:
            call.fail("unknown_group", str(error))
        except KamaCacheError as error:
            call.fail("closed", str(error))
        except BaseException as error:  # noqa: BLE001 - it belongs to the peer; the thread of the load has raised it
            call.fail("closed", type(error).__name__)
