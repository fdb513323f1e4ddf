"""Requests of the command line to a running node."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from kamacache import Node, __version__
from tests.clients.nodes import PATIENCE, Trio, address, where
from tests.cluster.cluster import wait_until

Ask = Callable[..., Any]


@pytest.fixture
def ask(trio: Trio) -> Iterator[Ask]:
    clients: list[Any] = [redis.Redis(**where(node)) for node in trio.nodes]

    def ask(node: Node, *command: str) -> Any:
        return json.loads(clients[trio.nodes.index(node)].execute_command(*command))

    yield ask
    for client in clients:
        client.close()


def test_info(trio: Trio, ask: Ask) -> None:
    node = trio.nodes[0]
    info = ask(node, "KC.INFO")
    assert info["version"] == __version__
    assert (info["id"], info["address"], info["service"]) == (node.id, address(node), "kamacache")
    assert info["registry"] in {"local", "static"}
    assert info["joined"] is True
    assert info["uptime"] >= 0
    assert abs(info["clock"] - node._clock.unix()) < PATIENCE
    assert info["process"]["pid"] == os.getpid()
    assert abs(info["clock"] - info["process"]["started"] - info["uptime"]) < 0.01
    assert int(info["latest"], 16) <= node._runtime.hlc.latest()
    assert info["groups"]["docs"] == {
        "codec": "json",
        "policy": "s3fifo",
        "max_bytes": 64 << 20,
        "ttl": None,
        "near_ttl": 5.0,
        "negative_ttl": 5.0,
        "jitter": 0.05,
        "load_timeout": 30.0,
        "max_batch": 500,
        "batch_window": None,
        "concurrency": None,
        "on_evict": None,
        "compress_above": None,
        "version": None,
        "key_codec": None,
        "cache_none": False,
        "refresh_after": None,
        "early": 0.0,
        "stale_while_revalidate": 0.0,
        "stale_if_error": 0.0,
        "soft_timeout": None,
        "error_ttl": 0.0,
        "loader": "none",
        "load_many": "none",
        "loads": False,
    }
    assert list(info["groups"]) == ["users", "docs", "plain"]


def test_members(trio: Trio, ask: Ask) -> None:
    asked, left, other = trio.nodes
    members = ask(asked, "KC.MEMBERS")
    assert members[0] == {
        "id": asked.id,
        "address": address(asked),
        "weight": 1.0,
        "groups": ["users", "docs", "plain"],
        "protocol": 1,
        "loads": ["users"],
        "client": False,
        "leaving": False,
        "revision": asked._membership.me.revision,
        "me": True,
        "state": "alive",
        "registered": True,
        "skipped": False,
    }
    assert {member["id"] for member in members} == {node.id for node in trio.nodes}
    assert {member["state"] for member in members} == {"alive"}
    left.close()
    dead, alive = address(left), address(other)

    def states() -> dict[str, str]:
        return {member["address"]: member["state"] for member in ask(asked, "KC.MEMBERS")}

    wait_until(lambda: states().get(dead) in {"left", "dead", None}, PATIENCE)
    assert states()[alive] == "alive"


def test_owner(trio: Trio, ask: Ask) -> None:
    for node in trio.nodes:
        answer = ask(node, "KC.OWNER", "users", "k")
        assert answer["owner"]["id"] == node.owner("users", "k").id
        assert answer["candidates"][0] == answer["owner"]
        assert len(answer["candidates"]) == 3


def test_stats(trio: Trio, ask: Ask) -> None:
    node = trio.nodes[0]
    node.groups["users"].get("k")
    assert ask(node, "KC.STATS", "users") == {"users": node.groups["users"].stats().as_dict()}
    assert ask(node, "KC.STATS") == {name: group.stats().as_dict() for name, group in node.groups.items()}


def test_clear(trio: Trio, ask: Ask) -> None:
    for node in trio.nodes:
        node.groups["plain"].set("k", b"v")
        assert ask(trio.nodes[0], "KC.CLEAR", "plain") == {"confirmed": True}
        assert [node.groups["plain"].get("k") for node in trio.nodes] == [None] * 3


def test_status(trio: Trio, ask: Ask) -> None:
    node = trio.nodes[0]
    own = ask(node, "KC.STATUS", "self")
    assert own["groups"]["users"]["stats"] == node.groups["users"].stats().as_dict()
    assert own["process"]["pid"] == os.getpid()
    every = ask(node, "kc.status")
    assert {member["id"] for member in every["members"] if member["answers"]} == {node.id for node in trio.nodes}
    assert [group["name"] for group in every["groups"]] == sorted(node.groups)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("KC.STATS", "strangers"), "^NOGROUP no group 'strangers' here$"),
        (("KC.OWNER", "strangers", "k"), "^NOGROUP"),
        (("KC.CLEAR", "strangers"), "^NOGROUP"),
        (("KC.OWNER", "users", ""), "^InvalidKey: "),
        (("KC.OWNER", "users", b"\xff"), "^arguments are UTF-8$"),
        (("KC.OWNER", "users"), "^wrong number of arguments for 'kc.owner' command$"),
        (("KC.STATS", "users", "docs"), "^wrong number of arguments for 'kc.stats' command$"),
        (("KC.STATUS", "users"), "^kc.status takes SELF or nothing$"),
        (("KC.STATUS", "self", "self"), "^wrong number of arguments for 'kc.status' command$"),
        (("KC.INFO", "all"), "^wrong number"),
    ],
)
def test_bad_questions(trio: Trio, command: tuple[Any, ...], error: str) -> None:
    client: Any = redis.Redis(**where(trio.nodes[0]))
    with pytest.raises(redis.ResponseError, match=error):
        client.execute_command(*command)
    client.close()


def test_a_registry_of_the_users_own_is_named_and_no_url_is_shown() -> None:
    with Node("127.0.0.1:0", registry=None) as alone:
        client: Any = redis.Redis(**where(alone))
        info = json.loads(client.execute_command("KC.INFO"))
        assert info["registry"] is None
        assert json.loads(client.execute_command("KC.MEMBERS"))[0]["state"] == "alive"
        client.close()
