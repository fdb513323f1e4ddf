"""The requests of clients: Redis clients, foreign gRPC clients, the command line.

Each request is a task on an event loop of a thread of its own. So waiting for a slow load costs no thread, and the
requests of peers (peers.py) never queue behind those of clients. The task of a client that is gone is cancelled; a load
or a write under way goes on, and a load that has not begun is dropped.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from kamacache import codecs
from kamacache._engine import Promise, Store
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
from kamacache.load.outcome import GETS
from kamacache.net.messages import ClientReply, ClientRequest, WriteItem
from kamacache.packed import Packed, unpacked
from kamacache.serve.admin import Administration
from kamacache.steps import Wait, adrive, whole

if TYPE_CHECKING:
    import asyncio

    from kamacache.core import GroupCore
    from kamacache.deadline import Deadline
    from kamacache.net.lane import Call
    from kamacache.options import NodeOptions
    from kamacache.runtime import Runtime

log = logging.getLogger("kamacache")

MOST = 1_000  # requests under way
_LOOK = 0.25  # seconds between looks for clients that are gone
NOT_THERE, FOR_EVER = -2, -1  # as Redis answers TTL
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
        self._loop = HomeLoop("kamacache-clients")
        self._under_way: set[Promise] = set()  # ends of requests; changes in single steps
        self._calls: dict[asyncio.Task[Any], Call] = {}  # the same requests; used on the loop's thread alone
        self._timer: asyncio.TimerHandle | None = None

    def receive(self, call: Call, request: ClientRequest) -> None:
        """Answer a call later; Overloaded, NodeClosed."""
        if len(self._under_way) >= MOST:
            raise Overloaded(f"{MOST:,} requests of clients wait here")
        served = self._loop.spawn(lambda: self._serve(call, request))
        self._under_way.add(served)
        if not served.wake(lambda: self._under_way.discard(served)):
            self._under_way.discard(served)

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
            call.fail(*_refusal(error))
        finally:
            del self._calls[task]

    def _drop_gone(self) -> None:
        import asyncio  # noqa: PLC0415 - it is running

        for task, call in self._calls.items():
            if call.gone:
                task.cancel()
        again = bool(self._calls)
        self._timer = asyncio.get_running_loop().call_later(_LOOK, self._drop_gone) if again else None

    async def _answer(self, request: ClientRequest) -> ClientReply:
        keys = request.keys
        if request.command == "get":
            return ClientReply(await self._get(keys))
        if request.command == "set":
            await self._set(request)
        elif request.command == "del":
            await self._delete(keys)
            return ClientReply(number=len(keys))
        elif request.command == "exists":
            return ClientReply(number=sum([await self._remaining(*key) != NOT_THERE for key in keys]))
        elif request.command == "ttl":
            return ClientReply(number=await self._remaining(*keys[0]))
        else:
            return ClientReply([await self._administration.answer(request.command, request.arguments)])
        return ClientReply()

    def _core(self, name: str) -> GroupCore:
        core = self._cores.get(name)
        if core is None:
            raise UnknownGroup(f"no group {name!r} here")
        core.misses.check_open()
        return core

    async def _get(self, keys: Iterable[tuple[str, str]]) -> list[bytes | None]:
        """Do what Group.get and get_many do after a miss, but return the bytes as they are."""
        found: dict[tuple[str, str], bytes | None] = {}
        for name, asked in _by_group(keys).items():
            core = self._core(name)
            core.store.count(GETS, len(asked))
            if len(asked) == 1:
                found[name, asked[0]] = await adrive(core.misses.path(asked[0], raw=True))
            else:
                values: dict[str, bytes] = {}
                await adrive(core.misses.get_many(asked, values, {}, raw=True))
                found |= {(name, key): value for key, value in values.items()}
        return [found.get(key) for key in keys]

    async def _set(self, request: ClientRequest) -> None:
        assert request.value is not None  # noqa: S101 - the engine sends it with each set
        name, key = request.keys[0]
        core = self._core(name)
        codec = core.options.codec
        codecs.decode(unpacked(codec), request.value)  # refuses what no get could read
        value = codecs.encode(codec.of_bytes(), request.value) if isinstance(codec, Packed) else request.value
        ttl = core.options.ttl if request.ttl is None else request.ttl
        await whole(core.write([core.item(key, value, ttl)]))

    async def _delete(self, keys: Iterable[tuple[str, str]]) -> None:
        by_group = _by_group(keys)
        every = [(self._core(name), keys) for name, keys in by_group.items()]  # if one is missing, nothing is done
        for core, asked in every:
            await whole(core.write([WriteItem(key, None) for key in asked]))

    async def _remaining(self, name: str, key: str) -> int:
        """Return the milliseconds left to the copy in its owner's memory, FOR_EVER or NOT_THERE. Load nothing."""
        core = self._core(name)
        await adrive(core.misses.wait_for_writes((key,)))
        skipped: set[str] = set()
        while (owner := self._runtime.route(name).first(key, skipped)) is not None:
            try:
                found = await self._runtime.lane.apeek(owner.address, name, key)
            except (PeerError, UnknownGroup) as error:
                self._runtime.suspect(owner, error)
                skipped.add(owner.id)
            else:
                break
        else:
            found = core.store.find(key)
            if found is not None and found[3] == Store.FORMER:
                found = None
        if found is None or found[0] is None:
            return NOT_THERE
        return FOR_EVER if found[2] is None else int(found[2] * 1000)


def _by_group(keys: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the keys of each group, every key once."""
    by_group: dict[str, list[str]] = defaultdict(list)
    for name, key in dict.fromkeys(keys):
        by_group[name].append(key)
    return by_group


def _refusal(error: Exception) -> tuple[str, str]:
    """Return the status and the text for a client: our own texts, and of users' exceptions the type alone."""
    kind = type(error).__name__
    if isinstance(error, LoadError):
        return "load", error.cause_type if type(error) is LoadError and error.cause_type else kind
    if isinstance(error, CodecError):
        return "invalid", f"{kind}: the group's codec cannot read this value"
    if isinstance(error, ValueTooLarge | InvalidKey):
        return "invalid", f"{kind}: {error}"
    for status, kinds in _STATUS.items():
        if isinstance(error, kinds):
            return status, str(error)
    if not isinstance(error, KamaCacheError):
        log.error("a request of a client failed inside the library; the client gets an error", exc_info=error)
    return "internal", kind
