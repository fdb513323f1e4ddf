"""GroupStats: counters, hit rate, dictionary."""

from __future__ import annotations

import pytest

from kamacache import Node
from kamacache.stats import GroupStats

NAMES = (  # noqa: SIM905 - as the design writes them
    "gets hits near_hits absent peer_hits joined loads peer_loads served load_errors writes undecodable stale "
    "unanswered too_large evictions expirations entries bytes near_bytes max_bytes remembered remembered_bytes "
    "unremembered"
).split()


def test_the_counters_are_the_promised_ones() -> None:
    assert list(GroupStats().as_dict()) == [*NAMES, "hit_rate"]
    assert GroupStats() == GroupStats(**dict.fromkeys(NAMES, 0)) != GroupStats(gets=1)
    assert repr(GroupStats(gets=1)).startswith("GroupStats(gets=1, hits=0, ")
    with pytest.raises(TypeError, match="guesses"):
        GroupStats(guesses=1)


def test_hit_rate() -> None:
    assert GroupStats().hit_rate == 0.0
    stats = GroupStats(gets=10, hits=1, near_hits=2, absent=1, peer_hits=1, joined=2, loads=2, peer_loads=1)
    assert stats.hit_rate == 0.5


def test_a_get_that_nobody_can_answer_is_no_hit(node: Node) -> None:
    group = node.group("g")
    assert group.get("a") is None
    assert group.get_many(["a", "b"]) == {}
    stats = group.stats()
    assert (stats.gets, stats.absent, stats.unanswered, stats.hit_rate) == (3, 3, 3, 0.0)
    group.set("a", b"v")
    assert group.get("a") == b"v"
    assert group.stats().hit_rate == 0.25


def test_as_dict() -> None:
    stats = GroupStats(gets=4, hits=1, max_bytes=4096)
    assert list(stats.as_dict()) == [*NAMES, "hit_rate"]
    assert stats.as_dict()["hit_rate"] == 0.25
    assert stats.as_dict()["max_bytes"] == 4096


def test_they_do_not_change() -> None:
    with pytest.raises(AttributeError):
        GroupStats().gets = 1
