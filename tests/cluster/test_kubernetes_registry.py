"""kubernetes://: nodes that find each other by the pods of a service, from an API of the test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.demo.etcd import free_port

from kamacache import Node
from kamacache.errors import ConfigError
from kamacache.registry import kubernetes, parse
from tests.cluster.cluster import wait_until
from tests.cluster.kubernetes_api import Api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path / "account")
    yield made
    made.close()


def test_pods_find_each_other(api: Api) -> None:
    """Let two nodes join, one of which is not ready, and go on while the API refuses."""
    port = free_port()
    api.pods = ["127.0.0.1", "127.0.0.2"]
    options = {"registry": f"kubernetes://cache:{port}", "service": "pods"}
    nodes = [Node(f"{host}:{port}", **options) for host in api.pods]  # type: ignore[arg-type]
    groups = [node.group("g", lambda key: key.encode()) for node in nodes]
    for node in nodes:
        node.start()
    listed = {f"{host}:{port}" for host in api.pods}
    wait_until(lambda: all({node.owner("g", f"k{n}").address for n in range(50)} == listed for node in nodes))
    wait_until(lambda: groups[0].set("k", b"value"))
    api.status = 500
    assert groups[1].get("k") == b"value"
    for node in nodes:
        node.close(drain=0)


def test_what_it_says_of_failures(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = parse("kubernetes://shop/cache:8001")
    with pytest.raises(ConnectionError, match="no address"):
        registry.members("app")
    with pytest.raises(ConnectionError, match="allow the service account to list endpointslices"):
        parse("kubernetes://other/cache:8001").members("app")
    api.status = 500
    with pytest.raises(ConnectionError, match="answers 500"):
        registry.members("app")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(ConnectionError, match="KUBERNETES_SERVICE_HOST"):
        registry.members("app")


@pytest.mark.parametrize(
    "content",
    [
        *(b"[]", b"7", b"{}", b'{"items": null}', b'{"items": "text"}', b'{"items": [7]}', b"[" * 100_000),
        b'{"items": [{"addressType": "IPv4", "endpoints": [{"addresses": "10.0.0.1"}]}]}',
    ],
)
def test_answers_of_another_shape(api: Api, content: bytes) -> None:
    api.content = content
    with pytest.raises(ConnectionError, match=r"other than EndpointSlices|no address"):
        parse("kubernetes://cache:8001").members("app")


def test_answers_without_an_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up on an answer that comes byte by byte, and on one that is too large."""
    registry = parse("kubernetes://cache:8001")
    monkeypatch.setattr(kubernetes, "_TIME", 0.5)
    api.content, api.pause = b"[" * 200, 0.1
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"no whole answer|timed out"):
        registry.members("app")
    assert time.monotonic() - begin < 10  # it takes 20 to read all
    monkeypatch.setattr(kubernetes, "_TIME", 20.0)
    monkeypatch.setattr(kubernetes, "_MAX", 1 << 20)
    api.content, api.pause = b" " * (1 << 21), 0.0
    with pytest.raises(ConnectionError, match="more than 1 MiB"):
        registry.members("app")


@pytest.mark.parametrize("token", ["hidden\nhidden", "hidden\u20ac", ""])
def test_a_bad_token_is_not_shown(api: Api, token: str) -> None:
    (kubernetes.ACCOUNT / "token").write_text(token)
    with pytest.raises(ConnectionError, match="token does not hold one token") as caught:
        parse("kubernetes://cache:8001").members("app")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "rest", ["", "cache", "cache:0", "a/b/cache:1", "A/cache:1", "user:hidden@cache:1", "c:1?ttl=1"]
)
def test_invalid_urls(rest: str) -> None:
    with pytest.raises(ConfigError, match="registry kubernetes://") as caught:
        parse(f"kubernetes://{rest}")
    assert "hidden" not in str(caught.value)
