"""An address that a node of another service has taken over is never asked, never written to, and warned of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from kamacache import Group, Member, Node
from tests.cluster.cluster import wait_until
from tests.support.table import Table

KEYS = [str(number) for number in range(40)]


def make(
    service: str, table: dict[str | None, Member], value: bytes, password: str | None
) -> tuple[Node, Group[bytes]]:
    node = Node("127.0.0.1:0", registry=Table(table), service=service, password=password)
    group = node.group("users", lambda _: value)
    node.start()
    return node, group


@pytest.fixture(params=[None, "secret"], ids=["open", "password"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Node, Group[bytes], Group[bytes]]]:
    """Yield a node of the service "ours", its group, and that of a node of "theirs" which is listed there."""
    ours: dict[str | None, Member] = {}
    other, theirs = make("theirs", {}, b"theirs", request.param)
    address = other.address or ""
    ours[address] = Member("ab" * 8, address, 1.0, ("users",), loads=("users",))
    node, group = make("ours", ours, b"ours", request.param)
    yield node, group, theirs
    node.close(drain=0)
    other.close(drain=0)


def test_of_another_service(pair: tuple[Node, Group[bytes], Group[bytes]], caplog: pytest.LogCaptureFixture) -> None:
    _, group, theirs = pair
    assert {theirs.get(key) for key in KEYS} == {b"theirs"}
    assert {group.get(key) for key in KEYS[:10]} == {b"ours"}
    assert {asyncio.run(group.aget(key)) for key in KEYS[10:20]} == {b"ours"}
    assert set(group.get_many(KEYS).values()) == {b"ours"}
    assert group.set_many(dict.fromkeys(KEYS, b"set")) is False
    assert asyncio.run(group.adelete("1")) is False
    said = [record.getMessage() for record in caplog.get_records("setup") + caplog.records]
    assert any("this node belongs to the service 'theirs', not to 'ours'" in text for text in said)
    assert {theirs.get(key) for key in KEYS} == {b"theirs"}


def test_of_the_same_service() -> None:
    table: dict[str | None, Member] = {}
    nodes = [make("ours", table, b"ours", "secret") for _ in range(2)]
    try:
        wait_until(lambda: all(len(node.members()) == 2 for node, _ in nodes))
        wait_until(lambda: nodes[0][1].set("1", b"set") is True)
        assert nodes[1][1].get("1") == b"set"
    finally:
        for node, _ in nodes:
            node.close(drain=0)
