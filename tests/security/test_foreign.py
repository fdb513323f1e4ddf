"""Redis, gRPC and HTTP clients of a node with a password, and with TLS."""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
import redis
import trustme
from redis.backoff import NoBackoff
from redis.retry import Retry

from kamacache import TLS, Node
from tests.security.certificates import issue

SECRET = "correct-horse"  # noqa: S105 - for tests
GET = b"\n\x01g\x12\x01k"  # Request {group: "g", key: "k"}
BEARER = f"Bearer {SECRET}"
AT_ONCE = Retry(NoBackoff(), 0)  # redis-py would try again for seconds before it raises


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("127.0.0.1:0", password=SECRET) as node:
        node.group("g", lambda key: b"value of " + key.encode())
        yield node


def port_of(node: Node) -> int:
    return int(str(node.address).rpartition(":")[2])


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_clients(node: Node, protocol: int) -> None:
    with redis.Redis(port=port_of(node), password=SECRET, protocol=protocol) as client:
        assert client.get("g:k") == b"value of k"
        assert client.ping()
    with (
        redis.Redis(port=port_of(node), password=SECRET + "x", protocol=protocol, retry=AT_ONCE) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("g:k")
    with (
        redis.Redis(port=port_of(node), protocol=protocol, retry=AT_ONCE) as client,
        pytest.raises(redis.AuthenticationError, match=r"(?i)auth"),
    ):
        client.get("g:k")


def test_redis_clients_with_certificates(tmp_path: Path, authority: trustme.CA) -> None:
    files = issue(tmp_path / "node", authority)
    with Node("127.0.0.1:0", password=SECRET, tls=files.tls) as node:
        node.group("g", lambda key: b"value of " + key.encode())
        trusted = {"ssl": True, "ssl_ca_certs": str(files.ca), "password": SECRET, "port": port_of(node)}
        own = {"ssl_certfile": str(files.cert), "ssl_keyfile": str(files.key)}
        with redis.Redis(host="127.0.0.1", **trusted, **own) as client:  # type: ignore[arg-type]
            assert client.get("g:k") == b"value of k"
        with (
            redis.Redis(host="127.0.0.1", retry=AT_ONCE, **trusted) as client,  # type: ignore[arg-type]
            pytest.raises(redis.ConnectionError),
        ):
            client.get("g:k")


def test_grpc_clients(node: Node) -> None:
    with grpc.insecure_channel(str(node.address)) as channel:
        call = channel.unary_unary("/pb.KamaCache/Get")
        for metadata, said in (
            ((), "a password is required: send `authorization: Bearer <password>`"),
            (
                (("authorization", BEARER + "x"),),
                "wrong password: `authorization: Bearer <password>` has that of the nodes",
            ),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(GET, metadata=metadata, timeout=10)
            assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, said)
        assert call(GET, metadata=(("authorization", BEARER),), timeout=10) == b"\n\x0avalue of k"
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert health(b"", timeout=10)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_a_browser_that_has_no_password_yet_is_nothing_for_the_log(node: Node) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(node), timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 401
    connection.close()
    security = node._runtime.lane._security  # type: ignore[attr-defined]
    assert (security.guesses(), security.unproven()) == ([], [])


def test_metrics_want_the_password_and_probes_do_not(node: Node) -> None:
    for path, header, status in (
        ("/healthz", None, 200),
        ("/readyz", None, 200),
        ("/metrics", None, 401),
        ("/metrics", BEARER + "x", 401),
        ("/metrics", SECRET, 401),
        ("/metrics", BEARER, 200),
        ("/", None, 401),
        ("/status.json", None, 401),
        ("/", BEARER, 200),
        *((path, basic(f"anyone:{SECRET}"), 200) for path in ("/", "/status.json", "/metrics")),
        *(
            ("/status.json", basic(pair), 401)
            for pair in (f"{SECRET}:", f"anyone:{SECRET}x", SECRET, f"{SECRET}:guess")
        ),
        ("/", "Basic", 401),
        ("/", "Basic !", 401),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port_of(node), timeout=10)
        connection.request("GET", path, headers={} if header is None else {"Authorization": header})
        response = connection.getresponse()
        assert response.status == status, (path, header)
        assert (response.getheader("WWW-Authenticate") == 'Bearer, Basic realm="kamacache"') == (status == 401)
        assert SECRET.encode() not in response.read()
        connection.close()


def test_http_through_tls(tmp_path: Path, authority: trustme.CA) -> None:
    files = issue(tmp_path / "node", authority)
    with Node("127.0.0.1:0", tls=TLS(*files.all, mutual=False)) as node:
        context = ssl.create_default_context(cafile=str(files.ca))
        connection = http.client.HTTPSConnection("127.0.0.1", port_of(node), timeout=10, context=context)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
