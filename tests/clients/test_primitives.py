"""The commands that an owner decides on, from redis-py, by way of every node."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kamacache import Clock, Node
from tests.clients.nodes import Trio, where
from tests.cluster.cluster import wait_until

redis = pytest.importorskip("redis")


@pytest.fixture
def clients(tcp_trio: Trio) -> Iterator[list[Any]]:
    made = [redis.Redis(**where(node), decode_responses=True) for node in tcp_trio.nodes]
    yield made
    for client in made:
        client.close()


def test_set_on_conditions(clients: list[Any], tcp_trio: Trio) -> None:
    a, b, c = clients
    assert a.set("plain:k", "1", xx=True) is None
    assert a.set("plain:k", "1", nx=True, ex=100) is True
    assert b.set("plain:k", "2", nx=True) is None
    assert b.set("plain:k", "2", get=True, keepttl=True) == "1"
    assert 90 < c.ttl("plain:k") <= 100
    assert c.set("plain:k", "3", xx=True) is True
    assert a.ttl("plain:k") == -1
    assert a.setnx("plain:k", "4") is False
    assert a.setnx("plain:new", "4") is True
    for command, time in (("SETEX", 50), ("PSETEX", 40_000)):
        assert b.execute_command(command, "plain:k", time, "5") in {True, "OK"}
    assert 30 < a.ttl("plain:k") <= 40
    assert a.mset({"plain:m1": "1", "plain:m2": "2", "docs:m": "[3]"}) is True
    assert b.mget("plain:m1", "plain:m2", "docs:m") == ["1", "2", "[3]"]
    for bad in (["SET", "plain:k", "v", "NX", "XX"], ["SETEX", "plain:k", "0", "v"], ["MSET", "plain:k"]):
        with pytest.raises(redis.ResponseError, match=r"syntax error|invalid expire|wrong number"):
            a.execute_command(*bad)
    with pytest.raises(redis.ResponseError, match="CodecError"):
        a.set("docs:m", "no JSON", nx=True)


def test_values_that_were_compressed_come_back_as_they_were(clients: list[Any], tcp_trio: Trio) -> None:
    for node in tcp_trio.nodes:
        node.group("packed", codec="text", compress_above=10)
    for number, client in enumerate(clients):
        key = f"packed:{number}"
        for value in ("a" * 1000, "short"):
            assert client.set(key, value) is True
            assert client.getex(key, ex=50) == client.get(key) == value
            assert client.set(key, value, get=True) == value
            assert client.set(key, value, xx=True, get=True) == value
            assert client.getdel(key) == value
            assert client.getdel(key) is None


def test_counters(clients: list[Any], tcp_trio: Trio) -> None:
    def count(client: Any) -> list[int]:
        return [client.incr("docs:n") for _ in range(40)]

    with ThreadPoolExecutor(3) as threads:
        sums = [threads.submit(count, client) for client in clients]
        assert sorted(n for each in sums for n in each.result(30)) == list(range(1, 121))
    a, b, c = clients
    assert (a.get("docs:n"), b.decr("docs:n", 20), c.get("docs:n")) == ("120", 100, "100")
    assert [node.groups["docs"].get("n") for node in tcp_trio.nodes] == [100] * 3
    assert (a.incrby("docs:n", -101), a.decr("docs:n"), b.mget("docs:n")) == (-1, -2, ["-2"])
    a.set("plain:five", "5", ex=100)
    assert b.incr("plain:five") == 6
    assert 90 < c.ttl("plain:five") <= 100
    a.set("plain:text", "abc")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        b.incr("plain:text")
    a.set("plain:most", str(2**63 - 1))
    with pytest.raises(redis.ResponseError, match="overflow"):
        b.incr("plain:most")
    assert c.get("plain:most") == str(2**63 - 1)


def test_times_and_removals(clients: list[Any]) -> None:
    a, b, c = clients
    a.set("plain:k", "v")
    assert b.expire("plain:k", 100) is True
    assert 90 < c.ttl("plain:k") <= 100
    assert a.pexpire("plain:k", 50_000) is True
    assert b.persist("plain:k") is True
    assert (c.persist("plain:k"), c.ttl("plain:k")) == (False, -1)
    assert a.getex("plain:k", ex=100) == "v"
    assert 90 < c.ttl("plain:k") <= 100
    assert b.getex("plain:k", persist=True) == "v"
    assert b.getex("plain:k") == "v"
    assert c.ttl("plain:k") == -1
    assert a.expire("plain:none", 100) is False
    assert a.getdel("plain:k") == "v"
    assert [client.getdel("plain:k") for client in clients] == [None] * 3
    a.set("plain:k", "v")
    assert b.expire("plain:k", 0) is True
    assert c.exists("plain:k") == 0


def test_all_keys(clients: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"plain:k{number}" for number in range(20)} | {"docs:d"}
    for name in names:
        clients[0].set(name, "1")
    found = [set(client.scan_iter()) for client in clients]
    assert found[0] | found[1] | found[2] == names
    assert [client.dbsize() for client in clients] == [len(keys) for keys in found]
    assert set(clients[0].scan_iter(match="docs:*")) == found[0] & {"docs:d"}
    with pytest.raises(redis.ResponseError, match="KAMACACHE_ALLOW_FLUSH"):
        clients[0].flushdb()
    monkeypatch.setenv("KAMACACHE_ALLOW_FLUSH", "1")
    assert clients[0].flushall() is True
    assert sum(client.dbsize() for client in clients) == 0


def test_what_libraries_read_of_a_server(clients: list[Any]) -> None:
    info = clients[0].info()
    assert (info["role"], info["loading"], info["redis_mode"]) == ("master", 0, "standalone")
    assert info["redis_version"]
    assert clients[0].info("replication")["role"] == "master"
    assert "redis_version" not in clients[0].info("replication")
    shown = clients[0].client_info()
    assert (shown["user"], str(shown["db"])) == ("default", "0")
    assert ":" in shown["addr"]


def test_a_stale_value_is_absent() -> None:
    """Its ttl is over, though the group's options allow it as an answer."""
    clock = Clock(manual=True)
    with Node("127.0.0.1:0", clock=clock) as node:
        node.group("g", ttl=10, jitter=0, stale_if_error="1h").set("k", b"v")
        client = redis.Redis(**where(node))
        assert (client.exists("g:k"), client.ttl("g:k")) == (1, 10)
        clock.advance(11)
        assert (client.exists("g:k"), client.ttl("g:k"), client.persist("g:k")) == (0, -2, False)
        client.close()


def test_none_that_is_kept(clients: list[Any], tcp_trio: Trio) -> None:
    """Check that clients see nil, and that EXISTS, TTL and DEL tell it from absence."""
    groups = [node.group("nones", codec="json", cache_none=True) for node in tcp_trio.nodes]
    owners = [node.owner for node in tcp_trio.nodes]
    wait_until(lambda: all(len({owner("nones", f"k{n}").address for owner in owners}) == 1 for n in range(100)))
    wait_until(lambda: groups[0].set("k", None, ttl=100) and all(client.exists("nones:k") for client in clients))
    for client in clients:
        assert (client.get("nones:k"), client.mget("nones:k", "nones:absent")) == (None, [None, None])
        assert (client.exists("nones:k", "nones:absent"), client.set("nones:k", "1", nx=True)) == (1, None)
        assert 90 < client.ttl("nones:k") <= 100
    assert [group.get("k", "default") for group in groups] == [None] * 3
    assert (clients[1].getdel("nones:k"), clients[2].delete("nones:k")) == (None, 0)
    assert [group.get("k", "default") for group in groups] == ["default"] * 3
    assert clients[0].set("nones:k", "null") is True
    assert [group.get("k", "default") for group in groups] == [None] * 3
    assert (clients[1].get("nones:k"), clients[1].exists("nones:k")) == (None, 1)
    assert clients[2].mset({"nones:k": "[null]", "nones:l": "null"}) is True
    assert groups[0].get_many(["k", "l"]) == {"k": [None], "l": None}
    with pytest.raises(redis.ResponseError, match="cannot read"):
        clients[0].set("docs:k", "null")
