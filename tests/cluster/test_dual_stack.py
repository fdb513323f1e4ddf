"""Nodes that are reached by IPv4 and by IPv6."""

from __future__ import annotations

import socket

import pytest
from tools.demo.etcd import free_port

from kamacache import Node
from tests.cluster.cluster import wait_until


def has_six() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_six(), reason="no IPv6 here")
def test_nodes_that_listen_on_every_address() -> None:
    """Let one node be known by an IPv4 address, one by an IPv6 address and one by a name that has both."""
    ports = [free_port() for _ in range(3)]
    listed = [f"{host}:{port}" for host, port in zip(("127.0.0.1", "[::1]", "localhost"), ports, strict=True)]
    registry = f"static://{','.join(listed)}"
    nodes = [Node(f"[::]:{port}", registry=registry, service="dual", insecure=True) for port in ports]
    groups = [node.group("g", lambda key: key.encode()) for node in nodes]
    try:
        for node in nodes:
            node.start()
        assert [node.address for node in nodes] == listed
        wait_until(lambda: all(len(node.members()) == 3 for node in nodes))
        wait_until(lambda: groups[0].set("k", b"value"))
        assert [group.get("k") for group in groups] == [b"value"] * 3
        for node in nodes:
            assert {node.owner("g", f"k{number}").address for number in range(50)} == set(listed)
    finally:
        for node in nodes:
            node.close(drain=0)
