"""Requests that well-meaning HTTP clients do not send are refused, and the connection is closed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from kamacache import Node
from kamacache.net.native import NativeLane
from tests.http.client import connect, exchange, metrics, request


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node("127.0.0.1:0", advertise="cache-7.example:8001") as node:
        node.group("g")
        yield node


@pytest.fixture(scope="module")
def address(node: Node) -> str:
    assert node._bound is not None
    return node._bound


def status(answer: bytes) -> int:
    match = re.fullmatch(rb"HTTP/1\.1 (\d{3}) [A-Za-z ]+\r\n.*", answer, re.DOTALL)
    assert match, answer
    return int(match[1])


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.1.2.3:80", "[::1]:80", "[::1]", "localhost", "LOCALHOST:1", "Cache-7.Example"]
)
def test_own_names(address: str, host: str) -> None:
    assert request(address, "/healthz", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[",
        "[::1",
        "1",
        ":",
    ],
)
def test_names_of_others(address: str, host: str) -> None:
    """Show nothing to a page in a browser that reaches this port by a name of its own (DNS rebinding)."""
    for path in ("/healthz", "/readyz", "/metrics"):
        assert request(address, path, headers={"Host": host}).status == 421


@pytest.mark.parametrize(
    ("expected", "sent"),
    [
        (400, b"GET /healthz HTTP/1.1\r\n\r\n"),  # no Host
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n"),
        (400, b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n"),
        (400, b"GET /healthz\r\nHost: localhost\r\n\r\n"),
        (400, b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"),
        (405, b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"),
        (405, b"TRACE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (405, b"OPTIONS /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (405, b"DELETE /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /healthz/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET //healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"GET /%68ealthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),  # names are compared as they are
        (404, b"GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),  # this is no proxy
        (404, b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (404, b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (431, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n"),
        (431, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (431, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 100 + b"\r\n"),
    ],
)
def test_refused_requests(address: str, expected: int, sent: bytes) -> None:
    assert status(exchange(address, sent)) == expected


def test_a_refusal_of_a_method_names_those_allowed(address: str) -> None:
    assert request(address, "/healthz", "PUT").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("sent", [b"get /healthz HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\n\r\n", b"BREW /pot HTTP/1.1\r\n\r\n"])
def test_bytes_that_are_no_http_are_closed_without_a_reply(address: str, sent: bytes) -> None:
    assert exchange(address, sent) == b""


def test_one_request_per_connection(address: str) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert exchange(address, one * 3).count(b"HTTP/1.1 200 OK") == 1


def test_byte_by_byte(address: str) -> None:
    with connect(address) as raw:
        for byte in b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":
            raw.sendall(bytes([byte]))
        assert raw.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_client_that_does_not_finish_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drop a client that began a request after 5 s; a client that has sent nothing yet may take longer."""
    monkeypatch.setattr(NativeLane, "patience", 0.5)
    beginnings = [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n",
        b"G",
        b"GE",
        b"PRI",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        b"",
    ]
    with contextlib.ExitStack() as stack:
        address = str(stack.enter_context(Node("127.0.0.1:0")).address)
        *begun, silent = (stack.enter_context(connect(address)) for _ in beginnings)
        for raw, sent in zip(begun, beginnings, strict=False):
            raw.sendall(sent)
        answers = [b"".join(iter(lambda raw=raw: raw.recv(1000), b"")) for raw in begun]  # type: ignore[misc]
        assert status(answers[0]) == 408
        assert answers[1:] == [b""] * 4
        silent.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert silent.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")


def test_commands_in_a_request_are_not_executed(node: Node, address: str) -> None:
    node.groups["g"].set("k", b"value")
    body = b"*3\r\n$3\r\nDEL\r\n$3\r\ng:k\r\n"
    sent = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert status(exchange(address, sent)) == 400
    assert node.groups["g"].get("k") == b"value"


def test_a_client_that_breaks_off_harms_no_other(address: str) -> None:
    for sent in (b"GET ", b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        for _ in range(20):
            connect(address).close()
            with connect(address) as raw:
                raw.sendall(sent)
    assert metrics(address)
