"""kubernetes://: nodes that find each other by the pods of a service, from an API of the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tools.demo.etcd import free_port

from kamacache import Node
from kamacache.errors import ConfigError
from kamacache.registry import parse
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
    "rest", ["", "cache", "cache:0", "a/b/cache:1", "A/cache:1", "user:hidden@cache:1", "c:1?ttl=1"]
)
def test_invalid_urls(rest: str) -> None:
    with pytest.raises(ConfigError, match="registry kubernetes://") as caught:
        parse(f"kubernetes://{rest}")
    assert "hidden" not in str(caught.value)
