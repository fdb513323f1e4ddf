"""redis-py as its users have it, against nodes that own the keys and nodes that do not."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kamacache import Node
from tests.clients.conftest import Connect
from tests.clients.nodes import PATIENCE, Trio
from tests.cluster.cluster import in_thread, wait_until


def owner_and_other(trio: Trio) -> tuple[Node, Node]:
    return trio.nodes[0], trio.nodes[1]


def test_get_reads_through_on_any_node(trio: Trio, connected: Connect) -> None:
    owner, other = owner_and_other(trio)
    key = trio.key_of(owner)
    for node in (other, owner, *trio.nodes):
        assert connected(node).get(f"users:{key}") == b"value of " + key.encode()
    assert trio.source.loads == {key: 1}
    assert connected(other, decode_responses=True).get(f"users:{key}") == f"value of {key}"


def test_absent_and_empty_are_different(trio: Trio, connected: Connect) -> None:
    for node in trio.nodes:
        client = connected(node)
        for _ in range(2):
            assert client.get("users:none") is None
            assert client.get("users:empty") == b""
            assert client.get("plain:x") is None
    assert trio.source.loads == {"none": 1, "empty": 1}


def test_keys_are_split_at_the_first_colon(trio: Trio, connected: Connect) -> None:
    assert connected(trio.nodes[0]).get("users:a:b\n\0é") == "value of a:b\n\0é".encode()


def test_mget_answers_in_order(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    client.set("docs:d", "[1]")
    client.get("users:k1")
    names = ["users:k3", "users:none", "docs:d", "users:k1", "users:k2", "users:k1", "plain:x"]
    expected = [b"value of k3", None, b"[1]", b"value of k1", b"value of k2", b"value of k1", None]
    for _ in range(2):
        assert client.mget(names) == expected
    assert trio.source.loads == {"k1": 1, "k2": 1, "k3": 1, "none": 1}


def test_set_reaches_every_node(trio: Trio, connected: Connect) -> None:
    for node in trio.nodes:
        name = f"k{trio.nodes.index(node)}"
        assert connected(node).set(f"plain:{name}", b"\xff\0") is True
        assert [other.groups["plain"].get(name) for other in trio.nodes] == [b"\xff\0"] * 3
        assert [connected(other).get(f"plain:{name}") for other in trio.nodes] == [b"\xff\0"] * 3


def test_a_value_is_encoded_by_the_codec(trio: Trio, connected: Connect) -> None:
    trio.nodes[0].groups["docs"].set("x", {"a": [1, None]})
    client = connected(trio.nodes[1])
    assert client.get("docs:x") == b'{"a":[1,null]}'
    assert client.set("docs:y", '{"b": 2}') is True
    assert trio.nodes[2].groups["docs"].get("y") == {"b": 2}
    with pytest.raises(redis.ResponseError, match=r"^CodecError: the group's codec cannot read this value$"):
        client.set("docs:y", "{b")
    assert trio.nodes[2].groups["docs"].get("y") == {"b": 2}


def test_times_to_live(trio: Trio, connected: Connect) -> None:
    owner, other = owner_and_other(trio)
    key = "plain:" + trio.key_of(owner, group="plain")
    setter, asker = connected(other), connected(trio.nodes[2])
    assert (asker.ttl(key), asker.pttl(key), asker.exists(key)) == (-2, -2, 0)
    setter.set(key, b"1", ex=1000)
    for client in (setter, asker, connected(owner)):
        assert 990 < client.ttl(key) <= 1000
        assert 990_000 < client.pttl(key) <= 1_000_000
        assert client.exists(key, key, "plain:nothing") == 2
    setter.set(key, b"1", px=500_000)
    assert 490 < asker.ttl(key) <= 500
    setter.set(key, b"1")
    assert (asker.ttl(key), asker.pttl(key)) == (-1, -1)


def test_asking_for_the_time_left_loads_nothing(trio: Trio, connected: Connect) -> None:
    for node in trio.nodes:
        client = connected(node)
        assert (client.ttl("users:k"), client.pttl("users:k"), client.exists("users:k")) == (-2, -2, 0)
    assert not trio.source.loads
    client.get("users:none")
    assert (client.ttl("users:none"), client.exists("users:none")) == (-2, 0)


def test_del_counts_what_existed(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    names = ["users:k1", "users:k2", "docs:d"]
    client.mget(names)
    assert client.delete(*names, names[0]) == 2
    assert client.unlink(*names) == 0
    assert client.mget(names) == [b"value of k1", b"value of k2", None]
    assert trio.source.loads == {"k1": 2, "k2": 2}


@pytest.mark.parametrize("option", [{"exat": 2**40}, {"pxat": 2**40}])
def test_other_options_of_set_are_refused(tcp_trio: Trio, connected: Connect, option: dict[str, Any]) -> None:
    client = connected(tcp_trio.nodes[0])
    with pytest.raises(redis.ResponseError, match=r"^SET with '.*' is not supported here$"):
        client.set("plain:k", "v", **option)
    assert client.get("plain:k") is None


ERRORS = [
    (("GET", "users:bad"), "LOADERR SecretError"),
    (("MGET", "users:k", "users:bad"), "LOADERR SecretError"),
    (("GET", "strangers:k"), "NOGROUP no group 'strangers' here"),
    (("SET", "strangers:k", "v"), "NOGROUP no group 'strangers' here"),
    (("DEL", "users:k", "strangers:k"), "NOGROUP no group 'strangers' here"),
    (("GET", "users"), "NOGROUP 'users' names no group: keys are group:key"),
    (("GET", "users:"), "InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8"),
    (("GET", b"users:\xff"), "InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8"),
    (("GET", "users:" + "k" * 65_537), "InvalidKey: after the colon stand 1 to 65,536 bytes of UTF-8"),
    (("SET", "plain:k", b"v" * (1 << 20) + b"v"), "ValueTooLarge: "),
    (("SET", "plain:k", "v", "EX", "0"), "invalid expire time in 'set' command"),
    (("SET", "plain:k", "v", "PX", "-1"), "invalid expire time in 'set' command"),
    (("SET", "plain:k", "v", "EX", str(2**62)), "invalid expire time in 'set' command"),
    (("SET", "plain:k", "v", "PX", "1.5"), "value is not an integer or out of range"),
    (("SET", "plain:k", "v", "EX"), "syntax error"),
    (("SET", "plain:k", "v", "EX", "1", "PX", "1"), "syntax error"),
    (("SET", "plain:k"), "wrong number of arguments for 'set' command"),
    (("GET",), "wrong number of arguments for 'get' command"),
    (("SELECT", "1"), "DB index is out of range: there is database 0 alone"),
    (("INCRBY", "plain:k", "1.5"), "value is not an integer or out of range"),
    (("DECRBY", "plain:k", str(-(2**63))), "value is not an integer or out of range"),
    (("SETEX", "plain:k", "0", "v"), "invalid expire time in 'setex' command"),
    (("EXPIRE", "plain:k", "soon"), "value is not an integer or out of range"),
    (("GETEX", "plain:k", "EX"), "syntax error"),
    (("MSET", "plain:k", "v", "plain:l"), "wrong number of arguments for 'mset' command"),
    (("SCAN", "x"), "invalid cursor"),
    (("SCAN", "0", "MATCH"), "syntax error"),
    (("FLUSHALL", "now"), "syntax error"),
    *(((name, "x"), f"unknown command '{name}'") for name in ("SUBSCRIBE", "CLUSTER", "WATCH", "LPUSH", "KEYS")),
    (("CLIENT", "KILL", "1"), "CLIENT KILL with 1 arguments is not supported here"),
]


def test_errors_keep_the_connection_and_say_no_secrets(tcp_trio: Trio, connected: Connect) -> None:
    for node in tcp_trio.nodes:
        client = connected(node, single_connection_client=True)
        number = client.client_id()
        for asked, text in ERRORS:
            with pytest.raises(redis.ResponseError) as raised:
                client.execute_command(*asked)
            assert str(raised.value).startswith(text), asked
            assert "top secret" not in str(raised.value)
            assert client.client_id() == number
        assert client.get("plain:k") is None


def test_replies_of_a_pipeline_come_in_order(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    for _ in range(2):
        pipeline = client.pipeline(transaction=False)
        for number in range(50):
            pipeline.get(f"users:p{number}")
        pipeline.set("plain:x", "1").get("plain:x").delete("plain:x").get("plain:x").get("users:bad").ping()
        values: list[Any] = pipeline.execute(raise_on_error=False)
        assert values[:50] == [f"value of p{number}".encode() for number in range(50)]
        assert values[50:54] == [True, b"1", 1, None]
        assert str(values[54]) == "LOADERR SecretError"
        assert values[55] is True


def test_a_transaction_is_refused_and_nothing_of_it_executed(trio: Trio, connected: Connect) -> None:
    """Refuse the pipeline() of redis-py, which is a transaction by default."""
    client = connected(trio.nodes[0], single_connection_client=True)
    number = client.client_id()
    pipeline = client.pipeline().set("plain:x", "1").delete("docs:d").get("users:k").incr("plain:n").get("plain:x")
    with pytest.raises(redis.ResponseError, match="transactions are not supported here: use a pipeline without MULTI"):
        pipeline.execute()
    assert client.pipeline(transaction=False).get("plain:x").ping().execute() == [None, True]
    with pytest.raises(redis.ResponseError, match="unknown command 'WATCH'"):
        client.transaction(lambda _: None, "plain:x")
    assert client.client_id() == number
    assert not trio.source.loads


def test_a_slow_load_holds_up_its_own_connection_alone(trio: Trio, connected: Connect) -> None:
    client = connected(trio.nodes[0])
    pipeline = client.pipeline(transaction=False).get("users:slow").get("users:k").ping()
    replies = in_thread(pipeline.execute)
    assert trio.source.slow.acquire(timeout=PATIENCE)
    others = [connected(node) for node in trio.nodes]
    assert [other.get("users:other") for other in others] == [b"value of other"] * 3
    assert not replies.done()
    trio.source.go_on.set()
    assert replies.result(PATIENCE) == [b"value of slow", b"value of k", True]


def test_a_load_is_shared_by_all_clients(trio: Trio, connected: Connect) -> None:
    clients = [connected(node) for node in trio.nodes * 5]
    replies = [in_thread(client.get, "users:slow") for client in clients]
    assert trio.source.slow.acquire(timeout=PATIENCE)
    trio.source.go_on.set()
    assert [reply.result(PATIENCE) for reply in replies] == [b"value of slow"] * 15
    assert trio.source.loads == {"slow": 1}


def test_large_values(trio: Trio, connected: Connect) -> None:
    value = bytes(range(256)) * 12_000
    client = connected(trio.nodes[0])
    client.set("plain:large", value)
    assert [connected(node).get("plain:large") for node in trio.nodes] == [value] * 3
    assert client.mget(["plain:large"] * 5) == [value] * 5
    client.set("plain:small", value[:15_000])
    with pytest.raises(redis.ResponseError, match="over 64 MiB"):
        client.mget(["plain:small"] * 5_000)
    assert client.ping() is True


def test_commands_that_clients_send_to_any_server(tcp_trio: Trio, connected: Connect) -> None:
    client = connected(tcp_trio.nodes[0], client_name="me", single_connection_client=True)
    assert client.client_getname() in {b"me", "me"}
    assert client.client_info()["name"] == "me"
    assert client.client_setname("you") is True
    with pytest.raises(redis.ResponseError):
        client.client_setname("a b")
    assert client.client_getname() in {b"you", "you"}
    assert client.echo("text") in {b"text", "text"}
    assert client.info()["groups"] == 3
    assert client.info()["names"] == ["docs", "plain", "users"]
    assert client.command_count() == len(client.command())
    assert client.execute_command("SELECT", 0) in {True, b"OK"}


def test_gets_of_clients_count_as_gets(trio: Trio, connected: Connect) -> None:
    owner, other = owner_and_other(trio)
    key = trio.key_of(owner)
    for node in (other, owner, owner):
        assert connected(node).mget(f"users:{key}", f"users:{key}") == [b"value of " + key.encode()] * 2
    mine, theirs = owner.groups["users"].stats(), other.groups["users"].stats()
    assert (mine.gets, mine.hits) == (4, 4)
    assert (theirs.gets, theirs.peer_loads) == (1, 1)
    for node in trio.nodes:
        client = connected(node)
        client.mget([f"users:m{number}" for number in range(40)] + ["users:none"])
        for name in ("none", "bad", "m1", "k"):
            client.execute_command("EXISTS", f"users:{name}")
            in_thread(client.get, f"users:{name}").exception(PATIENCE)
        stats = node.groups["users"].stats()
        parts = (stats.hits, stats.near_hits, stats.absent, stats.peer_hits, stats.joined, stats.loads)
        assert stats.gets == sum(parts) + stats.peer_loads


def test_a_closed_group_and_a_closed_node(trio: Trio, connected: Connect) -> None:
    node = trio.nodes[0]
    client = connected(node)
    slow = in_thread(connected(node).get, "users:slow")
    assert trio.source.slow.acquire(timeout=PATIENCE)
    node.groups["plain"].close()
    with pytest.raises(redis.ResponseError, match=r"^NOGROUP"):
        client.get("plain:k")
    closing = in_thread(node.close, PATIENCE)
    wait_until(lambda: node._closed, PATIENCE)
    trio.source.go_on.set()  # earlier commands are answered
    assert slow.result(PATIENCE) == b"value of slow"
    closing.result(PATIENCE)
    client.set_retry(Retry(NoBackoff(), 0))  # else it would try for seconds before it raises
    with pytest.raises(redis.ConnectionError):
        client.get("users:k")


def test_names_of_programs_written_for_redis(connected: Connect) -> None:
    """Without a group in front, a name is a key of the group redis. SCAN shows the name by which a client finds it."""
    with Node("127.0.0.1:0") as node:
        node.group("users")
        whole = node.group("redis")
        client = connected(node, decode_responses=True)
        for name in ("plain", ":1:key", "strange:key", "users:1", "redis:users:2", "a:"):
            assert client.set(name, name)
        assert client.mget("plain", ":1:key", "users:1") == ["plain", ":1:key", "users:1"]
        assert set(whole.keys()) == {"plain", ":1:key", "strange:key", "users:2", "a:"}
        assert set(client.scan_iter()) == {"plain", ":1:key", "strange:key", "users:1", "redis:users:2", "a:"}
        with pytest.raises(redis.ResponseError, match="InvalidKey"):
            client.get("users:")


def test_a_batch_of_a_program_written_for_redis(connected: Connect) -> None:
    """Execute what stands between MULTI and EXEC in order; nothing of it if one command cannot be."""
    with Node("127.0.0.1:0") as node:
        node.group("redis", {"k": b"loaded"}.get)
        client = connected(node, decode_responses=True, single_connection_client=True)
        batch = client.pipeline().set("n", "5").incr("n").get("k").get("n").expire("n", 60)
        assert batch.execute() == [True, 6, "loaded", "6", True]
        failing = client.pipeline().incr("k").get("n")
        assert [str(one) for one in failing.execute(raise_on_error=False)] == [
            "value is not an integer or out of range",
            "6",
        ]
        with pytest.raises(redis.ResponseError, match="unknown command 'SADD'"):
            client.pipeline().set("n", "7").sadd("s", "a").execute()
        with pytest.raises(redis.ResponseError, match="1 MiB at most"):
            client.pipeline().set("n", "8").set("n", b"x" * (1 << 20)).execute()
        assert client.get("n") == "6"
