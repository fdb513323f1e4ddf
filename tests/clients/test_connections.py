"""The limit of connections, and clients that vanish without closing theirs."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kamacache import Node
from tests.clients.nodes import PATIENCE, command, connect, expect
from tests.cluster.cluster import wait_until

PING = command(b"PING")
HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # and empty settings
NODE = """
import os, resource, sys, kamacache
resource.setrlimit(resource.RLIMIT_NOFILE, (160, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with kamacache.Node("127.0.0.1:0", password=os.environ.get("PASSWORD")) as node:
    print(node.address, flush=True)
    for line in sys.stdin:
        files = [open(os.devnull) for _ in range(int(line))]
        print(len(files), flush=True)
"""


def is_answered(wire: socket.socket, question: bytes = PING) -> bool:
    try:
        wire.sendall(question)
        return bool(wire.recv(100))
    except ConnectionError:
        return False


def test_the_last_descriptors_are_the_applications() -> None:
    """Keep 64 of 160 descriptors free; connections of any protocol share the rest, and a closed one makes room."""
    child = subprocess.Popen([sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child, contextlib.ExitStack() as stack:
        assert child.stdin is not None
        assert child.stdout is not None
        host, port = child.stdout.readline().strip().split(":")

        def one() -> socket.socket:
            return stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))

        wires = [one() for _ in range(96)]
        for number, wire in enumerate(wires):
            assert is_answered(wire, HTTP2 if number % 2 else PING), number
        refused = [one() for _ in range(10)]
        assert not any(is_answered(wire) for wire in refused)
        child.stdin.write("30\n")
        child.stdin.flush()
        assert child.stdout.readline() == "30\n"
        assert is_answered(wires[0])
        for wire in wires[1:3]:
            wire.close()
        wait_until(lambda: is_answered(one()), PATIENCE)


def test_strangers_give_way_to_clients() -> None:
    """Open many more connections than the node may have, of each protocol, that do not give the password."""
    environment = os.environ | {"PASSWORD": "secret"}
    arguments = [sys.executable, "-c", NODE]
    child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    with child, contextlib.ExitStack() as stack:
        assert child.stdout is not None
        host, port = child.stdout.readline().strip().split(":")

        def one(said: bytes = b"") -> socket.socket:
            wire = stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE))
            wire.sendall(said)
            return wire

        def strangers() -> None:
            for number in range(100):
                one((b"", b"*1\r\n", PING, HTTP2, b"GET / HT")[number % 5])

        clients: list[socket.socket] = []
        for _ in range(40):
            if len(clients) % 20 == 0:
                strangers()
            clients.append(one())
            assert is_answered(clients[-1], command(b"AUTH", b"secret"))
        strangers()
        assert all(is_answered(client) for client in clients)
        clients += [one() for _ in range(56)]
        assert all(is_answered(client, command(b"AUTH", b"secret")) for client in clients[40:])
        assert not is_answered(one(), command(b"AUTH", b"secret"))  # all places are taken by clients
        assert all(is_answered(client) for client in clients)


TABLE = Path("/proc/net/tcp")


@pytest.mark.skipif(not TABLE.exists(), reason="this system does not tell of the timers of its connections")
def test_a_silent_client_is_probed_by_the_system() -> None:
    with Node("127.0.0.1:0") as node, connect(node) as wire:
        wire.sendall(PING)
        expect(wire, b"+PONG\r\n")
        (_, here), (_, there) = wire.getsockname(), wire.getpeername()

        def timer() -> str:
            lines = (line.split() for line in TABLE.read_text().splitlines()[1:])
            return next(
                line[5] for line in lines if line[1].endswith(f":{there:04X}") and line[2].endswith(f":{here:04X}")
            )

        wait_until(lambda: timer().startswith("02:"), PATIENCE)  # 02: neither to repeat nor to acknowledge anything
