"""/healthz and /readyz on a real port: by the engine alone, even while Python is busy."""

from __future__ import annotations

import ctypes
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kamacache import Member, Node, Registry
from kamacache.net.native import NativeLane
from tests.cluster.cluster import in_thread, wait_until
from tests.cluster.conftest import free_ports
from tests.http.client import PATIENCE, connect, exchange, request


@pytest.fixture(params=["tcp", "unix"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node("127.0.0.1:0" if request.param == "tcp" else f"unix:{tmp_path}/node.sock")
    with node:
        yield node


@pytest.fixture
def address(node: Node) -> str:
    assert node.address is not None
    return node.address


def test_a_node_that_serves(address: str) -> None:
    for path, body in (("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/readyz?verbose", "ready\n")):
        answer = request(address, path)
        assert (answer.status, answer.body) == (200, body)
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_head_has_no_body(address: str) -> None:
    answer = request(address, "/healthz", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, "", "3")
    assert exchange(address, b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b"\r\n\r\n")


class SlowRegistry(Registry):
    """A registry that lists its member once a test releases it, and holds its goodbye."""

    beyond_machine = False
    poll = 0.05

    def __init__(self) -> None:
        self.listing = threading.Event()
        self.leaving = threading.Event()
        self.left = threading.Event()
        self._me: list[Member] = []

    def default_listen(self, service: str, node_id: str) -> str | None:
        return "127.0.0.1:0"

    def register(self, service: str, me: Member, changed: object) -> None:
        self._me = [me]

    def members(self, service: str) -> list[Member]:
        if not self.listing.is_set():
            raise OSError("not yet")
        return self._me

    def deregister(self) -> None:
        self.leaving.set()
        assert self.left.wait(PATIENCE)


def test_ready_is_joined_and_not_leaving() -> None:
    registry = SlowRegistry()
    node = Node(registry=registry)
    starting = in_thread(node.start)
    wait_until(lambda: node.address is not None, PATIENCE)
    address = node.address
    assert address is not None
    answer = request(address, "/readyz")
    assert (answer.status, answer.body) == (503, "joining\n")
    assert request(address, "/healthz").status == 200

    registry.listing.set()
    wait_until(lambda: request(address, "/readyz").status == 200, PATIENCE)
    starting.result(PATIENCE)

    closing = in_thread(node.close)
    assert registry.leaving.wait(PATIENCE)
    answer = request(address, "/readyz")
    assert (answer.status, answer.body) == (503, "leaving\n")
    assert request(address, "/healthz").status == 200
    registry.left.set()
    closing.result(PATIENCE)
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the system says it
        request(address, "/healthz")


def test_a_node_that_drains_is_not_ready() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def load(key: str) -> bytes:
        entered.set()
        assert go_on.wait(PATIENCE)
        return b"value"

    ports = free_ports(2)
    registry = "static://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    asker, owner = (Node(f"127.0.0.1:{port}", registry=registry) for port in ports)
    asker.group("g", lambda key: b"own")
    owner.group("g", load)
    for starting in [in_thread(node.start) for node in (asker, owner)]:
        starting.result(PATIENCE)
    wait_until(lambda: len(asker.members()) == len(owner.members()) == 2, PATIENCE)
    address = owner.address
    assert address is not None
    key = next(key for key in (f"k{number}" for number in range(1000)) if str(asker.owner("g", key)) == address)
    getting = in_thread(asker.groups["g"].get, key)
    assert entered.wait(PATIENCE)

    closing = in_thread(owner.close, PATIENCE)
    wait_until(lambda: request(address, "/readyz").status == 503, PATIENCE)
    assert not closing.done()
    assert request(address, "/healthz").status == 200
    go_on.set()
    assert getting.result(PATIENCE) == b"value"
    closing.result(PATIENCE)
    asker.close()


def test_probes_need_no_python(address: str) -> None:
    """Answer while another thread holds the interpreter: poll() of a ctypes.PyDLL does not release it."""
    probes = [connect(address), connect(address)]
    for probe, path in zip(probes, (b"/healthz", b"/readyz"), strict=True):
        probe.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert _readable_while_held(probe)
        assert probe.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        probe.close()


def _readable_while_held(raw: socket.socket) -> bool:
    class Poll(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    waiting = Poll(raw.fileno(), 1, 0)
    ready: int = ctypes.PyDLL(None).poll(ctypes.byref(waiting), ctypes.c_ulong(1), int(PATIENCE * 1000))
    return ready == 1


def test_metrics_wait_for_a_busy_node_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer 503 after 5 s if the node's serving thread is held; health goes on."""
    monkeypatch.setattr(NativeLane, "patience", 1.0)
    node = Node("127.0.0.1:0")
    held, go_on = threading.Event(), threading.Event()

    def render() -> str:
        held.set()
        assert go_on.wait(PATIENCE)
        return "late 1\n"

    with node:
        address = node.address
        assert address is not None
        node._runtime.lane.publish([], render)
        scrape = in_thread(request, address, "/metrics")
        assert held.wait(PATIENCE)
        began = time.monotonic()
        assert request(address, "/healthz").status == 200
        assert scrape.result(PATIENCE).status == 503
        assert time.monotonic() - began < PATIENCE
        go_on.set()


def test_a_rendering_that_fails_is_an_answer() -> None:
    with Node("127.0.0.1:0") as node:
        assert node.address is not None
        node._runtime.lane.publish([], lambda: str(1 // 0))
        answer = request(node.address, "/metrics")
        assert (answer.status, answer.body) == (503, "there are no metrics\n")
