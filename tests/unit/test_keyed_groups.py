"""Groups with key_codec="auto": int, UUID and tuple keys beside str, through every method."""

from __future__ import annotations

import asyncio
import enum
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kamacache import Clock, ConfigError, Group, GroupExists, InvalidKey, LoadError, Node
from kamacache.group.keyed import _ENCODERS, KeyedGroup
from kamacache.groups import View
from kamacache.keycodec import Key, decode, encode
from kamacache.sweeper import Sweeper
from tests.unit.groups import WAYS, call

SOME_ID = UUID("12345678-1234-5678-1234-567812345678")
KEYS: list[Key] = [
    *(1, "1", -1, "-1", "01", "ada", "Ursula", "UUID", "it's", "'1'", '"', "ü", "'ü", SOME_ID, str(SOME_ID)),
    *(
        f"UUID('{SOME_ID}')",
        (),
        "()",
        (1,),
        "(1,)",
        (1, "1"),
        ("1", 1),
        ((1,), SOME_ID),
        "(1",
        "(1, 2)",
        (1, 2),
        "(" * 9_000,
    ),
]


class Number(enum.IntEnum):
    ONE = 1


class Text(enum.StrEnum):
    ONE = "1"


class Pair(NamedTuple):
    x: int
    y: int


LOADED: list[Any] = []


@pytest.fixture(autouse=True)
def none_loaded() -> None:
    LOADED.clear()


def load(key: Key) -> str | None:
    LOADED.append(key)
    if key == "broken":
        raise LookupError
    return None if key == 404 else repr(key)


async def aload(key: Key) -> str | None:
    return load(key)


@pytest.fixture(params=[load, aload])
def group(node: Node, request: pytest.FixtureRequest) -> KeyedGroup[str]:
    return node.group("g", request.param, key_codec="auto", codec="text", ttl=60)


@pytest.mark.parametrize("way", WAYS)
def test_loaders_get_the_key_itself(group: KeyedGroup[str], way: str) -> None:
    for key in KEYS:
        assert call(way, group, "get", key) == repr(key)
        assert call(way, group, "get", key) == repr(key)
    assert LOADED == KEYS
    assert [type(key) for key in LOADED] == [type(key) for key in KEYS]


@pytest.mark.parametrize("way", WAYS)
def test_every_method_takes_them(group: KeyedGroup[str], way: str) -> None:
    assert call(way, group, "set", 1, "one") is True
    assert call(way, group, "set", key="1", value="text") is True
    assert (call(way, group, "get", 1), call(way, group, "get", "1")) == ("one", "text")
    assert (call(way, group, "peek", 1), call(way, group, "peek", (1,))) == ("one", None)
    assert call(way, group, "set_many", {(1, "a"): "x", SOME_ID: "y"}) is True
    found = call(way, group, "get_many", [(1, "a"), SOME_ID, 1, "1", 404, 5])
    assert found == {(1, "a"): "x", SOME_ID: "y", 1: "one", "1": "text", 5: "5"}
    assert call(way, group, "delete", (1, "a")) is True
    assert call(way, group, "delete_many", [SOME_ID, 1]) is True
    assert call(way, group, "peek", 1) is None
    assert call(way, group, "peek", "1") == "text"


def test_get_or_load(node: Node) -> None:
    group: Any = node.group("g", key_codec="auto", codec="json")

    async def asynchronous(key: Any) -> Any:
        return load(key)

    async def asynchronous_many(keys: list[Any]) -> Any:
        return {key: load(key) for key in keys}

    async def main() -> None:
        assert await group.aget_or_load(7, asynchronous) == "7"
        assert await group.aget_many_or_load([7, 8], asynchronous_many) == {7: "7", 8: "8"}

    assert group.get_or_load(5, load) == "5"
    assert group.get_many_or_load([5, (6,)], lambda keys: {key: load(key) for key in keys}) == {5: "5", (6,): "(6,)"}
    asyncio.run(main())
    assert LOADED == [5, (6,), 7, 8]


@pytest.mark.parametrize("way", WAYS)
def test_errors_have_the_key(group: KeyedGroup[str], way: str) -> None:
    with pytest.raises(LoadError) as caught:
        call(way, group, "get_many", [1, (2,), "broken"])
    assert caught.value.key == "broken"
    assert caught.value.loaded == {1: "1", (2,): "(2,)"}


@pytest.mark.parametrize("key", [True, 1.0, None, b"k", [1], Number.ONE, Text.ONE, Pair(1, 2), (1, True), (1, (None,))])
def test_other_keys_are_type_errors(group: KeyedGroup[str], key: Any) -> None:
    words = r'key_codec="auto" takes str, int, UUID and tuples of them as keys, not '
    calls: list[Callable[[], Any]] = [lambda: group.get(key), lambda: group.get_many([key]), lambda: group.set(key, "")]
    for each in calls:
        with pytest.raises(TypeError, match=words):
            each()


def test_what_groups_without_it_refuse_is_refused(group: KeyedGroup[str]) -> None:
    for key in ("", "k" * 65_537):
        with pytest.raises(InvalidKey):
            group.get(key)
    with pytest.raises(TypeError, match="an iterable of keys, not one str"):
        group.get_many("k")
    with pytest.raises(TypeError):
        group.get()  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        group.peek(1, 2)  # type: ignore[call-arg]


def test_load_many_and_the_decorator(node: Node) -> None:
    def load_many(keys: list[Key]) -> dict[Key, str]:
        return {key: repr(key) for key in keys}

    group: KeyedGroup[str] = node.group("many", load_many=load_many, key_codec="auto", codec="text")
    assert group.get_many([1, "1"]) == {1: "1", "1": "'1'"}
    assert group.loader is load_many

    @node.loader(key_codec="auto", codec="text")
    def of_number(key: int) -> str:
        return str(key + 1)

    assert of_number.get(1) == "2"
    assert of_number.loader(1) == "2"


def test_the_same_loader_is_the_same_group(node: Node) -> None:
    group = node.group("g", load, key_codec="auto", codec="text")
    assert node.group("g", load, key_codec="auto", codec="text") is group
    assert group.loader is load
    with pytest.raises(GroupExists, match="key_codec"):
        node.group("g", load, codec="text")
    with pytest.raises(ConfigError, match=r"key_codec=\[\]: must be"):
        node.group("other", key_codec=[])  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="key_codec='int': must be \"auto\""):
        node.group("h", key_codec="int")  # type: ignore[call-overload]


def test_owner_and_on_evict_have_the_key(node: Node, clock: Clock) -> None:
    gone: list[Any] = []
    group = node.group("g", load, key_codec="auto", codec="text", ttl=1, on_evict=lambda *it: gone.append(it[0]))
    for key in (1, "1", (1,)):
        group.get(key)
        assert node.owner("g", key).id == node.id
    clock.advance(5.0)
    Sweeper(View(node._groups.cores), node._groups.shares, node._runtime.history).sweep()
    assert sorted(map(repr, gone)) == sorted(map(repr, [1, "1", (1,)]))


def test_every_parameter_of_a_group_is_known() -> None:
    """A method that takes a key under another name would not take keys of other types."""
    known = {*_ENCODERS, "self", "value", "ttl", "wait", "if_present", "if_version", "strict"}
    known |= {"default", "delta", "initial", "lease", "prefix", "tag", "tags"}
    for name, method in inspect.getmembers(Group, callable):
        if not name.startswith("_"):
            assert {*inspect.signature(method).parameters} <= known, name
            assert inspect.iscoroutinefunction(getattr(KeyedGroup, name)) == inspect.iscoroutinefunction(method)
            assert inspect.getdoc(getattr(KeyedGroup, name)) == inspect.getdoc(method)
    assert KeyedGroup.get is not Group.get


keys = st.recursive(
    st.one_of(st.integers(), st.text(), st.uuids()), lambda inside: st.lists(inside, max_size=3).map(tuple)
)
strange = st.text(alphabet="01-'\"\\(),UID x\n", max_size=12)


@given(st.one_of(keys, strange), st.one_of(keys, strange))
def test_one_text_for_one_key(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == (repr(one) == repr(other))
    assert repr(decode(encode(one))) == repr(one)


@given(strange)
def test_any_text_is_a_key(text: str) -> None:
    decode(text)


def test_primitives_take_keys_of_every_type() -> None:
    with Node(registry=None) as node:
        group: Any = node.group("g", codec="text", key_codec="auto")
        key = (1, "a")
        assert group.add(key, "v")
        assert not group.add(key, "w")
        assert group.incr(7, initial=1) == 2
        assert key in group
        assert (1, "b") not in group
        assert set(group.keys()) == {key, 7}
        assert group.set(key, "x", if_present=True)
        with group.lock(8):
            assert 8 in group
        assert group.pop(key) == "x"
        assert group.remove(7) == (True, True)
