"""The fast lane byte by byte: raw bytes on a real socket against Transport.listen."""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.wire import BIG, VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STAMP = VERSION.to_bytes(16, "big")


@pytest.fixture
def wire(address: str) -> Iterator[socket.socket]:
    if address.startswith("unix:"):
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(address.removeprefix("unix:"))
    else:
        host, port = address.rsplit(":", 1)
        raw = socket.create_connection((host, int(port)))
    with raw:
        raw.settimeout(5)
        yield raw


def command(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


def received(wire: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (chunk := wire.recv(size - len(data))):
        data += chunk
    return bytes(data)


def expect(wire: socket.socket, reply: bytes) -> None:
    assert received(wire, len(reply)) == reply


def until_closed(wire: socket.socket) -> bytes:
    return received(wire, 1 << 30)


EMPTY = b"*4\r\n$0\r\n\r\n$16\r\n" + STAMP + b"\r\n:-1\r\n:0\r\n"
GONE = b"*4\r\n$-1\r\n$16\r\n" + STAMP + b"\r\n:-1\r\n:2\r\n"
ANSWERS = [
    (command(b"KC.PING"), b"+PONG\r\n"),
    (command(b"ping"), b"+PONG\r\n"),
    (command(b"PING", b"hello"), b"$5\r\nhello\r\n"),
    (command(b"KC.GET", b"users", b"empty"), EMPTY),
    (command(b"kc.get", b"users", b"empty", b"peek"), EMPTY),
    (command(b"KC.GET", b"users", b"gone"), GONE),
    (command(b"KC.GET", b"users", b"nothing"), b"*-1\r\n"),
    (command(b"KC.GET", b"users", b"\xff"), b"*-1\r\n"),
    (command(b"KC.GET", b"users", b""), b"*-1\r\n"),
    (command(b"KC.GET", b"strangers", b"k"), b"-NOGROUP no group 'strangers' here\r\n"),
    (command(b"KC.GET", b"users", b"k", b"POKE"), b"-ERR syntax error\r\n"),
    (command(b"KC.GET", b"users"), b"-ERR wrong number of arguments for 'kc.get' command\r\n"),
    (command(b"FLY", b"away"), b"-ERR unknown command 'FLY'\r\n"),
    (command(b"A\r\nB"), b"-ERR unknown command 'A  B'\r\n"),
    (command(), b""),
    (
        command(b"KC.MGET", b"users", b"empty", b"nothing", b"gone"),
        b"$55\r\n" + struct.pack(">B16sqI", 4, STAMP, -1, 0) + b"\0" + struct.pack(">B16sq", 6, STAMP, -1) + b"\r\n",
    ),
    (command(b"KC.MPEEK", b"users", b"PEEK"), b"$1\r\n\0\r\n"),
]


@pytest.mark.parametrize(("asked", "reply"), ANSWERS)
def test_answers(wire: socket.socket, asked: bytes, reply: bytes) -> None:
    wire.sendall(asked + command(b"PING"))
    expect(wire, reply + b"+PONG\r\n")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pipelined_and_split_anywhere(wire: socket.socket, size: int) -> None:
    asked = b"".join(asked for asked, _ in ANSWERS)
    for at in range(0, len(asked), size):
        wire.sendall(asked[at : at + size])
    expect(wire, b"".join(reply for _, reply in ANSWERS))


def test_large_values(wire: socket.socket) -> None:
    head = b"*4\r\n$%d\r\n" % len(BIG)
    tail = b"\r\n$16\r\n" + STAMP + b"\r\n:-1\r\n:%d\r\n"
    wire.sendall(command(b"KC.GET", b"users", b"big") * 8)
    for _ in range(8):
        reply = received(wire, len(head) + len(BIG) + len(tail) - 1)
        assert reply in {head + BIG + tail % 0, head + BIG + tail % 1}
    wire.sendall(command(b"KC.MGET", b"users", *[b"big", b"k"] * 20))
    packed = b"$%d\r\n" % (20 * (29 + len(BIG) + 29 + 5))
    expect(wire, packed)
    for _ in range(20):
        assert received(wire, 29 + len(BIG)).endswith(BIG)
        assert received(wire, 29 + 5).endswith(b"value")
    expect(wire, b"\r\n")


def test_quit(wire: socket.socket) -> None:
    wire.sendall(command(b"QUIT") + command(b"PING"))
    assert until_closed(wire) == b"+OK\r\n"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"*x\r\n",
        b"*-1\r\n",
        b"*1000000000\r\n",
        b"*99999999999999999999\r\n",
        b"*1\r\n:1\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$1000000000000\r\n",
        b"*1\r\n$4\r\nPING..",
        b"*1\rx",
        b"*" + b"1" * 40,
        command(b"PING") + b"PING\r\n",
    ],
)
def test_protocol_errors_close(wire: socket.socket, nonsense: bytes) -> None:
    wire.sendall(nonsense)
    reply = until_closed(wire).removeprefix(b"+PONG\r\n")
    assert reply.startswith(b"-ERR Protocol error")
    assert reply.count(b"\r\n") == 1


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_claimed_lengths_cost_nothing(address: str, wire: socket.socket) -> None:
    wire.sendall(command(b"PING"))
    expect(wire, b"+PONG\r\n")
    before = resident()
    wire.sendall(b"*1048576\r\n$8388608\r\nx")
    wire.settimeout(0.2)
    with pytest.raises(TimeoutError):
        wire.recv(1)
    assert resident() - before < 1 << 20


def test_a_reader_that_stops_costs_bounded_memory(wire: socket.socket) -> None:
    before = resident()
    wire.settimeout(0.5)
    with pytest.raises(TimeoutError):  # noqa: PT012 - the server stops reading while it cannot write
        for _ in range(100):
            wire.sendall(command(b"KC.MGET", b"users", *[b"k"] * 10_000))
    assert resident() - before < 32 << 20


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"421"),
        (b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", b"404"),
        (b"POST /x HTTP/1.1\r\n\r\n", b"400"),
    ],
)
def test_http_is_distinguished(wire: socket.socket, first: bytes, status: bytes) -> None:
    wire.sendall(first)
    assert until_closed(wire).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("first", [b"PRIX", b"\0\0\0\0", b"PING\r\n"])
def test_anything_else_is_closed(wire: socket.socket, first: bytes) -> None:
    wire.sendall(first)
    assert until_closed(wire) == b""


def test_tls_is_refused_in_its_own_words(wire: socket.socket) -> None:
    wire.sendall(b"\x16\x03\x01\x00")
    wire.shutdown(socket.SHUT_WR)
    assert until_closed(wire) == b"\x15\x03\x03\x00\x02\x02\x28"  # a fatal alert: handshake failure


def test_many_connections(address: str, transports: Callable[[], object]) -> None:
    host, _, port = address.rpartition(":")
    if host == "unix":
        pytest.skip("one family is enough")
    wires = [socket.create_connection((host, int(port)), 5) for _ in range(200)]
    for wire in wires:
        wire.sendall(command(b"PING"))
    for wire in wires:
        expect(wire, b"+PONG\r\n")
        wire.close()
