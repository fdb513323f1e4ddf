"""Three nodes in this process over real sockets, and raw connections to them."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kamacache import Node
from tests.cluster.cluster import wait_until

PATIENCE = 30.0  # seconds


class SecretError(Exception):
    """The error of the source; its text must not be shown."""


class Source:
    """A source that loads by the key's name; loads of slow keys wait for `go_on`."""

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self.slow = threading.Semaphore(0)  # released as a slow load begins
        self.go_on = threading.Event()

    def load(self, key: str) -> bytes | None:
        self.loads[key] += 1
        if key.startswith("slow"):
            self.slow.release()
            assert self.go_on.wait(PATIENCE)
        if key.startswith("bad"):
            raise SecretError("top secret")
        if key.startswith("none"):
            return None
        return b"" if key.startswith("empty") else b"value of " + key.encode()


class Trio:
    """Three nodes of one service, with the groups users (bytes), docs (json) and plain (without a loader)."""

    def __init__(self, places: list[dict[str, str]], **options: Any) -> None:
        self.source = Source()
        self.nodes = [Node(**place, **options) for place in places]  # type: ignore[arg-type]
        for node in self.nodes:
            node.group("users", self.source.load, near_ttl=0)
            node.group("docs", codec="json")
            node.group("plain")
        starts = [threading.Thread(target=node.start) for node in self.nodes]
        for start in starts:
            start.start()
        for start in starts:
            start.join(PATIENCE)
        wait_until(lambda: all(len(node.members()) == len(self.nodes) for node in self.nodes), PATIENCE)
        keys = [f"key{number}" for number in range(100)]
        wait_until(lambda: len({str([node.owner("users", key) for key in keys]) for node in self.nodes}) == 1, PATIENCE)

    def key_of(self, owner: Node, prefix: str = "key", *, group: str = "users") -> str:
        """Return a key that this node owns."""
        keys = (f"{prefix}{number}" for number in range(10_000))
        return next(key for key in keys if owner.owner(group, key).id == owner.id)

    def close(self) -> None:
        self.source.go_on.set()
        for node in self.nodes:
            node.close(drain=0)


def local_places(directory: Path) -> list[dict[str, str]]:
    return [{"registry": f"local://{directory}/reg"}] * 3


def static_places(_: Path) -> list[dict[str, str]]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    listed = "static://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    return [{"registry": listed, "listen": f"127.0.0.1:{port}"} for port in ports]


PLACES: dict[str, Callable[[Path], list[dict[str, str]]]] = {"local": local_places, "static": static_places}


def address(node: Node) -> str:
    assert node.address is not None
    return node.address


def where(node: Node) -> dict[str, Any]:
    """Return the arguments by which redis-py finds a node."""
    if address(node).startswith("unix:"):
        return {"unix_socket_path": address(node).removeprefix("unix:")}
    host, port = address(node).rsplit(":", 1)
    return {"host": host, "port": int(port)}


def connect(node: Node) -> socket.socket:
    if address(node).startswith("unix:"):
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE)
        raw.connect(address(node).removeprefix("unix:"))
        return raw
    host, port = address(node).rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def waiting(node: Node) -> int:
    """Return the number of requests of clients that this node works on."""
    clients = node._serving._clients
    return 0 if clients is None else len(clients._under_way)


def command(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(a), a) for a in arguments)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def expect(wire: socket.socket, reply: bytes) -> None:
    received = bytearray()
    while len(received) < len(reply) and (chunk := wire.recv(len(reply) - len(received))):
        received += chunk
    assert bytes(received) == reply


def until_closed(wire: socket.socket) -> bytes:
    received = bytearray()
    while chunk := wire.recv(65536):
        received += chunk
    return bytes(received)
