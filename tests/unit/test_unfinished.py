"""Calls that have not arrived in full, and calls that wait: what they take of a node's memory."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

from kamacache._engine import Incoming, Transport
from kamacache.net.messages import Answer, LoadReply, LoadRequest
from tests.conftest import MakeTransport
from tests.security.test_password import HTTP2, call, frame
from tests.unit.wire import answering, ended, outcome

STREAMS = 200  # calls of one connection
MESSAGE = 8 << 20  # bytes, as `transports` makes them
SETTINGS, PING, ACK = 4, 6, 1
REPLY = LoadReply([Answer(b"v", 1)], 1)


def address_space() -> int:
    match = re.search(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match
    return int(match[1]) << 10


def stream(data: bytes, number: int) -> bytes:
    """Return the head of a call of Load, with the beginning of its message."""
    head = call("/kamacache.v1.Peer/Load")
    return head[:5] + number.to_bytes(4, "big") + head[9:] + frame(0, 0, number, data)


def connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    raw = socket.create_connection((host, int(port)), timeout=20)
    raw.sendall(HTTP2)
    return raw


def read_until(raw: socket.socket, kind: int, flags: int) -> bytes:
    """Return the content of the next frame of HTTP/2 of this kind."""
    with raw.makefile("rb") as frames:
        while True:
            head = frames.read(9)
            content = frames.read(int.from_bytes(head[:3], "big"))
            if (head[3], head[4]) == (kind, flags):
                return content


def test_one_connection_has_so_many_calls(server: Transport) -> None:
    with connect(server.listen("127.0.0.1:0")) as raw:
        settings = read_until(raw, SETTINGS, 0)
    pairs = (settings[at : at + 6] for at in range(0, len(settings), 6))
    assert {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}[3] == STREAMS


def test_a_node_makes_further_connections_for_more_calls(server: Transport, client: Transport) -> None:
    address = server.listen("127.0.0.1:0")
    loads = 2 * STREAMS + 50
    for number in range(loads):
        client.call(number, address, LoadRequest("users", ["k"]), 20.0)
    calls = []
    for _ in range(loads):
        event = server.next_event(5.0)
        assert isinstance(event, Incoming)
        event.accept()
        calls.append(event)
    for each in calls:
        each.reply(REPLY)
    assert sorted(ended(client) for _ in range(loads)) == [(number, REPLY) for number in range(loads)]
    thread = answering(server, lambda _: REPLY)
    assert outcome(client, address, LoadRequest("users", ["k"])) == REPLY
    server.close()
    thread.join()


def test_a_message_takes_memory_as_it_arrives(server: Transport) -> None:
    claim = b"\0" + MESSAGE.to_bytes(4, "big") + b"x"
    with connect(server.listen("127.0.0.1:0")) as raw:
        before = address_space()
        raw.sendall(b"".join(stream(claim, 2 * number + 1) for number in range(STREAMS - 1)))
        raw.sendall(frame(PING, 0, 0, b"question"))
        assert read_until(raw, PING, ACK) == b"question"
        time.sleep(0.2)  # for the tasks of the calls
        assert address_space() - before < STREAMS * MESSAGE // 4


def test_a_message_in_many_parts(server: Transport, transports: MakeTransport) -> None:
    """Decode a message that comes byte by byte, and one that is as large as it may be."""
    address = server.listen("127.0.0.1:0")
    message = b"\x0a\x05users\x12\x01k"
    with connect(address) as raw:
        whole = b"\0" + len(message).to_bytes(4, "big") + message
        raw.sendall(stream(whole[:1], 1))
        for byte in whole[1:]:
            raw.sendall(frame(0, 0, 1, bytes([byte])))
        raw.sendall(frame(0, 1, 1, b""))
        event = server.next_event(10.0)
        assert isinstance(event, Incoming)
        assert event.message == LoadRequest("users", ["k"], [], 0, 0)
        event.reply(REPLY)
    thread = answering(server, lambda _: REPLY)
    large = LoadRequest("users", ["x" * 1000] * (MESSAGE // 1010))
    assert outcome(transports(), address, large) == REPLY
    server.close()
    thread.join()
