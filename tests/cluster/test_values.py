"""Values between real nodes: bytes that one cannot read, and compressed ones, which clients get as they were before."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from kamacache import Group, Node
from kamacache._engine import PACKED
from tests.unit.groups import until
from tests.unit.test_unread import Release, spoil

LARGE = "many of the same words, " * 1000


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ExitStack() as stack:
        yield [stack.enter_context(Node(registry="local://", service="values")) for _ in range(2)]


def agreed(nodes: list[Node]) -> list[str]:
    """Return keys of the first node, once both nodes see both as owners."""
    keys = [str(number) for number in range(400)]
    until(lambda: all({node.owner("g", key).id for key in keys} == {one.id for one in nodes} for node in nodes))
    return [key for key in keys if nodes[1].owner("g", key).id == nodes[0].id]


def test_what_an_asker_cannot_read_is_loaded_once_by_its_owner(pair: list[Node]) -> None:
    loads: list[str] = []

    def load(key: str) -> str:
        loads.append(key)
        return f"new {key}"

    owner, asker = [node.group("g", load, codec=Release(reads)) for node, reads in zip(pair, ("ax", "a"), strict=True)]
    one, two, three, four, five, hot, *_ = agreed(pair)
    for key in (one, two, three, four, five, hot):
        spoil(owner, key)
    assert asker.get(one) == f"new {one}"
    assert asker.get_many([two, three]) == {two: f"new {two}", three: f"new {three}"}

    async def tasks() -> None:
        for _ in range(2):
            assert await asker.aget(four) == f"new {four}"
            await asyncio.sleep(0.05)  # the loop has its own connection by now
        assert await asker.aget(five) == f"new {five}"
        assert await asker.aget_many([five, one]) == {five: f"new {five}", one: f"new {one}"}

    asyncio.run(tasks())
    for _ in range(10):  # it becomes hot, and a near copy
        assert asker.get(hot) == f"new {hot}"
    assert sorted(loads) == sorted([one, two, three, four, five, hot])
    stats = asker.stats()
    assert stats.undecodable == 6
    answers = (stats.hits, stats.near_hits, stats.absent, stats.peer_hits, stats.joined, stats.loads, stats.peer_loads)
    assert stats.gets == sum(answers) == 1 + 2 + 3 + 2 + 10


def test_a_near_copy_that_cannot_be_read(pair: list[Node]) -> None:
    owner, asker = [node.group("g", str, codec=Release("a")) for node in pair]
    key = agreed(pair)[0]
    owner.get(key)
    store = asker._core.store
    assert store.put(key, b"xold", store.known(key), 5.0, store.NEAR)
    assert [asker.get(key), asker.get(key)] == [key, key]
    assert (asker.stats().undecodable, asker.stats().near_hits, asker.stats().peer_hits) == (1, 0, 2)


def test_clients_get_and_set_what_is_compressed_as_it_was_before(pair: list[Node]) -> None:
    groups: list[Group[Any]] = [node.group("g", lambda _: LARGE, codec="text", compress_above=100) for node in pair]
    loaded, written, small = agreed(pair)[:3]
    clients = [redis.Redis(unix_socket_path=str(node.address).removeprefix("unix:")) for node in pair]
    for _ in range(2):
        for client in clients:
            assert client.get(f"g:{loaded}") == LARGE.encode()
    assert clients[1].set(f"g:{written}", LARGE * 2)
    assert clients[1].set(f"g:{small}", "small")
    found = groups[0]._core.store.find(written)
    assert found is not None
    assert found[0] is not None
    assert found[0].startswith(PACKED)
    for group, client in zip(groups, clients, strict=True):
        assert (group.get(written), group.get(small)) == (LARGE * 2, "small")
        assert client.mget([f"g:{written}", f"g:{small}"]) == [(LARGE * 2).encode(), b"small"]
        client.close()
    stats = groups[0].stats()
    answers = (stats.hits, stats.near_hits, stats.absent, stats.peer_hits, stats.joined, stats.loads, stats.peer_loads)
    assert stats.gets == sum(answers)
