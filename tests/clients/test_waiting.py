"""Clients that wait for slow loads: their limit, and the end of those that leave."""

from __future__ import annotations

import ctypes
import socket
from typing import Any

import pytest
import redis

from kamacache import Member
from kamacache.cluster.peers import Peer
from kamacache.serve import clients
from tests.clients.nodes import PATIENCE, Trio, bulk, command, connect, expect, waiting, where
from tests.cluster.cluster import in_thread, wait_until


def test_a_client_that_is_gone_is_dropped_and_the_load_goes_on(trio: Trio) -> None:
    node = trio.nodes[0]
    with connect(node) as wire:
        wire.sendall(command(b"GET", b"users:slow") + command(b"SET", b"plain:k", b"v"))
        assert trio.source.slow.acquire(timeout=PATIENCE)
        assert waiting(node) == 1
    wait_until(lambda: not waiting(node), PATIENCE)
    trio.source.go_on.set()
    assert node.groups["users"].get("slow") == b"value of slow"
    assert trio.source.loads == {"slow": 1}
    assert node.groups["plain"].get("k") is None  # a command after the one that was dropped is not executed


def test_too_many_waiting_clients_get_an_error(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST", 2)
    node = trio.nodes[0]
    connections: list[Any] = [redis.Redis(**where(node), single_connection_client=True) for _ in range(3)]
    gets = [in_thread(client.get, "users:slow") for client in connections[:2]]
    wait_until(lambda: waiting(node) == 2, PATIENCE)
    refused = connections[2]
    with pytest.raises(redis.ResponseError, match=r"^OVERLOADED 2 requests of clients wait here$"):
        refused.get("users:k")
    trio.source.go_on.set()
    assert [get.result(PATIENCE) for get in gets] == [b"value of slow"] * 2
    wait_until(lambda: not waiting(node), PATIENCE)
    assert refused.get("users:k") == b"value of k"
    for client in connections:
        client.close()


def test_a_hit_in_memory_needs_no_python(trio: Trio) -> None:
    """Hold the interpreter while the answers come: poll() of a ctypes.PyDLL does not release it."""
    node = trio.nodes[0]
    key = b"users:" + trio.key_of(node).encode()
    value = bulk(b"value of " + key.removeprefix(b"users:"))
    asked = (
        (command(b"GET", key), value),
        (command(b"MGET", key, key), b"*2\r\n" + value * 2),
        (command(b"GET", b"users:none"), b"$-1\r\n"),
    )
    for question, reply in asked:
        with connect(node) as wire:
            wire.sendall(question)
            expect(wire, reply)
            if b"none" in question and node.owner("users", "none").id != node.id:
                continue  # absence is remembered at the owner
            wire.sendall(question)
            assert _readable_while_held(wire)
            expect(wire, reply)


def _readable_while_held(raw: socket.socket) -> bool:
    class Poll(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    poll = Poll(raw.fileno(), 1, 0)
    ready: int = ctypes.PyDLL(None).poll(ctypes.byref(poll), ctypes.c_ulong(1), int(PATIENCE * 1000))
    return ready == 1


def test_a_dead_owner_costs_no_error(trio: Trio) -> None:
    owner, asker = trio.nodes[0], trio.nodes[1]
    keys = [trio.key_of(owner, prefix) for prefix in ("a", "b")]
    client: Any = redis.Redis(**where(asker))
    assert client.set(f"users:{keys[0]}", "x", ex=1000)
    owner._runtime.lane.close()  # without a goodbye
    assert client.get(f"users:{keys[1]}") == b"value of " + keys[1].encode()
    assert client.get(f"users:{keys[0]}") == b"value of " + keys[0].encode()  # the copy is lost with its owner
    assert client.ttl(f"users:{keys[0]}") == -1
    assert client.delete(f"users:{keys[0]}") == 1
    client.close()


def test_a_write_that_did_not_reach_every_node_is_answered_as_ever(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer as always if the owner took the write: Python returns False, clients see no difference."""
    writer = trio.nodes[0]
    silent = socket.create_server(("127.0.0.1", 0), backlog=50)
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    deaf, listeners = Peer(Member("ab" * 8, address)), writer._membership.listeners
    monkeypatch.setattr(writer._membership, "listeners", lambda: [*listeners(), deaf])
    key = trio.key_of(writer, group="plain")
    client: Any = redis.Redis(**where(writer))
    try:
        assert writer.groups["plain"].set(key, b"w") is False
        assert client.set(f"plain:{key}", "x") is True
        assert client.get(f"plain:{key}") == b"x"
        assert client.delete(f"plain:{key}") == 1
        assert client.get(f"plain:{key}") is None
    finally:
        silent.close()
        client.close()
