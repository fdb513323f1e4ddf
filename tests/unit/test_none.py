"""None as a value, with cache_none=True: it is kept, and told apart from absence."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kamacache
from kamacache import Clock, ConfigError, LoadError, Node, Value
from kamacache.testing import MakeCluster

ASKED: list[str] = []


@pytest.fixture(autouse=True)
def nothing_asked() -> None:
    ASKED.clear()


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True, unix=1000.0)


@pytest.fixture
def node(clock: Clock) -> Iterator[Node]:
    with Node(registry=None, clock=clock) as node:
        yield node


def load(key: str) -> Any:
    ASKED.append(key)
    return None if key.startswith("none") else "value"


def make(node: Node, **options: Any) -> Any:
    return node.group("g", **{"codec": "json", "cache_none": True, "jitter": 0} | options)  # type: ignore[call-overload]


def test_a_loaded_none_lives_as_long_as_a_value(node: Node, clock: Clock) -> None:
    group = make(node, loader=load, ttl="1h", negative_ttl="1s")
    assert (group.get("none"), group.get("none", "default")) == (None, None)
    clock.advance(3599)
    assert (group.get("none", "default"), asyncio.run(group.aget("none", "default"))) == (None, None)
    assert ASKED == ["none"]
    clock.advance(1)
    assert group.get("none", "default") is None
    assert ASKED == ["none"] * 2
    assert group.stats().absent == 0


@pytest.mark.parametrize("codec", ["bytes", "text", "json", "msgpack", "pickle"])
def test_every_call_tells_none_from_absence(node: Node, codec: str) -> None:
    if codec == "msgpack":
        pytest.importorskip("msgpack")
    group = make(node, codec=codec, ttl=None, compress_above=None)
    assert (group.get("k"), group.get("k", "default"), asyncio.run(group.aget("k", "default"))) == (
        *(None, "default", "default"),
    )
    assert group.set("k", None) is True
    for _ in range(2):
        assert (group.get("k"), group.get("k", "default"), asyncio.run(group.aget("k", "default"))) == (None,) * 3
    assert group.get_many(["k", "absent"]) == asyncio.run(group.aget_many(["k", "absent"])) == {"k": None}
    assert group.add("k", None) is False
    assert (group.contains("k"), "k" in group, group.ttl("k"), list(group.keys())) == (True, True, math.inf, ["k"])
    entry = group.get_entry("k")
    assert (entry.value, entry.stale, entry.source) == (None, False, "main")
    assert group.touch("k", 100) is True
    with pytest.raises(TypeError, match="not an integer"):
        group.incr("k")
    assert group.pop("k", "default") is None
    assert group.pop("k", "default") == "default"
    assert group.add("k", None) is True
    assert group.remove("k").existed is True
    assert (group.contains("k"), group.get_entry("k"), group.get("k", "default")) == (False, None, "default")


def test_load_many_leaves_out_what_is_absent(node: Node) -> None:
    def load_many(keys: list[str]) -> dict[str, Any]:
        ASKED.extend(keys)
        return {key: None for key in keys if key.startswith("none")}

    group = make(node, load_many=load_many)
    for _ in range(2):
        assert group.get_many(["none1", "absent1"]) == {"none1": None}
        assert (group.get("none2", 1), group.get("absent2", 1)) == (None, 1)
    assert sorted(ASKED) == ["absent1", "absent2", "none1", "none2"]


def test_functions_of_a_call_and_clears(node: Node) -> None:
    group = make(node)
    assert group.get_or_load("none", load) is None
    assert group.get("none", "default") is None
    assert group.get_or_load("none", load) is None
    assert ASKED == ["none"]
    group.clear()
    assert group.get("none", "default") == "default"


def test_a_group_without_the_option(node: Node) -> None:
    """Check that its get takes no default: one native call with one argument is the fastest that there is."""
    group: Any = node.group("g", lambda _: None, negative_ttl="1h")
    with pytest.raises(TypeError, match="one argument"):
        group.get("k", "default")
    with pytest.raises(TypeError, match="cache_none=True"):
        group.set("k", None)


def test_keys_of_other_types(node: Node) -> None:
    group = make(node, key_codec="auto", ttl=None)
    assert group.set((1, "a"), None) is True
    assert (group.get((1, "a"), "default"), group.get(2, "default"), group.get(2)) == (None, "default", None)
    assert asyncio.run(group.aget(2, "default")) == "default"
    assert type(group).__name__ == "KeyedGroup"


def test_the_default_of_a_key_that_has_a_value(node: Node) -> None:
    group = make(node, loader=load)
    assert [group.get("k", "default") for _ in range(2)] == ["value"] * 2
    assert group.stats().gets == 2


def test_a_wrong_option(node: Node) -> None:
    with pytest.raises(ConfigError, match="cache_none=1: must be True or False"):
        make(node, cache_none=1)


def test_values_that_begin_like_none_are_themselves(node: Node) -> None:
    group: Any = node.group("g", ttl=None, cache_none=True)
    for value in (b"\xc1n", b"\xc1", b"\xc1nn"):
        group.set("k", value)
        assert group.get("k") == value


@pytest.mark.parametrize("options", [{}, {"cache_none": False}, {"negative_ttl": "10s"}])
def test_a_cached_function_that_returns_none(node: Node, clock: Clock, options: dict[str, Any]) -> None:
    """Check that None is a result like others, unless the call says how long absence is remembered."""

    @node.cached(ttl="1h", jitter=0, **options)
    def find(name: str) -> str | None:
        ASKED.append(name)
        return None

    assert (find("a"), find("a"), find.many([("a",), ("b",)])) == (None, None, [None, None])
    clock.advance(1800)
    assert find("a") is None
    assert "".join(ASKED) == ("aba" if options else "ab")
    if not options:
        assert find.set(None, "c") is True
        assert (find("c"), ASKED) == (None, ["a", "b"])


@pytest.mark.parametrize("hot", [False, True])
def test_in_a_cluster(hot: bool) -> None:
    cluster = MakeCluster()
    cluster.network.hot = hot
    try:
        first, second = cluster(2, lambda node: make(node, loader=load))
        groups: list[Any] = [node.groups["g"] for node in (first, second)]
        for n in range(6):
            one, other = groups[n % 2], groups[1 - n % 2]
            assert one.get(key := f"none{n}", "default") is None
            assert other.get(key, "default") is None
            assert asyncio.run(other.aget(f"none{n + 6}", "default")) is None
            assert asyncio.run(one.aget(f"none{n + 6}", "default")) is None
            assert other.get_many([key]) == {key: None}
            assert one.get_many([f"none{n + 20}"]) == {f"none{n + 20}": None}
        assert len(ASKED) == len(set(ASKED))
        for n in range(6):
            assert [group.get_entry(f"none{n}").value for group in groups] == [None, None]
            assert groups[0].pop(f"none{n}", "default") is None
            assert groups[1].get_or_load(f"none{n}", lambda _: None) is None
            assert groups[0].get(f"none{n}", "default") is None
    finally:
        cluster.close()


def test_none_has_tags_and_a_ttl_of_its_own(node: Node, clock: Clock) -> None:
    @node.cached(ttl="1h", tags="user:{user}")
    def find(user: int) -> str | None:
        ASKED.append(str(user))
        return None

    assert [find(1), find(2), find(1)] == [None] * 3
    assert find.group.delete_tag("user:1") is True
    assert [find(1), find(2)] == [None] * 2
    assert ASKED == ["1", "2", "1"]

    @node.cached(ttl="1h", tags=lambda result, _: result)
    def tag(user: int) -> str | None:
        return None

    assert tag(1) is None  # of which no tags are made

    group = make(node, loader=lambda _: Value(None, ttl="1s", tags="t"), ttl="1h")
    assert group.get("k", "default") is None
    assert group.ttl("k") == 1.0
    group.delete_tag("t")
    assert not group.contains("k")
    other: Any = node.group("other", lambda _: Value(None))
    with pytest.raises(LoadError, match="None is not a value"):
        other.get("k")


def types(node: Node, load: Callable[[str], str | None]) -> None:
    """Show type checkers what a default does."""
    group = node.group("g", load, codec=kamacache.codec_for(str))
    one: str | None = group.get("k")
    two: str | int = group.get("k", 1)
    del one, two
