"""What a node keeps for people to look at: the last minutes of each group, and its hot keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kamacache import Node
from kamacache._engine import Clock, hot
from kamacache.history import PERIODS, STEP, History
from kamacache.process import describe, shown
from kamacache.serve.status import of_node, together

OWNS: dict[str, Any] = {"protocol": 1, "groups": ["g"], "loads": ["g"]}


def load(key: str) -> bytes:
    return b"value of " + key.encode()


def test_the_last_minutes() -> None:
    clock = Clock(manual=True)
    with Node(clock=clock) as node:
        group = node.group("g", load)
        cores, history = node._groups.cores, History(clock)
        group.get("a")
        history.sample(cores)
        group.get("a")
        history.sample(cores)  # the period is not over
        assert history.of("g")["gets"] == []
        clock.advance(STEP)
        history.sample(cores)
        assert (history.of("g")["gets"], history.of("g")["loads"]) == ([2], [1])  # since the group was made
        group.get("a")
        assert sum(history.times(cores["g"])[0]) == 1
        for number in range(2 * PERIODS):
            clock.advance(STEP)
            history.sample(cores)
            group.get("a")
            if number == 2 * PERIODS - 2:
                group.set("b", bytes(1000))
        found = history.of("g")
        assert {name: len(column) for name, column in found.items()} == dict.fromkeys(found, PERIODS)
        assert found["gets"] == found["memory"] == [1] * PERIODS
        assert (found["loads"], found["writes"]) == ([0] * PERIODS, [0] * (PERIODS - 1) + [1])
        assert found["bytes"][-1] > found["bytes"][0] + 1000
        assert found["at"] == [*range(found["at"][0], found["at"][0] + PERIODS)]
        document = of_node(node_info(), cores, history)
        members = [
            {"id": "me", "registered": True, "leaving": False, "client": False, "weight": 1.0, "skipped": False}
            | node_names()
            | OWNS
        ]
        shown = together(node_info() | node_names(), members, {"me": document}, clock.unix() + 2.0)
        assert (shown["history"]["gets"], shown["groups"][0]["rate"]) == ([1] * PERIODS, 1 / STEP)
        assert shown["members"][0]["hit_rate"] == 1.0


def test_rates_are_those_of_the_seconds_that_there_were() -> None:
    """Make 10 gets a second for seven seconds, the first two in a period that had begun: not 70 in a minute."""
    clock = Clock(manual=True, unix=STEP * 1000)
    with Node(clock=clock) as node:
        clock.advance(3.0)
        group = node.group("g", load)
        cores, history = node._groups.cores, node._runtime.history
        for _ in range(70):
            history.sample(cores)
            clock.advance(0.1)
            group.get("a")
        history.sample(cores)
        clock.advance(1.6)
        member = {"id": "me", "registered": True, "leaving": False, "client": False, "weight": 1.0, "skipped": False}
        document = of_node(node_info(), cores, history)
        shown = together(node_info() | node_names(), [member | node_names() | OWNS], {"me": document}, clock.unix())
        assert sum(shown["history"]["gets"]) == 70
        for each in (shown, shown["groups"][0], shown["members"][0]):
            assert each["rate"] == pytest.approx(10.0, rel=0.05)
            assert each["load_rate"] == pytest.approx(1 / 7, rel=0.05)
        del document["groups"]["g"]["age"]  # as of an earlier version
        shown = together(node_info() | node_names(), [member | node_names() | OWNS], {"me": document}, clock.unix())
        assert shown["rate"] == pytest.approx(70 / 60, rel=0.05)


def test_the_share_of_keys_is_that_of_the_members_that_load() -> None:
    with Node() as node:
        node.group("g", load)
        document = of_node(node_info(), node._groups.cores, History(Clock(manual=True)))
    known = {"registered": True, "leaving": False, "client": False, "weight": 1.0, "skipped": False} | node_names()
    members = [{"id": name} | known | OWNS for name in "abc"]
    members[2] = members[2] | {"loads": []}  # kamacache serve without an application

    def shares() -> list[float]:
        return [one["share"] for one in together(node_info() | node_names(), members, {"a": document}, 0.0)["members"]]

    assert shares() == [0.5, 0.5, 0.0]
    members[0] = members[0] | {"loads": []}
    members[1] = members[1] | {"leaving": True}
    assert shares() == [0.5, 0.0, 0.5]
    members[0] = members[0] | {"skipped": True, "state": "dead"}
    assert shares() == [0.0, 0.0, 1.0]
    members[0] = members[0] | {"loads": ["g"]}  # its candidates are those of before: nobody stands in for it
    assert shares() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("title", "seen"),
    [
        ("serve --registry etcd://root:secret@host:1 -v", "serve --registry etcd://host:1 -v"),
        ("python -c a\nb \x1b[31m", "python -c a b  [31m"),
    ],
)
def test_a_title_has_no_password_and_nothing_that_terminals_obey(title: str, seen: str) -> None:
    assert shown(title) == seen


def test_arguments_that_are_no_utf8_make_a_title_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", absent)
    monkeypatch.setattr("sys.orig_argv", ["python", "caf\udce9.py"])
    assert describe()["title"].startswith("python caf")


def node_info() -> dict[str, Any]:
    return {"version": "1", "joined": True, "troubles": [], "uptime": 1.0, "process": {}}


def node_names() -> dict[str, Any]:
    return {"service": "s", "registry": None, "address": None, "me": True, "state": "alive"}


def test_a_key_that_most_callers_ask_for_is_hot() -> None:
    """One get of 128 is sampled at random: of 20,000 gets 156, of which 78 are of that key."""
    with Node() as node:
        group = node.group("users", load, max_bytes="64 MiB")
        for number in range(10_000):
            group.get("everyone's")
            group.get(f"{number}")
        sampled, keys = hot(node._groups.cores["users"].store, 5)
        assert 90 < sampled < 260
        key, count, error = keys[0]
        assert key == "everyone's"
        assert 0.3 < (count - error) / sampled < 0.7
