"""Certificates that are not good enough, shown by and to clients of each protocol over real connections."""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from kamacache import Node
from tests.security.certificates import Files, issue

PATIENCE = 20.0  # seconds
Ask = Callable[[int, "Files | None", "Files | None"], str]


class Refused(Exception):
    """The client got no answer."""


def by_redis(port: int, trusted: Files | None, own: Files | None) -> str:
    once = Retry(NoBackoff(), 0)
    options: dict[str, object] = {"host": "127.0.0.1", "port": port, "socket_timeout": PATIENCE, "retry": once}
    if trusted is not None:
        options |= {"ssl": True, "ssl_ca_certs": str(trusted.ca), "ssl_check_hostname": True}
    if own is not None:
        options |= {"ssl_certfile": str(own.cert), "ssl_keyfile": str(own.key)}
    with redis.Redis(**options) as client:  # type: ignore[arg-type]
        try:
            return str(client.get("g:k"))
        except (redis.ConnectionError, redis.InvalidResponse) as error:  # the other: an alert, taken for an answer
            raise Refused(error) from error


def by_grpc(port: int, trusted: Files | None, own: Files | None) -> str:
    at = f"127.0.0.1:{port}"
    if trusted is None:
        channel = grpc.insecure_channel(at)
    else:
        pair = (None, None) if own is None else (own.key.read_bytes(), own.cert.read_bytes())
        channel = grpc.secure_channel(at, grpc.ssl_channel_credentials(trusted.ca.read_bytes(), *pair))
    with channel:
        try:
            return str(channel.unary_unary("/pb.KamaCache/Get")(b"\n\x01g\x12\x01k", timeout=PATIENCE))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            raise Refused(error) from error


def by_http(port: int, trusted: Files | None, own: Files | None) -> str:
    if trusted is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    else:
        context = ssl.create_default_context(cafile=str(trusted.ca))
        if own is not None:
            context.load_cert_chain(own.cert, own.key)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (ssl.SSLError, ConnectionError, http.client.HTTPException) as error:
            raise Refused(error) from error


@pytest.mark.parametrize("ask", [by_redis, by_grpc, by_http])
@pytest.mark.parametrize(
    ("server", "trusted", "own"),
    [
        ("good", "good", None),
        ("good", "good", "other authority"),
        ("good", "good", "expired"),
        ("good", "other authority", "good"),
        ("expired", "good", "good"),
        ("other host", "good", "good"),
        ("good", None, None),
        (None, "good", "good"),
    ],
)
def test_certificates_that_are_refused(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA, ask: Ask, server: str | None, trusted: str | None,
    own: str | None,
) -> None:  # fmt: skip
    files: dict[str | None, Files | None] = {
        None: None,
        "good": issue(tmp_path / "good", authority),
        "expired": issue(tmp_path / "expired", authority, expired=True),
        "other host": issue(tmp_path / "host", authority, "elsewhere.example"),
        "other authority": issue(tmp_path / "other", stranger),
    }
    loads: Counter[str] = Counter()
    shown = files[server]
    with Node("127.0.0.1:0", tls=None if shown is None else shown.tls) as node:

        @node.loader("g")
        def load(key: str) -> bytes:
            loads[key] += 1
            return b"value"

        port = int(str(node.address).rpartition(":")[2])
        with pytest.raises(Refused):
            ask(port, files[trusted], files[own])
        assert not loads
        if server in {None, "good"}:
            assert "kamacache_" in by_http(port, shown, shown)
            assert "value" in by_redis(port, shown, shown)
            assert "value" in by_grpc(port, shown, shown)
            assert loads == {"k": 1}
