"""node.reset, override_loader and fake: what is dropped, what stays, and who waits meanwhile."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from kamacache import Clock, GroupExists, GroupStats, LoadError, Node, Value
from kamacache.testing import MakeCluster, fake, override_loader
from tests.unit.groups import AsyncHeld, Caller, Held, begun, counts, waiting


def test_reset_makes_groups_like_new(kamacache_node: Node) -> None:
    evicted: list[str] = []
    kamacache_node.start()
    kamacache_node._sweeper.close()  # the test sweeps
    group = kamacache_node.group(
        "g", str.encode, max_bytes="4 KiB", on_evict=lambda key, _, __: evicted.append(key), ttl="1h"
    )
    other = kamacache_node.group("other", codec="text")
    group.get_many([f"{number:0100}" for number in range(50)])
    other.set("k", "v", wait=False)
    assert group.stats().evictions > 0
    kamacache_node.reset()
    assert group.stats() == GroupStats(max_bytes=4096)
    assert other.peek("k") is other.get("k") is None
    assert counts(other) == {"absent": 1}
    assert (other.stats().entries, other.stats().writes) == (0, 0)
    assert group.get("1") == b"1"
    assert counts(group) == {"loads": 1}
    kamacache_node._sweeper.sweep()
    assert evicted == []


def test_reset_does_nothing_to_a_closed_node() -> None:
    node = Node()
    node.group("g", str.encode).get("k")
    node.close()
    node.reset()


def test_a_load_under_way_at_a_reset_is_neither_kept_nor_joined(kamacache_node: Node) -> None:
    held = Held()
    group = kamacache_node.group("g", held)
    leader = Caller(group.get, "k")
    held.wait_begun()
    joined = waiting(group.get, "k")
    kamacache_node.reset()
    assert isinstance(joined.error(), LoadError)
    later = Caller(group.get, "k")
    held.wait_begun()
    held.go.set()
    assert leader.result() == later.result() == b"k"
    assert held.calls == {"k": 2}


def test_a_task_left_behind_leaves_nothing_after_a_reset(kamacache_node: Node) -> None:
    held = AsyncHeld()
    group = kamacache_node.group("g", held)

    async def main() -> None:
        task = asyncio.create_task(group.aget("k"))
        await begun(held)
        kamacache_node.reset()
        with pytest.raises(LoadError, match="reset"):
            await task
        held.go.set()
        assert group.peek("k") is None
        assert await group.aget("k") == b"k"

    asyncio.run(main())
    assert group.stats().load_errors == 0


def test_after_a_reset_the_next_loop_runs_async_loaders(kamacache_node: Node) -> None:
    """Without it, the thread that ran them for a plain get would run them for ever."""
    threads: list[str] = []

    async def load(key: str) -> bytes:
        threads.append(threading.current_thread().name)
        return key.encode()

    group = kamacache_node.group("g", load)
    assert group.get("1") == b"1"
    kamacache_node.reset()
    assert asyncio.run(group.aget("2")) == b"2"
    assert threads == ["kamacache-loop", "MainThread"]


def test_an_overridden_loader_is_used_inside_alone(kamacache_node: Node) -> None:
    group = kamacache_node.group("g", lambda key: f"real {key}", codec="text")
    assert group.get("k") == "real k"
    with override_loader(group, lambda key: f"first {key}"):
        assert group.get("k") == "first k"
        with override_loader(group, load_many=lambda keys: {key: f"second {key}" for key in keys}):
            assert group.get_many(["k", "l"]) == {"k": "second k", "l": "second l"}
        assert group.get("k") == "first k"
    assert group.get("k") == "real k"


def test_a_group_that_is_made_again_inside_is_the_same(kamacache_node: Node) -> None:
    """An application that is entered in a test makes its groups again, perhaps with a reloaded loader."""
    group = kamacache_node.group("g", str.encode)
    with fake(group, {"k": b"faked"}), override_loader(group, lambda _: b"inner"):
        assert kamacache_node.group("g", str.encode) is group
        assert group.get("k") == b"inner"
        with pytest.raises(GroupExists):
            kamacache_node.group("g", str.upper)
    assert group.get("k") == b"k"


def test_the_loader_comes_back_after_an_error(kamacache_node: Node) -> None:
    group = kamacache_node.group("g", str.encode)

    def fail(_: str) -> bytes:
        raise OSError

    with pytest.raises(LoadError), override_loader(group, fail):
        group.get("k")
    assert group.get("k") == b"k"
    assert group.loader == str.encode


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fake_answers_from_the_dict_and_all_else_is_as_without(
    kamacache_node: Node, kamacache_clock: Clock, *, is_async: bool
) -> None:
    def load(key: str) -> dict[str, Any]:
        raise AssertionError(key)

    async def aload(key: str) -> dict[str, Any]:
        raise AssertionError(key)

    group = kamacache_node.group("g", aload if is_async else load, codec="json", ttl="1m", jitter=0)
    group.set("3", {"name": "Cleo"})
    values = {"1": {"name": "Ada"}, "2": Value({"name": "Bea"}, ttl=1)}
    with fake(group, values):
        assert group.get_many(["1", "2", "3"]) == {"1": {"name": "Ada"}, "2": {"name": "Bea"}}
        assert asyncio.run(group.aget("1")) == {"name": "Ada"}
        assert group.get("4") is None
        assert group.set("1", {"name": "Eve"}) is True
        assert group.get("1") == {"name": "Eve"}
        kamacache_clock.advance(2)
        assert group.peek("2") is None
        assert group.delete("1") is True
        assert group.get("1") == {"name": "Ada"}
    assert group.peek("1") is None
    with pytest.raises(LoadError):
        group.get("1")


def test_a_fake_on_each_node_of_a_cluster(kamacache_cluster: MakeCluster) -> None:
    def load(key: str) -> bytes:
        raise AssertionError(key)

    first, second = (node.groups["g"] for node in kamacache_cluster(2, lambda node: node.group("g", load, near_ttl=0)))
    values = {str(number): b"v" for number in range(20)}
    with fake(first, values), fake(second, values):
        assert first.get_many(values) == second.get_many(values) == values


@pytest.mark.parametrize("is_async", [False, True])
def test_a_group_with_other_keys_is_faked_by_these(kamacache_node: Node, *, is_async: bool) -> None:
    async def aload(_: Any) -> bytes:
        return b"own"

    group = kamacache_node.group("g", aload if is_async else lambda _: b"own", key_codec="auto")
    with fake(group, {("a", 1): b"pair", 5: b"number", "5": b"text"}):
        assert group.get_many([("a", 1), 5, "5", 6]) == {("a", 1): b"pair", 5: b"number", "5": b"text"}
        assert (group.get(("a", 1)), group.get(6)) == (b"pair", None)
    with override_loader(group, load_many=lambda keys: {key: repr(key).encode() for key in keys}):
        assert group.get_many([("a", 1), 5]) == {("a", 1): b"('a', 1)", 5: b"5"}
    assert group.get(5) == b"own"


def test_a_group_without_a_loader_has_none_after_a_node_that_started_inside(kamacache_node: Node) -> None:
    node = kamacache_node
    group = node.group("g", codec="text")
    with fake(group, {"k": "fake"}):
        assert group.get("k") == "fake"
        assert node.members()[0].loads == ()
    assert group.get("k") is None
    assert group.get_many(["k"]) == {}
    with override_loader(group, str.upper):
        node.group("g", str.lower, codec="text")
        assert node.members()[0].loads == ("g",)
        assert group.get("Key") == "KEY"
    assert group.get("Key") == "key"


def test_a_cached_function_has_no_loader_to_replace(kamacache_node: Node) -> None:
    """Its callers bring the function: a fake would change nothing, and the test would not notice."""
    cached: Any = kamacache_node.cached(lambda number: b"own")
    for group in (cached, cached.group):
        with pytest.raises(TypeError, match=r"its set\(value"), fake(group, {}):
            pass
        with pytest.raises(TypeError, match=r"its set\(value"), override_loader(group, str.encode):
            pass
