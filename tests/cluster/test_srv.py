"""dns+srv://: nodes that find each other by the SRV records of a name, from a DNS server of the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import dns.resolver
import pytest
from tools.demo.etcd import free_port

from kamacache import Node
from kamacache.errors import ConfigError
from kamacache.registry import parse
from tests.cluster.cluster import wait_until
from tests.cluster.dns_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def owners(nodes: list[Node]) -> set[Any]:
    return {tuple(node.owner("g", f"k{number}").address for number in range(20)) for node in nodes}


def test_nodes_at_ports_of_their_own(server: Server) -> None:
    """Let two nodes of one machine join by their records; the first listens at the one that is there when it starts."""
    one, other = (f"localhost:{free_port()}" for _ in range(2))
    server.targets = [one]
    first, second = Node(registry=server.url, service="srv"), Node(other, registry=server.url, service="srv")
    groups = [node.group("g", lambda key: key.encode()) for node in (first, second)]
    with first:
        assert first.address == one
        server.targets = [one, other]
        second.start()
        wait_until(lambda: len(owners([first, second])) == 1 and set(owners([first]).pop()) == {one, other})
        wait_until(lambda: groups[1].set("k", b"value"))
        server.targets = None  # no answer: the members stay
        assert groups[0].get("k") == b"value"
        assert len(owners([first, second])) == 1
        server.targets = []  # else their ends wait for answers
        second.close()


def test_what_it_listens_on_and_advertises(server: Server) -> None:
    registry = parse(server.url)
    with pytest.raises(ConnectionError, match="cannot be resolved"):
        registry.members("app")
    server.targets = ["localhost:8001", "localhost:8002", "far.test:8001"]
    assert registry.default_listen("app", "id") is None
    assert registry.advertise("0.0.0.0:8002") == "localhost:8002"
    assert registry.advertise("10.0.0.1:8001") == "10.0.0.1:8001"
    assert [member.address for member in registry.members("app")] == [
        "far.test:8001",
        "localhost:8001",
        "localhost:8002",
    ]


def test_records_that_name_no_member(server: Server) -> None:
    """Ignore the target ".", by which a name says that the service is not there (RFC 2782), and port 0."""
    registry = parse(server.url)
    server.targets = ["localhost:8001", ".:0", ".:8002", "localhost:0"]
    assert [member.address for member in registry.members("app")] == ["localhost:8001"]
    assert registry.default_listen("app", "id") == "localhost:8001"
    server.targets = [".:0"]
    with pytest.raises(ConnectionError, match=r"no SRV record .* names a target"):
        registry.members("app")


@pytest.mark.parametrize("rest", ["", "name", "name:8001", "_a:8001", "user:hidden@_a._tcp.b", "_a._tcp.b?port=1"])
def test_invalid_urls(rest: str) -> None:
    with pytest.raises(ConfigError, match=r"registry dns\+srv://") as caught:
        parse(f"dns+srv://{rest}")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("server", ["name.test:8600", "unix:/run/dns.sock", "", "127.0.0.1", "127.0.0.1:0"])
def test_servers_that_cannot_be_asked(server: str) -> None:
    with pytest.raises(ConfigError, match=r"registry dns\+srv://: server="):
        parse(f"dns+srv://_a._tcp.b?server={server}")


def test_a_machine_without_a_dns_server() -> None:
    error = dns.resolver.NoResolverConfiguration
    with (
        mock.patch.object(dns.resolver.Resolver, "read_resolv_conf", side_effect=error),
        pytest.raises(ConfigError, match=r"add \?server=127\.0\.0\.1:8600"),
    ):
        parse("dns+srv://_a._tcp.b")
