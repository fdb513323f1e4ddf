"""Peers whose bytes never stop, and never make an answer: each way to a peer gives up in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kamacache import PeerError
from kamacache._engine import Transport
from kamacache.net.messages import WriteItem, WriteRequest
from tests.conftest import MakeTransport
from tests.security.certificates import Files

PACE = 0.1  # seconds between two bytes, less than any silence that is noticed
SECOND = 1.0  # the time in which an answer must be whole
LATE = 3.0  # seconds more, for a loaded machine
ANSWER = b"$100\r\n" + b"x" * 100

Behave = Callable[[socket.socket, Files], None]


def trickle(peer: socket.socket, sent: bytes) -> None:
    for byte in sent:
        peer.sendall(bytes([byte]))
        time.sleep(PACE)


def handshake(peer: socket.socket, files: Files, send: Callable[[bytes], None]) -> tuple[ssl.SSLObject, ssl.MemoryBIO]:
    """Accept TLS; what goes out goes through `send`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(coming, going, server_side=True)
    while True:
        with contextlib.suppress(ssl.SSLWantReadError):
            session.do_handshake()
            break
        send(going.read())
        coming.write(peer.recv(10_000))
    send(going.read())
    return session, going


def slow_handshake(peer: socket.socket, files: Files) -> None:
    handshake(peer, files, lambda sent: trickle(peer, sent))


def slow_record(peer: socket.socket, files: Files) -> None:
    session, going = handshake(peer, files, peer.sendall)
    session.write(ANSWER)
    trickle(peer, going.read())


def slow_answer(peer: socket.socket, _: Files) -> None:
    peer.recv(1000)
    trickle(peer, ANSWER)


def slow_reader(peer: socket.socket, _: Files) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    while peer.recv(200):
        time.sleep(PACE)


@contextlib.contextmanager
def behaving(behave: Behave, files: Files) -> Iterator[str]:
    """Yield the address of a peer that does so on each connection."""

    def serve(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            behave(peer, files)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def write(client: Transport, addresses: list[str], value: bytes) -> object:
    request = WriteRequest("users", [WriteItem("k", value)])
    (reply, *_) = client.send_all([(address, request) for address in addresses], SECOND)
    return reply


WAYS: dict[str, Callable[[Transport, str], object]] = {
    "ping": lambda client, at: client.ping(at, 0.25),
    "pings": lambda client, at: client.ping_many("", [at, at], 0.25)[0],
    "peek": lambda client, at: client.peek(at, "users", "k", False, 0.25),
    "peeks": lambda client, at: client.peek_many([(at, ["k"]), (at, ["l"])], "users", False, 0.25)[0],
    "write": lambda client, at: write(client, [at], b"v"),
    "large write": lambda client, at: write(client, [at], bytes(6 << 20)),
    "writes": lambda client, at: write(client, [at, at], bytes(6 << 20)),
}


@pytest.mark.parametrize("behave", [slow_answer, slow_reader, slow_handshake, slow_record])
def test_no_way_to_a_peer_waits_longer_than_its_time(transports: MakeTransport, files: Files, behave: Behave) -> None:
    protected = behave in {slow_handshake, slow_record}
    took: dict[str, float] = {}
    ended: dict[str, object] = {}

    def ask(way: str, client: Transport, at: str) -> None:
        began = time.monotonic()
        try:
            ended[way] = WAYS[way](client, at)
        except PeerError as error:
            ended[way] = error
        took[way] = time.monotonic() - began

    with behaving(behave, files) as at:
        asking = [
            threading.Thread(
                target=ask, args=(way, transports(files.security(mutual=False) if protected else None), at), daemon=True
            )
            for way in WAYS
        ]
        for thread in asking:
            thread.start()
        until = time.monotonic() + SECOND + LATE
        for thread in asking:
            thread.join(max(0.0, until - time.monotonic()))
    assert set(took) == set(WAYS), "the others are held"
    assert all(seconds < SECOND + LATE for seconds in took.values()), took
    assert all("did not answer" in str(error) for error in ended.values()), ended
