"""Loads that wait for a thread, and whose callers have gone: they do not run, and hold up nobody after them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kamacache import LoadTimeout, Node
from kamacache.net import native
from kamacache.serve.loads import ServedLoad
from tests.clients.nodes import PATIENCE, command, connect, expect, waiting
from tests.cluster.cluster import in_thread, wait_until

KEYS = [f"k{number}" for number in range(30)]


class Slow:
    """A node with one thread for loads; its loader waits for `go_on`."""

    def __init__(self, **options: Any) -> None:
        self.loads: list[str] = []
        self.go_on = threading.Event()
        self.node = Node("127.0.0.1:0", loader_threads=1, **options)
        self.group = self.node.group("users", self.load)
        self.node.start()

    def load(self, key: str) -> bytes:
        self.loads.append(key)
        assert self.go_on.wait(PATIENCE)
        return key.encode()

    def queued(self) -> int:
        return self.node._runtime.pool(0)._jobs.qsize()


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    yield made
    made.go_on.set()
    made.node.close(drain=0)


def test_clients_that_went_away(slow: Slow) -> None:
    wires = [connect(slow.node) for _ in KEYS]
    for wire, key in zip(wires, KEYS, strict=True):
        wire.sendall(command(b"GET", f"users:{key}".encode()))
    wait_until(lambda: waiting(slow.node) == len(KEYS) and slow.queued() == len(KEYS) - 1, PATIENCE)
    for wire in wires:
        wire.close()
    wait_until(lambda: not waiting(slow.node), PATIENCE)
    slow.go_on.set()
    with connect(slow.node) as wire:
        wire.sendall(command(b"GET", b"users:next"))
        expect(wire, b"$4\r\nnext\r\n")
    assert len(slow.loads) == 2
    assert slow.loads[1] == "next"


def test_tasks_that_were_cancelled(slow: Slow) -> None:
    """Load what another task, or a thread, still waits for, whoever asked first."""

    async def ask() -> list[bytes | None]:
        begun = asyncio.create_task(slow.group.aget("begun"))
        await asyncio.to_thread(wait_until, lambda: slow.loads)
        gone = [asyncio.create_task(slow.group.aget(key)) for key in KEYS]
        batch = asyncio.create_task(slow.group.aget_many([f"b{key}" for key in KEYS]))
        await asyncio.to_thread(wait_until, lambda: slow.queued() == len(KEYS) + 1)
        stays = asyncio.create_task(slow.group.aget("k7"))
        thread = in_thread(slow.group.get, "k8")
        await asyncio.sleep(0.05)  # the thread joins meanwhile, or loads by itself
        for task in [*gone, batch, begun]:
            task.cancel()
        await asyncio.gather(*gone, batch, begun, return_exceptions=True)
        slow.go_on.set()
        return [await stays, await asyncio.to_thread(thread.result, PATIENCE), await slow.group.aget("next")]

    assert asyncio.run(ask()) == [b"k7", b"k8", b"next"]
    assert sorted(slow.loads) == ["begun", "k7", "k8", "next"]


def test_a_batch_is_left_where_it_was(slow: Slow) -> None:
    """Stop after the key whose load has begun."""

    async def ask() -> None:
        batch = asyncio.create_task(slow.group.aget_many(KEYS))
        await asyncio.to_thread(wait_until, lambda: slow.loads)
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)
        slow.go_on.set()
        assert await slow.group.aget("next") == b"next"

    asyncio.run(ask())
    assert slow.loads == [KEYS[0], "next"]


def test_peers_whose_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[Callable[[], bool]] = []
    run = ServedLoad._go

    def noted(load: ServedLoad, keys: list[str]) -> None:
        gone.append(load._gone)
        run(load, keys)

    monkeypatch.setattr(ServedLoad, "_go", noted)
    monkeypatch.setattr(native, "PEEK_TIMEOUT", 10.0)  # on a machine that is busy the owner is not doubted
    registry = f"local://{tmp_path}/meet"
    owner = Slow(registry=registry)
    asker = Node("127.0.0.1:0", registry=registry)
    try:
        group = asker.group("users", None, load_timeout="0.3s")
        asker.start()
        wait_until(lambda: len(owner.node.members()) == 2 and asker.owner("users", "k").id == owner.node.id, PATIENCE)
        calls = [in_thread(group.get, key) for key in KEYS]
        for call in calls:
            with pytest.raises(LoadTimeout):
                call.result(PATIENCE)
        pool = owner.node._runtime.pool(0)
        assert pool._jobs.qsize() == len(KEYS) - 1
        assert len(owner.loads) == 1
        wait_until(lambda: all(each() for each in gone), PATIENCE)
        owner.go_on.set()
        wait_until(lambda: not pool._jobs.qsize(), PATIENCE)
        assert owner.group.get("next") == b"next"
        assert owner.loads[1:] == ["next"]
    finally:
        owner.go_on.set()
        asker.close(drain=0)
        owner.node.close(drain=0)


def test_clients_that_left_another_node_than_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load what another client of that node, or of the owner, still waits for."""
    gone: list[Callable[[], bool]] = []
    run = ServedLoad._go

    def noted(load: ServedLoad, keys: list[str]) -> None:
        gone.append(load._gone)
        run(load, keys)

    monkeypatch.setattr(ServedLoad, "_go", noted)
    registry = f"local://{tmp_path}/meet"
    owner = Slow(registry=registry)
    asker = Node("127.0.0.1:0", registry=registry)
    try:
        asker.group("users", None)
        asker.start()
        wait_until(lambda: len(owner.node.members()) == 2 and asker.owner("users", "k").id == owner.node.id, PATIENCE)
        begun = connect(owner.node)
        begun.sendall(command(b"GET", b"users:begun"))
        wait_until(lambda: owner.loads, PATIENCE)
        wires = [connect(asker) for _ in KEYS]
        for wire, key in zip(wires, KEYS, strict=True):
            wire.sendall(command(b"GET", f"users:{key}".encode()))
        wait_until(lambda: len(gone) == len(KEYS) == waiting(asker), PATIENCE)
        with begun, connect(asker) as joins, connect(owner.node) as asks:
            joins.sendall(command(b"GET", b"users:k7"))
            asks.sendall(command(b"GET", b"users:k8"))
            wait_until(lambda: waiting(asker) == len(KEYS) + 1 and waiting(owner.node) == 2, PATIENCE)
            for wire in wires:
                wire.close()
            wait_until(lambda: sum(each() for each in gone) == len(KEYS) - 1, PATIENCE)
            owner.go_on.set()
            expect(begun, b"$5\r\nbegun\r\n")
            expect(joins, b"$2\r\nk7\r\n")
            expect(asks, b"$2\r\nk8\r\n")
        assert sorted(owner.loads) == ["begun", "k7", "k8"]
        assert not any(peer.dead for peer in asker._runtime.membership.listeners())
    finally:
        owner.go_on.set()
        asker.close(drain=0)
        owner.node.close(drain=0)
