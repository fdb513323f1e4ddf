"""Helpers for tests of HTTP: requests by http.client, bytes by hand, metrics by prometheus_client's parser."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from kamacache import Node
from tests.cluster.cluster import in_thread, wait_until
from tests.cluster.conftest import free_ports

PATIENCE = 20.0  # seconds


def two_nodes(service: str, load: Callable[[str], bytes | None], **options: Any) -> Iterator[list[Node]]:
    """Yield two members at ports of loopback, with the group users."""
    ports = free_ports(2)
    listed = ",".join(f"127.0.0.1:{port}" for port in ports)
    nodes = [Node(f"127.0.0.1:{port}", registry=f"static://{listed}", service=service) for port in ports]
    for node in nodes:
        node.group("users", load, **options)
    for starting in [in_thread(node.start) for node in nodes]:
        starting.result(PATIENCE)
    wait_until(lambda: all(len(node.members()) == 2 for node in nodes), PATIENCE)
    yield nodes
    for node in nodes:
        node.close()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


def connect(address: str) -> socket.socket:
    if address.startswith("unix:"):
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE)
        raw.connect(address.removeprefix("unix:"))
        return raw
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def request(address: str, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", timeout=PATIENCE)
    connection.sock = connect(address)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read().decode()
        )
    finally:
        connection.close()


def exchange(address: str, sent: bytes) -> bytes:
    """Return all bytes that come back until the other side closes."""
    with connect(address) as raw:
        raw.sendall(sent)
        received = b""
        while chunk := raw.recv(65536):
            received += chunk
        return received


def metrics(address: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the samples by name and labels; each has a family that was announced."""
    answer = request(address, "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(answer.body):
        assert family.documentation
        assert family.type in {"counter", "gauge", "histogram"}
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def labelled(**labels: str) -> frozenset[tuple[str, str]]:
    return frozenset(labels.items())
