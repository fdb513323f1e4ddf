"""The lane of a node through a network in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kamacache._engine import Contacts, Promise, Store, take_over
from kamacache.deadline import Deadline
from kamacache.errors import KamaCacheError, Overloaded, PeerError, UnknownGroup
from kamacache.net.lane import HOT, Call, Found, Lane, Look
from kamacache.net.messages import Contact, Request
from kamacache.steps import Wait
from kamacache.testing.network import GATE_TIMEOUT, HandOver, Missed, Peek, Ping

if TYPE_CHECKING:
    from kamacache.testing.network import Network


class _Call:
    """A call as its receiver sees it."""

    gone = False

    def __init__(self, message: Request, promise: Promise) -> None:
        self.message = message
        self._promise = promise

    def accept(self) -> None:
        """Do nothing: no caller here waits for this."""

    def reply(self, message: Any, /) -> None:
        self._promise.set_result(message)

    def fail(self, status: str, text: str = "") -> None:
        errors: dict[str, type[KamaCacheError]] = {"overloaded": Overloaded, "unknown_group": UnknownGroup}
        self._promise.set_exception(errors.get(status, PeerError)(text))


class MemoryLane(Lane):
    """See kamacache.net.lane.Lane."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._stores: dict[str, Store] = {}
        self._receive: Callable[[Call], None] = lambda _: None
        self._address = ""
        self._closed = False
        self.contacts = Contacts()
        self.stood = lambda: None

    def start(self, listen: str | None, receive: Callable[[Call], None], _deadline: Deadline) -> str | None:
        self._receive = receive
        self._address = self._network.attach(self, listen)
        return self._address

    def serve(self, store: Store) -> None:
        self._stores[store.name] = store

    def hide(self, group: str) -> None:
        self._stores.pop(group, None)

    def peek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None:
        return self._peek(address, group, [key], look)[0]

    async def apeek(self, address: str, group: str, key: str, look: Look = Look.COPY) -> Found | None:
        import asyncio  # noqa: PLC0415 - it is running

        return await asyncio.to_thread(self.peek, address, group, key, look)

    def peek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]:
        answers: list[list[Found | None] | Exception] = []
        for address, keys in asks:
            try:
                answers.append(self._peek(address, group, keys, look))
            except PeerError as error:
                answers.append(error)
        return answers

    async def apeek_many(
        self, asks: list[tuple[str, list[str]]], group: str, look: Look = Look.COPY
    ) -> list[list[Found | None] | Exception]:
        import asyncio  # noqa: PLC0415 - it is running

        return await asyncio.to_thread(self.peek_many, asks, group, look)

    def _peek(self, address: str, group: str, keys: list[str], look: Look) -> list[Found | None]:
        message = Peek(group, keys, look)
        lane = self._network.deliver(self._address, address, message)
        store = lane._stores.get(group)  # noqa: SLF001 - another of this class
        found = [None if store is None else self._shown(store, key, look) for key in keys]
        self._network.returned(self._address, address, message, found)
        return found

    def _shown(self, store: Store, key: str, look: Look) -> Found | None:
        """Return an entry as the fast lane sends it."""
        if look in (Look.ENTRY, Look.TRAITS):
            held, age = store.held(key) or (None, 0.0)
            if held is None or held[3] == Store.FORMER:
                return None
            value = held[0] if held[0] is None or look == Look.ENTRY else b""
            return (value, *held[1:3], int(age * 1000) << 8)
        found = store.find(key)
        if found is None or (found[3] == Store.FORMER and look != Look.FORMER):
            return None
        hot = self._network.hot and found[3] == Store.MAIN
        return (*found[:3], HOT if hot else 0)

    def ping_many(self, me: str, addresses: list[str]) -> list[Contact | Exception]:
        answers: list[Contact | Exception] = []
        for address in addresses:
            try:
                message = Ping(me)
                lane = self._network.deliver(self._address, address, message)
                answer = lane.contacts.met(me)
                self._network.returned(self._address, address, message, answer)
                answers.append(answer)
            except PeerError as error:
                answers.append(error)
        return answers

    def fetch_missed(self, address: str, store: Store, since: int, deadline: Deadline) -> bool:  # noqa: ARG002
        message = Missed(store.name, since)
        lane = self._network.deliver(self._address, address, message)
        theirs = lane._stores.get(store.name)  # noqa: SLF001 - another of this class
        whole = True
        part: int | None = None if theirs is None else 0
        while theirs is not None and part is not None:
            writes, part, forgotten = theirs.missed(since, part)
            if theirs.closed:  # before its writes were dropped
                raise PeerError("the group is closed")
            for key, version in writes:
                store.note(key, version)
            store.clear(theirs.floor)
            whole &= not forgotten
        self._network.returned(self._address, address, message, whole)
        return whole

    def carrier(self, address: str, group: str, encoded: bytes) -> bytes | None:
        message = HandOver(group, encoded)
        try:
            lane = self._network.deliver(self._address, address, message)
            store = lane._stores.get(group)  # noqa: SLF001 - another of this class
            reply = None if store is None else take_over(store, lane.contacts, encoded)
            self._network.returned(self._address, address, message, reply)
        except PeerError:
            return None
        return reply

    def call(self, address: str, message: Request, deadline: Deadline) -> Promise:  # noqa: ARG002 - gates decide
        promise = Promise()

        def work() -> None:
            answer = Promise()
            try:
                lane = self._network.deliver(self._address, address, message)
                with self._network.waiting(self._address, address, answer):
                    lane._receive(_Call(message, answer))  # noqa: SLF001 - another of this class
                    reply = Wait(answer, Deadline.after(GATE_TIMEOUT)).run()
                self._network.returned(self._address, address, message, reply)
            except Exception as error:  # noqa: BLE001 - it belongs to the caller that waits
                promise.set_exception(error)
            else:
                promise.set_result(reply)

        self._begin(work)
        return promise

    def _begin(self, work: Callable[[], None]) -> None:
        """Run what a call does until its reply is there."""
        threading.Thread(target=work, name="kamacache-memory-call", daemon=True).start()

    def forget(self, address: str, *, finishing: bool = False) -> None:
        if not finishing:
            self._network.broken(address, source=self._address)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.detach(self, self._address)

    def renewed(self) -> MemoryLane:
        return MemoryLane(self._network)
