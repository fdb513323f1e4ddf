"""/ and /status.json: the page for people, and what it shows, of all members."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Node, __version__
from kamacache.history import PERIODS
from kamacache.net.native import NativeLane
from tests.cluster.cluster import in_thread, wait_until
from tests.http.client import PATIENCE, request, two_nodes


def load(key: str) -> bytes:
    if key.startswith("bad"):
        raise ValueError(key)
    return b"value of " + key.encode()


@pytest.fixture
def pair() -> Iterator[list[Node]]:
    yield from two_nodes("status", load)


def status(node: Node) -> dict[str, Any]:
    answer = request(str(node.address), "/status.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"  # pages of others cannot read it
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_the_page_is_one_file_into_which_nothing_else_comes() -> None:
    with Node("127.0.0.1:0") as node:
        answer = request(str(node.address), "/")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; connect-src 'self'; ")
        assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", policy)
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<title>KamaCache</title>" in answer.body
        head = request(str(node.address), "/", "HEAD")
        assert (head.status, head.body) == (200, "")


def test_the_document_has_all_members_and_groups(pair: list[Node]) -> None:
    for number in range(40):
        pair[number % 2].groups["users"].get(f"key{number}")
    found = status(pair[0])
    assert (found["service"], found["registry"], found["address"]) == ("status", "static", pair[0].address)
    assert [member["address"] for member in found["members"]] == [node.address for node in pair]
    for member, node in zip(found["members"], pair, strict=True):
        assert (member["answers"], member["version"], member["joined"]) == (True, __version__, True)
        assert (member["share"], member["id"], member["troubles"]) == (0.5, node.id, [])
        assert member["stats"]["gets"] == node.groups["users"].stats().gets
    (users,) = found["groups"]
    assert (users["name"], users["members"]) == ("users", 2)
    assert users["stats"]["gets"] == 40
    assert users["load"]["count"] == 40
    assert 0 < users["load"]["mean"] < 5
    assert all(len(column) == PERIODS for column in users["history"].values())


def test_a_member_that_does_not_answer_is_named(pair: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    lane = pair[0]._runtime.lane
    assert isinstance(lane, NativeLane)
    pair[1]._runtime.lane.close()  # it is gone without a goodbye
    found = status(pair[0])
    assert [member["answers"] for member in found["members"]] == [True, False]
    wait_until(lambda: status(pair[0])["members"][1]["state"] == "dead", PATIENCE)
    assert [member["share"] for member in status(pair[0])["members"]] == [1.0, 0.0]
    owners = {pair[0]._runtime.membership.owner("users", f"key{number}") for number in range(100)}
    assert owners == {pair[0]._runtime.membership.me}


def test_members_are_asked_once_however_many_look(pair: list[Node], monkeypatch: pytest.MonkeyPatch) -> None:
    lane, asked, go_on = pair[0]._runtime.lane, [], threading.Event()

    def statuses(addresses: list[str], timeout: float) -> list[bytes | Exception]:
        asked.append(addresses)
        assert go_on.wait(PATIENCE)
        return [b"nonsense"]

    monkeypatch.setattr(lane, "statuses", statuses)
    looking = [in_thread(status, pair[0]) for _ in range(10)]
    wait_until(lambda: bool(asked), PATIENCE)
    go_on.set()
    found = [each.result(PATIENCE) for each in looking]
    assert asked == [[pair[1].address]]
    assert {json.dumps(each) for each in found} == {json.dumps(found[0])}
    assert found[0]["members"][1]["error"] == "it does not answer as a node does"


def test_a_node_alone() -> None:
    with Node("127.0.0.1:0") as node:
        node.group("bag")
        found = status(node)
        assert (found["registry"], found["hot"]) == (None, [])
        assert [(member["me"], member["share"]) for member in found["members"]] == [(True, 1.0)]
        assert found["groups"][0]["hit_rate"] is None


def test_hot_keys() -> None:
    with Node("127.0.0.1:0") as node:
        group = node.group("users", load)
        for _ in range(10_000):
            group.get("everyone's")
        (key,) = status(node)["hot"]
        assert (key["group"], key["key"], key["share"]) == ("users", "everyone's", 1.0)
