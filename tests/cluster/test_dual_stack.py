"""Nodes that are reached by IPv4 and by IPv6."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from tools.demo.etcd import free_port

from kamacache import Node
from tests.cluster.cluster import wait_until
from tests.etcd.server import Etcd


def has_six() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not has_six(), reason="no IPv6 here")


def of_each_family() -> tuple[list[int], list[str]]:
    """Return ports, and addresses with them: an IPv4 address, an IPv6 address and a name that has both."""
    ports = [free_port() for _ in range(3)]
    return ports, [f"{host}:{port}" for host, port in zip(("127.0.0.1", "[::1]", "localhost"), ports, strict=True)]


def check_all_reach_all(nodes: list[Node], addresses: list[str]) -> None:
    groups = [node.group("g", lambda key: key.encode()) for node in nodes]
    try:
        for node in nodes:
            node.start()
        assert [node.address for node in nodes] == addresses
        wait_until(lambda: all(len(node.members()) == 3 for node in nodes))
        wait_until(lambda: groups[0].set("k", b"value"))
        assert [group.get("k") for group in groups] == [b"value"] * 3
        for node in nodes:
            assert {node.owner("g", f"k{number}").address for number in range(50)} == set(addresses)
        for group in groups:
            assert group.get_many([f"k{number}" for number in range(50)]) == {
                f"k{number}": f"k{number}".encode() for number in range(50)
            }
    finally:
        for node in nodes:
            node.close(drain=0)


def test_a_fixed_list() -> None:
    ports, addresses = of_each_family()
    registry = f"static://{','.join(addresses)}"
    check_all_reach_all(
        [Node(f"[::]:{port}", registry=registry, service="dual", insecure=True) for port in ports], addresses
    )


@pytest.mark.parametrize("kind", ["local", "etcd"])
def test_a_registry_with_the_address_that_each_node_advertises(kind: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        registry = f"local://{tmp_path}/meet"
        if kind == "etcd":
            registry = stack.enter_context(Etcd(tmp_path)).url
        ports, addresses = of_each_family()
        nodes = [
            Node(f"[::]:{port}", registry=registry, service="dual", advertise=address, insecure=True)
            for port, address in zip(ports, addresses, strict=True)
        ]
        check_all_reach_all(nodes, addresses)
