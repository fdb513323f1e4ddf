"""Loading through a group alone: values and how long they live, batches, and where loaders run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Clock, Group, LoadError, LoadTimeout, Node, Value
from tests.unit.groups import WAYS, AsyncHeld, Caller, Held, call, counts


def in_both(load: Callable[[Any], Any]) -> list[Callable[[Any], Any]]:
    """Return a loader as a plain and as an async function."""

    async def aload(asked: Any) -> Any:
        return load(asked)

    return [load, aload]


# -- how long things live ----------------------------------------------------------------------------------------------


def test_a_value_is_loaded_once_until_it_expires(node: Node, clock: Clock) -> None:
    values = iter([b"1", b"2"])
    group = node.group("g", lambda _: next(values), ttl="10s", jitter=0)
    assert [group.get("k") for _ in range(3)] == [b"1"] * 3
    clock.advance(9.99)
    assert group.get("k") == b"1"
    clock.advance(0.02)
    assert group.get("k") == b"2"
    assert counts(group) == {"hits": 3, "loads": 2}


def test_no_hit_comes_after_the_end_of_a_ttl() -> None:
    """The clock that hits read lags by a tick of the kernel; a caller that sleeps for the ttl sees none of that.

    A host that is busy may hold up a tick of a virtual machine, and with it this clock: one key in five may see that.
    """
    late = 0
    with Node() as node:
        group = node.group("g")
        for number in range(20):
            group.set(f"k{number}", b"v", ttl=0.04)
            ends, last = time.monotonic() + 0.04, 0.0
            while (asked := time.monotonic()) and group.get(f"k{number}") is not None:
                last = asked
            late += last >= ends
    assert late <= 4


def test_without_ttl_it_never_expires(node: Node, clock: Clock) -> None:
    group = node.group("g", str.encode)
    group.get("k")
    clock.advance(86400 * 365 * 10)
    assert group.peek("k") == b"k"


@pytest.mark.parametrize("way", WAYS)
def test_absence_is_remembered_for_its_time(node: Node, clock: Clock, way: str) -> None:
    found: dict[str, bytes] = {}
    group = node.group("g", found.get, ttl="1h", negative_ttl="2s")
    assert [call(way, group, "get", "k") for _ in range(3)] == [None] * 3
    assert counts(group) == {"loads": 1, "absent": 2}
    assert group.stats().entries == 1
    assert group.stats().bytes > 0
    found["k"] = b"now"
    clock.advance(1.99)
    assert call(way, group, "get", "k") is None
    clock.advance(0.02)
    assert call(way, group, "get", "k") == b"now"


def test_absence_is_forgotten_at_once(node: Node) -> None:
    held = Held(lambda _: None)
    held.go.set()
    group = node.group("g", held, negative_ttl=0)
    assert [group.get("k") for _ in range(3)] == [None] * 3
    assert held.calls == {"k": 3}
    assert group.stats().entries == 0


@pytest.mark.parametrize("way", WAYS)
def test_without_a_loader_a_miss_is_none(node: Node, way: str) -> None:
    group: Group[bytes] = node.group("g")
    assert call(way, group, "get", "k") is None
    assert call(way, group, "get_many", ["k", "l"]) == {}
    assert counts(group) == {"absent": 3}
    assert group.stats().entries == 0
    group.set("k", b"v")
    assert call(way, group, "get", "k") == b"v"


def test_jitter_shortens_loaded_values_alone(node: Node, clock: Clock) -> None:
    def load(key: str) -> Any:
        return Value(b"v", ttl=100) if key == "own" else None if key == "absent" else b"v"

    group = node.group("g", load, ttl=100, negative_ttl=100, jitter=0.5)
    keys = [str(number) for number in range(200)]
    group.get_many([*keys, "own", "absent"])
    group.set("set", b"v")
    clock.advance(49.9)
    assert group.stats().entries == 203
    assert all(group.peek(key) for key in keys)
    clock.advance(50)
    left = sum(group.peek(key) is not None for key in keys)
    assert left < 10  # one in five hundred lives as long
    assert (group.peek("own"), group.peek("set")) == (b"v", b"v")
    clock.advance(0.2)
    assert not any(group.peek(key) for key in [*keys, "own", "set"])


@pytest.mark.parametrize(("ttl", "after"), [("10s", 10.0), (0.5, 0.5), (None, None)])
def test_a_value_with_a_ttl_of_its_own(node: Node, clock: Clock, ttl: Any, after: float | None) -> None:
    group: Group[bytes] = node.group("g", lambda _: Value(b"v", ttl=ttl), ttl="1s", jitter=0.9)
    group.get("k")
    clock.advance((after or 1e9) * 0.999)
    assert group.peek("k") == b"v"
    clock.advance((after or 1e9) * 0.002)
    assert (group.peek("k") is None) == (after is not None)


def test_a_value_without_one_has_the_groups(node: Node, clock: Clock) -> None:
    group: Group[bytes] = node.group("g", lambda _: Value(b"v"), ttl="10s", jitter=0)
    group.get("k")
    clock.advance(9.99)
    assert group.peek("k") == b"v"
    clock.advance(0.02)
    assert group.peek("k") is None


@pytest.mark.parametrize("way", WAYS)
def test_set_is_exact_and_replaces(node: Node, clock: Clock, way: str) -> None:
    group = node.group("g", str.encode, ttl="10s", jitter=0.9)
    call(way, group, "set", "usual", b"v")
    call(way, group, "set", "ever", b"v", ttl=None)
    call(way, group, "set_many", {"long": b"v"}, ttl="20s")
    clock.advance(9.99)
    assert group.peek("usual") == b"v"
    clock.advance(0.02)
    assert (group.peek("usual"), group.peek("long"), group.peek("ever")) == (None, b"v", b"v")
    clock.advance(10)
    assert (group.peek("long"), group.peek("ever")) == (None, b"v")


@pytest.mark.parametrize("way", WAYS)
def test_delete_and_clear(node: Node, way: str) -> None:
    group = node.group("g", str.encode)
    group.get_many(["a", "b", "c"])
    assert call(way, group, "delete", "a") is True
    assert call(way, group, "delete", "never there") is True
    assert call(way, group, "delete_many", ["b"]) is True
    assert [group.peek(key) for key in "abc"] == [None, None, b"c"]
    assert call(way, group, "clear") is True
    assert group.peek("c") is None
    assert group.get("c") == b"c"
    assert group.stats().writes == 4


@pytest.mark.parametrize("way", WAYS)
def test_peek_neither_loads_nor_counts(node: Node, way: str) -> None:
    group = node.group("g", str.encode)
    assert call(way, group, "peek", "k") is None
    group.set("k", b"v")
    assert call(way, group, "peek", "k") == b"v"
    assert group.stats().gets == 0


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("load", in_both(str.encode), ids=["plain", "async"])
@pytest.mark.parametrize("way", WAYS)
class TestBatches:
    @pytest.mark.parametrize("kind", [list, tuple, iter, dict.fromkeys, lambda keys: (key for key in keys)])
    def test_any_iterable(self, node: Node, way: str, load: Any, kind: Callable[[list[str]], Any]) -> None:
        group = node.group("g", load)
        found = call(way, group, "get_many", kind(["b", "a", "c"]))
        assert list(found.items()) == [("b", b"b"), ("a", b"a"), ("c", b"c")]

    @pytest.mark.parametrize("keys", ["abc", b"abc", 5, None])
    def test_values_that_mean_absence(self, node: Node, way: str, load: Any, keys: Any) -> None:
        group = node.group("g", load)
        for method in ("get_many", "delete_many"):
            with pytest.raises(TypeError):
                call(way, group, method, keys)
        with pytest.raises(TypeError):
            call(way, group, "set_many", keys)
        assert group.stats().gets == 0

    def test_nothing(self, node: Node, way: str, load: Any) -> None:
        group = node.group("g", load)
        assert call(way, group, "get_many", []) == {}
        assert call(way, group, "set_many", {}) is True
        assert call(way, group, "delete_many", ()) is True

    def test_in_the_order_asked(self, node: Node, way: str, load: Any) -> None:
        group = node.group("g", load)
        group.get_many(["b", "d"])
        assert list(call(way, group, "get_many", ["d", "c", "b", "a", "d"])) == ["d", "c", "b", "a"]

    def test_more_keys_than_the_pool_has_room_for(self, way: str, load: Any) -> None:
        with Node(loader_threads=1) as node:
            group = node.group("g", load)
            keys = [str(number) for number in range(100)]
            assert call(way, group, "get_many", keys) == {key: key.encode() for key in keys}


def test_an_error_names_the_key_and_brings_the_rest(node: Node) -> None:
    def load(key: str) -> bytes | None:
        if key.startswith("bad"):
            raise OSError(key)
        return None if key == "absent" else key.encode()

    for number, each in enumerate(in_both(load)):
        group = node.group(f"g{number}", each)
        group.get("there")
        for way in WAYS:
            with pytest.raises(LoadError) as caught:
                call(way, group, "get_many", ["a", "bad1", "absent", "there", "bad2", "b"])
            error = caught.value
            assert error.key == "bad1"
            assert error.loaded == {"a": b"a", "there": b"there", "b": b"b"}
            assert isinstance(error.__cause__, OSError)
            assert error.cause_type == "OSError"
        assert group.get("b") == b"b"


def answers(keys: list[str]) -> dict[str, bytes]:
    return {key: key.encode() for key in keys if key != "absent"} | {"unasked": b"!"}


@pytest.mark.parametrize("load_many", in_both(answers), ids=["plain", "async"])
@pytest.mark.parametrize("way", WAYS)
def test_load_many(node: Node, way: str, load_many: Any) -> None:
    group: Group[bytes] = node.group("g", load_many=load_many)
    assert call(way, group, "get_many", ["b", "absent", "a"]) == {"b": b"b", "a": b"a"}
    assert group.peek("unasked") is None
    assert call(way, group, "get", "absent") is None
    assert call(way, group, "get", "single") == b"single"
    assert counts(group) == {"loads": 4, "absent": 1}


@pytest.mark.parametrize("way", WAYS)
def test_which_loader_is_used(node: Node, way: str) -> None:
    batches: list[list[str]] = []

    def load_many(keys: list[str]) -> dict[str, bytes]:
        batches.append(keys)
        return dict.fromkeys(keys, b"batch")

    group = node.group("g", lambda _: b"single", load_many=load_many)
    assert call(way, group, "get", "a") == b"single"
    assert call(way, group, "get_many", ["a", "b", "c"]) == {"a": b"single", "b": b"batch", "c": b"batch"}
    assert batches == [["b", "c"]]


def refuse(keys: list[str]) -> Any:
    raise OSError("no database")


@pytest.mark.parametrize(
    ("answer", "cause"), [(refuse, OSError), (list, TypeError), (lambda _: None, TypeError), (lambda _: 5, TypeError)]
)
@pytest.mark.parametrize("way", WAYS)
def test_when_load_many_fails_all_its_keys_fail(node: Node, way: str, answer: Any, cause: type[Exception]) -> None:
    for number, load_many in enumerate(in_both(answer)):
        group: Group[bytes] = node.group(f"g{number}", load_many=load_many)
        group.set("there", b"v")
        with pytest.raises(LoadError) as caught:
            call(way, group, "get_many", ["a", "there", "b"])
        assert (caught.value.key, caught.value.loaded) == ("a", {"there": b"v"})
        assert isinstance(caught.value.__cause__, cause)
        with pytest.raises(LoadError):
            call(way, group, "get", "b")
        assert counts(group) == {"hits": 1, "loads": 3}
        assert group.stats().load_errors == 3


def test_a_batch_joins_loads_under_way(node: Node) -> None:
    held = Held()
    group = node.group("g", held)
    single = Caller(group.get, "b")
    held.wait_begun()
    batch = Caller(group.get_many, ["b", "a"])
    held.wait_begun()  # a, although b comes first: a batch runs the loads that it leads before it waits
    held.go.set()
    assert batch.result() == {"b": b"b", "a": b"a"}
    assert single.result() == b"b"
    assert counts(group) == {"loads": 2, "joined": 1}


def test_a_batch_that_runs_out_of_time(node: Node) -> None:
    held = AsyncHeld(str.encode)
    group = node.group("g", held, load_timeout="100ms")
    group.set("there", b"v")
    with pytest.raises(LoadTimeout) as caught:
        group.get_many(["there", "a", "b"])
    assert (caught.value.key, caught.value.loaded) == ("a", {"there": b"v"})
    assert isinstance(caught.value, TimeoutError)


def test_a_load_that_no_caller_waits_for_any_more_is_not_begun() -> None:
    with Node(loader_threads=1) as node:
        held = Held()
        group = node.group("g", held, load_timeout="100ms")

        async def main() -> None:
            with pytest.raises(LoadTimeout):
                await group.aget_many(["a", "b", "c"])
            held.go.set()
            assert await group.aget("d") == b"d"

        asyncio.run(main())
        assert held.calls == {"a": 1, "d": 1}
