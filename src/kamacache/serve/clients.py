"""The requests of clients: Redis clients, foreign gRPC clients, the command line.

Each request is a task on an event loop of a thread of its own. So waiting for a slow load costs no thread, and the
requests of peers (peers.py) never queue behind those of clients. The task of a client that is gone is cancelled; a load
or a write under way goes on, and a load that has not begun is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kamacache._engine import Promise, count_misses
from kamacache.errors import (
    CodecError,
    GroupClosed,
    InvalidKey,
    KamaCacheError,
    LoadError,
    NodeClosed,
    Overloaded,
    PeerError,
    UnknownGroup,
    ValueTooLarge,
)
from kamacache.load.loop import HomeLoop
from kamacache.log import log
from kamacache.net.messages import ClientReply, ClientRequest, WriteRequest
from kamacache.serve.admin import Administration
from kamacache.serve.scripts import Scripts
from kamacache.serve.writes import ClientWrites, Refusal, by_group
from kamacache.steps import Wait, adrive, whole

if TYPE_CHECKING:
    import asyncio

    from kamacache.core import GroupCore
    from kamacache.deadline import Deadline
    from kamacache.net.lane import Call
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime

MOST = 1_000  # requests under way
_GETS = ("get", "kc.load")  # the second is the command line's, which shows the text of a failure
_TEXT = 1_000  # characters of it
_LOOK = 0.25  # seconds between looks for clients that are gone
_STATUS: dict[str, tuple[type[Exception], ...]] = {
    "overloaded": (Overloaded,),
    "unknown_group": (UnknownGroup, GroupClosed),
    "closed": (NodeClosed,),
}


class Clients:
    """Answer clients. `groups` are the node's by name."""

    def __init__(self, runtime: Runtime, groups: Mapping[str, GroupCore], options: NodeOptions) -> None:
        self._runtime = runtime
        self._cores = groups
        self._administration = Administration(runtime, groups, options)
        self._handlers = ClientWrites(groups, self._core).handlers | Scripts(self._core).handlers
        self._loop = HomeLoop("kamacache-clients")
        self._under_way: set[Promise] = set()  # ends of requests; changes in single steps
        self._calls: dict[asyncio.Task[Any], Call] = {}  # the same requests; used on the loop's thread alone
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, call: Call, request: ClientRequest) -> None:
        """Answer a call later; Overloaded, NodeClosed."""
        if len(self._under_way) >= MOST:
            raise Overloaded(f"{MOST:,} requests of clients wait here")
        self._begin(lambda: self._serve(call, request))

    def inherit(self, call: Call, request: WriteRequest, core: GroupCore) -> None:
        """Answer a peer after owners before this node were asked, which waits for them."""
        self._begin(lambda: self._inherit(call, request, core))

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin to answer; `drain` waits for the end."""
        served = self._loop.spawn(work)
        self._under_way.add(served)
        if not served.wake(lambda: self._under_way.discard(served)):
            self._under_way.discard(served)

    async def _inherit(self, call: Call, request: WriteRequest, core: GroupCore) -> None:
        try:
            call.reply(await whole(core.decisions.inherited(request)))
        except Exception as error:  # noqa: BLE001 - the peer gets its type
            call.fail(*_refusal(error))

    def drain(self, deadline: Deadline) -> None:
        """Wait until all clients have their answers, until the deadline at the latest."""
        with suppress(TimeoutError):
            while under_way := list(self._under_way):
                Wait(under_way[0], deadline).run()

    def close(self) -> None:
        """Drop the clients that still wait, and end the thread."""
        self._loop.close()

    async def _serve(self, call: Call, request: ClientRequest) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._calls[task] = call
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._drop_gone)
        try:
            call.reply(await self._answer(request))
        except asyncio.CancelledError:
            pass  # the client is gone, or the node is closing
        except Exception as error:  # noqa: BLE001 - the client gets its type
            self._note(request, error)
            status, text = _refusal(error)
            if status == "load" and request.command == "kc.load":
                text = str(error)[:_TEXT]
            call.fail(status, text)
        finally:
            del self._calls[task]

    def _note(self, request: ClientRequest, error: Exception) -> None:
        """Log the failure of a loader that ran here. The client learns no more than its type."""
        if isinstance(error, LoadError) and request.keys and (core := self._cores.get(request.keys[0][0])) is not None:
            core.failures.note(error.key or request.keys[0][1], error.__cause__)

    def _drop_gone(self) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        for task, call in self._calls.items():
            if call.gone:
                task.cancel()
        again = bool(self._calls)
        self._timer = asyncio.get_running_loop().call_later(_LOOK, self._drop_gone) if again else None

    async def _answer(self, request: ClientRequest) -> ClientReply:
        keys = request.keys
        if request.command in _GETS:
            return ClientReply(await self._get(keys))
        handler = self._handlers.get(request.command)
        if handler is None:
            return ClientReply([await self._administration.answer(request.command, request.arguments)])
        return await handler(request)

    def _core(self, name: str) -> GroupCore:
        core = self._cores.get(name)
        if core is None:
            raise UnknownGroup(f"no group {name!r} here")
        core.misses.check_open()
        return core

    async def _get(self, keys: Iterable[tuple[str, str]]) -> list[bytes | None]:
        """Do what Group.get and get_many do after a miss, but return the bytes as they are."""
        found: dict[tuple[str, str], bytes | None] = {}
        for name, asked in by_group(keys).items():
            core = self._core(name)
            count_misses(core.store, asked)
            if len(asked) == 1:
                found[name, asked[0]] = await adrive(core.misses.path(asked[0], raw=True))
            else:
                values: dict[str, bytes] = {}
                await adrive(core.misses.get_many(asked, values, {}, raw=True))
                found |= {(name, key): value for key, value in values.items()}
        return [found.get(key) for key in keys]


def _refusal(error: Exception) -> tuple[str, str]:
    """Return the status and the text for a client: our own texts, and of users' exceptions the type alone."""
    kind = type(error).__name__
    if isinstance(error, LoadError):
        return "load", error.cause_type if type(error) is LoadError and error.cause_type else kind
    if isinstance(error, CodecError):
        return "invalid", f"{kind}: the group's codec cannot read this value"
    if isinstance(error, ValueTooLarge | InvalidKey | PeerError | Refusal):
        return "invalid", str(error) if isinstance(error, Refusal) else f"{kind}: {error}"
    for status, kinds in _STATUS.items():
        if isinstance(error, kinds):
            return status, str(error)
    if not isinstance(error, KamaCacheError):
        text = "a request of a client failed inside the library; the client gets an error"
        log.error(text, exc_info=error, error=error)
    return "internal", kind
