"""Addresses that a registry lists as clients of other kinds, as administrators see them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kamacache import Node
from kamacache.registry.static import StaticRegistry
from tests.clients.nodes import PATIENCE, command, connect
from tests.cluster.cluster import wait_until
from tests.security.cluster import free_ports

FOREIGN = "192.0.2.7:8001"


class Registry(StaticRegistry):
    """A registry with an address that no node of KamaCache for Python has, as etcd lists Go nodes."""

    def clients(self, _: str) -> list[str]:
        return [FOREIGN]


def shown(node: Node, *said: bytes) -> dict[str, str]:
    """Return the states of the members by address."""
    with connect(node) as wire, wire.makefile("rb") as replies:
        wire.sendall(b"".join(said) + command(b"KC.MEMBERS"))
        for _ in said:
            assert replies.readline() == b"+OK\r\n"
        size = int(replies.readline()[1:])
        members: list[dict[str, Any]] = json.loads(replies.read(size))
    return {member["address"]: member["state"] for member in members}


@pytest.mark.parametrize("password", [None, "secret"])
def test_one_that_may_be_refused_is_not_shown_as_a_client(password: str | None) -> None:
    said = [] if password is None else [command(b"AUTH", password.encode())]
    state = "client" if password is None else "unknown"
    (port,) = free_ports(1)
    at = f"127.0.0.1:{port}"
    with Node(at, registry=Registry(f"static://{at}"), password=password) as node:
        wait_until(lambda: shown(node, *said).get(FOREIGN) == state, PATIENCE)
