"""Helpers for tests of the wire: stores, transports that answer, silent addresses."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

from kamacache._engine import Clock, Incoming, Pipeline, Store, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kamacache.net.messages import Reply, Request

VERSION = (1 << 127) + 5
BIG = b"\xab" * (3 << 20)


def make_store(
    name: str = "users", *, clock: Clock | None = None, decode: Callable[[bytes], Any] | None = None
) -> Store:
    """Return a store with room for everything."""
    return Store(
        name,
        max_bytes=256 << 20,
        policy="lru",
        clock=clock or Clock(),
        near_ttl=5.0,
        remember=10.0,
        decode=decode,
        shareable=False,
        keep_evicted=False,
    )


def make_users() -> Store:
    """Return a store with one entry of each kind."""
    store = make_store()
    store.put("k", b"value", VERSION, 60.0, Store.MAIN)
    store.put("empty", b"", VERSION, None, Store.MAIN)
    store.put("gone", None, VERSION, None, Store.MAIN)
    store.put("big", BIG, VERSION, None, Store.MAIN)
    return store


def answering(server: Transport, answer: Callable[[Incoming], Reply | None]) -> threading.Thread:
    """Answer the calls of peers, until the transport closes; None drops a call."""

    def run() -> None:
        while (event := server.next_event(10.0)) is not None:
            assert isinstance(event, Incoming)
            reply = answer(event)
            if reply is not None:
                event.reply(reply)
            del event

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def called(server: Transport) -> Incoming:
    """Return the next call from a peer."""
    event = server.next_event(2.0)
    assert isinstance(event, Incoming)
    return event


def ended(client: Transport) -> tuple[Any, Any]:
    """Return the next end of an own call."""
    event = client.next_event(10.0)
    assert isinstance(event, tuple)
    return event


def outcome(client: Transport, address: str, message: Request, timeout: float | None = None) -> Any:
    """Return how one call ended."""
    client.call("token", address, message, timeout)
    token, result = ended(client)
    assert token == "token"  # noqa: S105 - a call's name
    return result


def connected(client: Transport, address: str) -> Pipeline:
    """Return a connection as event loops have it."""
    client.connect("connected", address)
    _, result = ended(client)
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, Pipeline)
    return result


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """Yield an address that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
