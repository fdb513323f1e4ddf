"""The first bytes of clients in other languages, and bytes that no client should send."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kamacache import Node, __version__
from tests.clients.nodes import PATIENCE, Source, bulk, command, connect, expect, until_closed

VERSION = bulk(__version__.encode())
OK = b"+OK\r\n"
NO_PASSWORD = (
    b"-ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?\r\n"
)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture(params=["tcp", "unix"])
def node(request: pytest.FixtureRequest, tmp_path: Path, source: Source) -> Iterator[Node]:
    node = Node("127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/node.sock")
    node.group("users", source.load)
    with node:
        yield node


@pytest.fixture
def wire(node: Node) -> Iterator[socket.socket]:
    with connect(node) as raw:
        yield raw


def hello(wire: socket.socket, *arguments: bytes, protocol: int) -> None:
    """Send HELLO and check its answer; the id is any number."""
    wire.sendall(command(b"HELLO", *arguments))
    head = b"%7\r\n" if protocol == 3 else b"*14\r\n"
    head += bulk(b"server") + bulk(b"kamacache") + bulk(b"version") + VERSION + bulk(b"proto") + b":%d\r\n" % protocol
    expect(wire, head + bulk(b"id") + b":")
    while wire.recv(1) != b"\n":
        pass
    tail = bulk(b"mode") + bulk(b"standalone") + bulk(b"role") + bulk(b"master") + bulk(b"modules") + b"*0\r\n"
    expect(wire, tail)


def test_as_lettuce_opens(wire: socket.socket) -> None:
    hello(wire, b"3", protocol=3)
    wire.sendall(
        command(b"CLIENT", b"SETINFO", b"lib-name", b"Lettuce") + command(b"CLIENT", b"SETINFO", b"lib-ver", b"6.5.0")
    )
    expect(wire, OK + OK)
    wire.sendall(command(b"GET", b"users:k") + command(b"GET", b"users:none") + command(b"PING"))
    expect(wire, bulk(b"value of k") + b"_\r\n+PONG\r\n")


def test_as_go_redis_opens(wire: socket.socket) -> None:
    """Send the whole opening of go-redis in one packet, with an option that is refused."""
    wire.sendall(
        command(b"hello", b"3")
        + command(b"client", b"setinfo", b"LIB-NAME", b"go-redis(,go1.22)")
        + command(b"client", b"setinfo", b"LIB-VER", b"9.7.0")
        + command(b"client", b"maint_notifications", b"on")
        + command(b"select", b"0")
        + command(b"get", b"users:k")
    )
    received = b""
    while not received.endswith(bulk(b"value of k")):
        chunk = wire.recv(65536)
        assert chunk
        received += chunk
    assert received.startswith(b"%7\r\n")
    assert received.endswith(
        OK + OK + b"-ERR CLIENT maint_notifications with 1 arguments is not supported here\r\n" + OK
        + bulk(b"value of k")
    )  # fmt: skip


def test_as_jedis_opens(wire: socket.socket) -> None:
    wire.sendall(command(b"CLIENT", b"SETINFO", b"lib-name", b"jedis") + command(b"GET", b"users:none"))
    expect(wire, OK + b"$-1\r\n")


def test_versions_of_the_protocol(wire: socket.socket) -> None:
    hello(wire, protocol=2)
    hello(wire, b"3", b"SETNAME", b"me", protocol=3)
    wire.sendall(command(b"CLIENT", b"GETNAME") + command(b"HELLO", b"4") + command(b"MGET", b"users:none"))
    expect(wire, bulk(b"me") + b"-NOPROTO unsupported protocol version\r\n*1\r\n_\r\n")
    hello(wire, b"2", protocol=2)
    wire.sendall(command(b"HELLO", b"3", b"LOUDER") + command(b"GET", b"users:none"))
    expect(wire, b"-ERR Syntax error in HELLO option 'LOUDER'\r\n$-1\r\n")


def test_a_password_for_a_node_without_one(wire: socket.socket) -> None:
    for asked, answer in (
        (command(b"AUTH", b"word"), NO_PASSWORD),
        (command(b"AUTH", b"default", b"word"), b"+OK\r\n"),
        (command(b"AUTH", b"other", b"word"), b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
    ):
        wire.sendall(asked + command(b"GET", b"users:none"))
        expect(wire, answer + b"$-1\r\n")
    wire.sendall(command(b"HELLO", b"3", b"AUTH", b"default", b"word"))
    expect(wire, b"%7\r\n")


def test_the_commands_tell_of_themselves(wire: socket.socket) -> None:
    get = b"*10\r\n$3\r\nget\r\n:2\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n"
    docs = bulk(b"get") + b"*4\r\n" + bulk(b"summary")
    docs += bulk(b"The value of group:key, loaded where it is not in memory") + bulk(b"group") + bulk(b"kamacache")
    wire.sendall(command(b"COMMAND", b"INFO", b"get", b"fly") + command(b"COMMAND", b"DOCS", b"GET", b"fly"))
    expect(wire, b"*2\r\n" + get + b"$-1\r\n" + b"*2\r\n" + docs)
    wire.sendall(command(b"COMMAND", b"COUNT") + command(b"COMMAND", b"GETKEYS", b"GET", b"x"))
    expect(wire, b":56\r\n-ERR COMMAND GETKEYS is not supported here\r\n")
    wire.sendall(command(b"COMMAND", b"LIST"))
    expect(wire, b"*56\r\n" + bulk(b"get"))


REFUSED = b"-ERR transactions are not supported here: use a pipeline without MULTI\r\n"
ABORTED = b"-EXECABORT nothing of this transaction was executed, because of the error before\r\n"


def test_transactions(wire: socket.socket, source: Source) -> None:
    """Answer as Redis does if commands cannot be queued, so that every client knows that none was executed."""
    get = command(b"GET", b"users:k")
    wire.sendall(command(b"MULTI") + get + command(b"SET", b"users:k", b"v") + command(b"ping") + command(b"exec"))
    expect(wire, OK + REFUSED * 3 + ABORTED)
    wire.sendall(command(b"MULTI") + command(b"MULTI") + command(b"FLY") + get + command(b"DISCARD"))
    expect(wire, OK + b"-ERR MULTI calls can not be nested\r\n-ERR unknown command 'FLY'\r\n" + REFUSED + OK)
    wire.sendall(command(b"EXEC") + command(b"DISCARD") + command(b"MULTI") + command(b"EXEC"))
    expect(wire, b"-ERR EXEC without MULTI\r\n-ERR DISCARD without MULTI\r\n" + OK + b"*0\r\n")
    assert not source.loads
    wire.sendall(get + command(b"MULTI") + command(b"QUIT"))
    assert until_closed(wire) == bulk(b"value of k") + OK + OK


def test_quit_after_a_slow_get(wire: socket.socket, source: Source) -> None:
    wire.sendall(command(b"GET", b"users:slow") + command(b"QUIT") + command(b"PING"))
    assert source.slow.acquire(timeout=PATIENCE)
    source.go_on.set()
    assert until_closed(wire) == bulk(b"value of slow") + OK


@pytest.mark.parametrize(
    "nonsense",
    [
        b"*2\r\n$3\r\nGET\r\n$999999999999\r\n",
        b"*3\r\n$3\r\nSET\r\n$7\r\nusers:k\r\n$2147483647\r\n",
        b"*1000000000\r\n",
        b"*2\r\n$3\r\nGET\r\n:1\r\n",
        b"*2\r\n$3\r\nDEL\r\n$7\r\nusers:kXX",
    ],
)
def test_protocol_errors_close_after_earlier_commands(wire: socket.socket, source: Source, nonsense: bytes) -> None:
    wire.sendall(command(b"GET", b"users:k") + nonsense)
    received = until_closed(wire)
    assert received.startswith(bulk(b"value of k") + b"-ERR Protocol error: ")
    assert received.count(b"\r\n") == 3
    assert source.loads == {"k": 1}


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET users:k\r\n",
        b"SET users:k v\r\n",
        b"\r\n\r\n*2\r\n$3\r\nGET\r\n$7\r\nusers:k\r\n",
        b"POST /users:k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n" + command(b"GET", b"users:k"),
        b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n" + command(b"GET", b"users:k"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"$7\r\nusers:k\r\n",
        bytes(range(256)) * 4,
    ],
)
def test_garbage_executes_nothing(wire: socket.socket, source: Source, garbage: bytes) -> None:
    wire.sendall(garbage)
    wire.shutdown(socket.SHUT_WR)
    try:
        received = until_closed(wire)
    except ConnectionResetError:  # closed with bytes unread
        received = b""
    assert received == b"" or re.match(rb"HTTP/1\.1 4\d\d |\x15\x03\x03", received)  # \x15: an alert of TLS
    assert not source.loads


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_claims_cost_no_memory(node: Node) -> None:
    wires = [connect(node) for _ in range(50)]
    for wire in wires:
        wire.sendall(command(b"PING"))
        expect(wire, b"+PONG\r\n")
    before = resident()
    for wire in wires:
        wire.sendall(b"*3\r\n$3\r\nSET\r\n$7\r\nusers:k\r\n$8388608\r\nx")
    assert select.select(wires, [], [], 0.5) == ([], [], [])  # none is answered, nor closed
    for wire in wires:
        wire.close()
    assert resident() - before < 16 << 20


def test_commands_sent_ahead_of_an_answer_are_bounded(wire: socket.socket, source: Source) -> None:
    """Let the client send while one command waits for its load, but not without end."""
    wire.sendall(command(b"GET", b"users:slow"))
    assert source.slow.acquire(timeout=PATIENCE)
    before = resident()
    ahead, sent = command(b"ECHO", b"x" * 1000) * 100, 0
    wire.settimeout(0.5)
    with pytest.raises(TimeoutError):  # noqa: PT012 - the system's buffers are full in the end
        while sent < 64 << 20:
            sent += wire.send(ahead[sent % len(ahead) :])
    assert resident() - before < 16 << 20
    source.go_on.set()
    wire.settimeout(PATIENCE)
    expect(wire, bulk(b"value of slow") + bulk(b"x" * 1000) * (sent // 1000 // 2))
