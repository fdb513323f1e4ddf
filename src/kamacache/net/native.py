"""The native lane: RESP and gRPC by the engine, a thread for what comes in, a connection per event loop and peer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from kamacache._engine import Incoming, Pipeline, Promise, Remote, Scrape, Security, Store, Transport
from kamacache.errors import NodeClosed, PeerError
from kamacache.net.security import Protection, look_after

if TYPE_CHECKING:
    import asyncio

    from kamacache.cluster.routes import Route
    from kamacache.net.lane import Call, Found, Keep, Lane, PeerTimes, Suspect
    from kamacache.net.messages import Request

log = logging.getLogger("kamacache")

PEEK_TIMEOUT = 0.25  # seconds without a byte
FORMER_TIMEOUT = 0.1
_LEAST_MESSAGE = 64 * 1024 * 1024  # a hello names all recent writes
_ROOM = 64 * 1024  # what a message has around its value
_JOIN = 1.0
_LOOK = 1.0  # seconds between looks at the files of certificates and for wrong passwords


class NativeLane:
    """See Lane. Invariant, under `_lock`: `_links` has one open Link per running loop and address."""

    def __init__(self, *, max_value: int, protection: Protection, security: Security | None = None) -> None:
        self._max_value = max_value
        self._protection = protection
        self._security = security or protection.engine()
        most = max(_LEAST_MESSAGE, 4 * max_value) + _ROOM
        self._transport = Transport(max_message=most, max_value=max_value, security=self._security)
        self._lock = threading.Lock()
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Link]] = WeakKeyDictionary()
        self._thread: threading.Thread | None = None
        self._metrics: Callable[[], str] | None = None
        self._closed = False

    def start(self, listen: str | None, receive: Callable[[Call], None]) -> str | None:
        address = None if listen is None else self._transport.listen(listen)
        if address is not None:
            self._protection.warn(address)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(receive,), name="kamacache-serve", daemon=True)
            self._thread.start()
        return address

    def _run(self, receive: Callable[[Call], None]) -> None:
        look = time.monotonic() + _LOOK
        while not self._closed:
            event = self._transport.next_event(1.0)
            if self._security is not None and time.monotonic() >= look:
                look_after(self._security)
                look = time.monotonic() + _LOOK
            try:
                if isinstance(event, Incoming):
                    receive(event)
                elif isinstance(event, Scrape):
                    if self._metrics is not None:
                        event.reply(self._metrics())
                elif event is not None:
                    promise, result = event
                    if isinstance(result, Exception):
                        promise.set_exception(result)
                    else:
                        promise.set_result(result)
            except Exception:
                log.exception("an event of the wire could not be handled")

    def publish(self, names: list[str], metrics: Callable[[], str]) -> None:
        self._metrics = metrics
        self._transport.answer_to(names)

    def ready(self, ready: bool) -> None:
        self._transport.ready(ready)

    def peer_times(self) -> list[PeerTimes]:
        return self._transport.peer_times()

    def serve(self, store: Store) -> None:
        self._transport.serve(store)

    def hide(self, group: str) -> None:
        self._transport.hide(group)

    def route(self, store: Store, route: Route, keep: Keep | None, suspect: Suspect) -> None:
        placement = route.placement
        if placement is None:
            store.remote = None
            return
        peers = [None if peer is None else (peer.address, peer.down, peer) for peer in route.peers]
        store.remote = Remote(self._transport, placement, peers, timeout=PEEK_TIMEOUT, keep=keep, suspect=suspect)

    def peek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None:
        return self._transport.peek(address, group, key, former, FORMER_TIMEOUT if former else PEEK_TIMEOUT)

    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]:
        timeout = FORMER_TIMEOUT if former else PEEK_TIMEOUT
        return list(self._transport.peek_many(asks, group, former, timeout))

    async def apeek(self, address: str, group: str, key: str, *, former: bool = False) -> Found | None:
        answers = await self._link(address).ask(group, [key], former)
        return answers[0]

    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, *, former: bool = False
    ) -> list[list[Found | None] | Exception]:
        import asyncio  # noqa: PLC0415 - it is running

        answers: list[Any] = await asyncio.gather(
            *(self._aask(address, group, keys, former) for address, keys in asks), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, PeerError):
                raise answer
        return answers

    async def _aask(self, address: str, group: str, keys: list[str], former: bool) -> list[Found | None]:
        return await self._link(address).ask(group, keys, former)

    def _link(self, address: str) -> Link:
        import asyncio  # noqa: PLC0415 - it is running

        loop = asyncio.get_running_loop()
        links = self._links.get(loop)
        link = links.get(address) if links is not None else None
        if link is None or link.closed:
            if self._closed:
                raise NodeClosed("the node was closed")
            link = Link(loop, self._transport, address, guarded=self._security is not None)
            with self._lock:
                self._links.setdefault(loop, {})[address] = link
        return link

    def ping(self, address: str) -> None:
        self._transport.ping(address, PEEK_TIMEOUT)

    def call(self, address: str, message: Request, timeout: float | None) -> Promise:
        promise = Promise()
        try:
            self._transport.call(promise, address, message, timeout)
        except PeerError as error:
            promise.set_exception(error)
        return promise

    def forget(self, address: str, *, finishing: bool = False) -> None:
        self._transport.forget(address, finishing=finishing)
        self._close_links(lambda link: link.address == address)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._close_links(lambda _: True)
        self._transport.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    def _close_links(self, which: Callable[[Link], bool]) -> None:
        with self._lock:
            links = [link for links in self._links.values() for link in links.values() if which(link)]
        for link in links:
            link.close_soon()

    def renewed(self) -> Lane:
        security = None if self._security is None else self._security.renewed()
        return NativeLane(max_value=self._max_value, protection=self._protection, security=security)


class Link:
    """One pipelined connection to a peer's memory, of one event loop and used on its thread alone.

    Requests of one turn of the loop are written together; answers come in order.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport, address: str, *, guarded: bool) -> None:
        self.address = address
        self.closed = False
        self._loop = loop
        self._pipeline = Pipeline(transport, address)
        self._guarded = guarded
        self._fd = self._pipeline.fileno()
        self._waiting = 0
        self._flushing = False
        self._blocked = False
        self._timer: asyncio.TimerHandle | None = None
        self._heard = 0.0  # when something last came in while somebody waited
        loop.add_reader(self._fd, self._readable)

    def ask(self, group: str, keys: list[str], former: bool) -> asyncio.Future[list[Found | None]]:
        """The answers to come; PeerError when there are none in time."""
        future: asyncio.Future[list[Found | None]] = self._loop.create_future()
        timeout = FORMER_TIMEOUT if former else PEEK_TIMEOUT
        self._pipeline.ask(future, group, keys, former)
        self._waiting += 1
        if self._timer is None:
            self._heard = self._loop.time()
            self._timer = self._loop.call_later(timeout, self._late, timeout)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._flushing = False
        if self.closed:
            return
        try:
            done = self._pipeline.flush()
        except PeerError as error:
            self._fail(error)
            return
        if not done and not self._blocked:
            self._blocked = True
            self._loop.add_writer(self._fd, self._flush)
        elif done and self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._fd)

    def _readable(self) -> None:
        try:
            answers = self._pipeline.receive()
        except PeerError as error:
            self._fail(error)
            return
        if self._guarded:
            self._flush()  # a handshake, or what waited for its end
        self._heard = self._loop.time()
        self._waiting -= len(answers)
        for future, found in answers:
            if not future.done():
                if isinstance(found, Exception):
                    future.set_exception(found)
                else:
                    future.set_result(found)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self, timeout: float) -> None:
        """The timer: nothing may have been silent for `timeout`; a loop that was itself held up reads first."""
        self._timer = None
        if self.closed or not self._waiting:
            return
        self._readable()
        if self.closed or not self._waiting:
            return
        left = self._heard + timeout - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._late, timeout)
        else:
            self._fail(PeerError(f"{self.address} did not answer within {timeout * 1000:.0f} ms"))

    def _fail(self, error: PeerError) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._loop.remove_reader(self._fd)
        if self._blocked:
            self._loop.remove_writer(self._fd)
        for future in self._pipeline.close():
            if not future.done():
                future.set_exception(error)

    def close_soon(self) -> None:
        """Close from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._fail, PeerError(f"the connection to {self.address} was closed"))
        except RuntimeError:  # the loop is closed, and with it everyone who waited
            self.closed = True
            self._pipeline.close()
