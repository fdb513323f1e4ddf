"""The lane of the engine: RESP and gRPC, a thread for what comes in, a connection for each event loop and peer."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kamacache import thread
from kamacache._engine import (
    Contacts,
    Incoming,
    Promise,
    Remote,
    Scrape,
    Security,
    Store,
    Transport,
    monotonic,
    statuses,
)
from kamacache.deadline import Deadline
from kamacache.errors import CLOSED, NodeClosed, PeerError
from kamacache.log import log
from kamacache.net import systemd
from kamacache.net.lane import PEEK_TIMEOUT, Lane, Look
from kamacache.net.link import Link
from kamacache.net.security import Protection, look_after
from kamacache.steps import Path, Twofold, Wait, adrive, needed_loop

if TYPE_CHECKING:
    import asyncio

    from kamacache.cluster.routes import Route
    from kamacache.net.lane import Call, Carrier, Found, Keep, Suspect
    from kamacache.net.messages import Contact, Request

_CONNECT = 0.5  # seconds for a connection; the engine gives up after half of them
_LEAST_MESSAGE = 64 * 1024 * 1024
_ROOM = 64 * 1024  # what a message has around its value
_SEND = 60.0  # seconds that requests about writes wait at most
_JOIN = 1.0
_LOOK = 1.0  # seconds between looks at certificates, wrong passwords and closed loops


class NativeLane:
    """See Lane. `close` ends every call that waits, and each that begins meanwhile or later.

    Invariant, under `_lock`: `_links` has at most one open Link for each open loop and address.
    """

    patience = 5.0  # seconds in which a client of the port must give its password, and finish a request of HTTP

    def __init__(
        self, *, max_value: int, protection: Protection, service: str = "", security: Security | None = None
    ) -> None:
        self._max_value = max_value
        self._protection = protection
        self._security = security or protection.engine(service)
        most = max(_LEAST_MESSAGE, 4 * max_value) + _ROOM
        self.contacts = Contacts()
        self.stood: Callable[[], None] = lambda: None
        transport = self._transport = Transport(
            max_message=most,
            max_value=max_value,
            patience=self.patience,
            security=self._security,
            contacts=self.contacts,
        )
        self.serve, self.hide, self.watch = transport.serve, transport.hide, self.contacts.watch
        self.carrier: Carrier = transport
        self.ready, self.peer_times = transport.ready, transport.peer_times
        self._lock = threading.Lock()
        self._links: dict[asyncio.AbstractEventLoop, dict[str, Link]] = {}
        self._thread: threading.Thread | None = None
        self._metrics: Callable[[], str] | None = None
        self._closed = False

    def start(self, listen: str | None, receive: Callable[[Call], None], deadline: Deadline) -> str | None:
        address = None if listen is None else self._listen(listen, deadline)
        if address is not None:
            self._protection.warn(address)
        if self._thread is None:
            self._thread = thread.start("kamacache-serve", self._run, receive)
        return address

    def _listen(self, listen: str, deadline: Deadline) -> str:
        """Take the socket that systemd has bound to this address for this process, or bind one."""
        given = systemd.inherited().get(listen)
        return self._transport.listen(listen, deadline.left(), None if given is None else os.dup(given))

    def _run(self, receive: Callable[[Call], None]) -> None:
        look = monotonic() + _LOOK
        while not self._closed:
            event = self._transport.next_event(_LOOK)
            try:
                if monotonic() >= look:
                    look = monotonic() + _LOOK
                    self._sweep()
                    look_after(self._security)
                if isinstance(event, Incoming):
                    receive(event)
                elif isinstance(event, Scrape):
                    if self._metrics is not None:
                        event.reply(self._metrics())
                elif isinstance(event, str):  # it says that this process stood still
                    self.stood()
                elif event is not None:
                    promise, result = event
                    if isinstance(result, Exception):
                        promise.set_exception(result)
                    else:
                        promise.set_result(result)
            except Exception:
                log.exception("a message could not be handled, and is dropped")

    def publish(self, names: list[str], metrics: Callable[[], str]) -> None:
        self._metrics = metrics
        self._transport.answer_to(names)

    def route(self, store: Store, route: Route, keep: Keep | None, suspect: Suspect) -> None:
        placement = route.placement
        if placement is None:
            store.remote = None
            return
        peers = [None if peer is None else (peer.address, peer.down, peer) for peer in route.peers]
        store.remote = Remote(
            self._transport, placement, peers, timeout=PEEK_TIMEOUT, keep=keep, suspect=suspect, links=self._links
        )

    def peek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None:
        return self._transport.peek(address, group, key, look, look.timeout)

    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]:
        return list(self._transport.peek_many(asks, group, look, look.timeout))

    async def apeek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None:
        return (await self._aask(address, group, [key], look))[0]

    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]:
        import asyncio  # noqa: PLC0415 - it is running

        answers: list[Any] = await asyncio.gather(
            *(self._aask(address, group, keys, look) for address, keys in asks), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, PeerError):
                raise answer
        return answers

    async def _aask(self, address: str, group: str, keys: list[str], look: Look) -> list[Found | None]:
        link = self._link(address)
        if not link.connected.ended:
            try:
                await Wait(link.connected, Deadline.after(_CONNECT)).arun()
            except TimeoutError:
                raise PeerError(f"no connection to {address} within {_CONNECT * 1000:.0f} ms") from None
        return await link.ask(group, keys, look)

    def _link(self, address: str) -> Link:
        loop = needed_loop()
        link = self._links.get(loop, {}).get(address)
        if link is None or link.closed:
            if self._closed:
                raise NodeClosed(CLOSED)
            self._sweep()
            link = Link(loop, self._transport, address, guarded=self._protection.tls is not None)
            with self._lock:
                self._links.setdefault(loop, {})[address] = link
        return link

    ping = Lane.ping

    def ping_many(self, me: str, addresses: list[str]) -> list[Contact | Exception]:
        try:
            return self._transport.ping_many(me, addresses, PEEK_TIMEOUT)
        except (NodeClosed, PeerError) as error:  # this node is closed, or a forked child
            return [error] * len(addresses)

    def statuses(self, addresses: list[str], timeout: float) -> list[bytes | Exception]:
        return statuses(self._transport, addresses, timeout)

    def fetch_missed(self, address: str, store: Store, since: int, deadline: Deadline) -> bool:
        return self._transport.fetch_missed(address, store, since, deadline.left())

    def call(self, address: str, message: Request, deadline: Deadline) -> Promise:
        promise = Promise()
        left = deadline.left()
        try:
            self._transport.call(promise, address, message, None if left == math.inf else left)
        except (NodeClosed, PeerError) as error:
            promise.set_exception(error)
        return promise

    def cancel(self, call: Promise) -> None:
        self._transport.cancel(call)

    def send_all(self, asks: Sequence[tuple[str, Request]], deadline: Deadline) -> Path[list[Any]]:
        """Do that over the fast lane on a thread, by calls on an event loop."""
        left = min(deadline.left(), _SEND)

        def directly() -> list[Any]:
            try:
                return list(self._transport.send_all(list(asks), left))
            except PeerError as error:  # this process is a forked child
                return [error] * len(asks)

        replies: list[Any] = yield Twofold(directly, lambda: adrive(Lane.send_all(self, asks, deadline)))
        return replies

    def forget(self, address: str, *, finishing: bool = False) -> None:
        self._transport.forget(address, finishing=finishing)
        with self._lock:
            gone = [links.pop(address) for links in self._links.values() if address in links]
        for link in gone:
            link.close_soon()

    def _sweep(self, *, everything: bool = False) -> None:
        """Close the links of loops that are closed."""
        with self._lock:
            loops = [loop for loop in self._links if everything or loop.is_closed()]
            gone = [self._links.pop(loop) for loop in loops]
        for links in gone:
            for link in links.values():
                link.close_soon(NodeClosed(CLOSED) if everything else None)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._sweep(everything=True)
        self._transport.close()  # it ends every call that waits, and those that come
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)

    def renewed(self) -> Lane:
        return NativeLane(max_value=self._max_value, protection=self._protection, security=self._security.renewed())
