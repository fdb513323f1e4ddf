"""Keys and values: those that every method takes, refuses and returns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kamacache import Clock, CodecError, Group, InvalidKey, LoadError, Node, Value, ValueTooLarge
from kamacache.testing import Network
from tests.unit.groups import WAYS, Held, call, until, waiting

KEYED: dict[str, Callable[[Any], tuple[Any, ...]]] = {  # the arguments of each method that takes a key
    "get": lambda key: (key,),
    "peek": lambda key: (key,),
    "delete": lambda key: (key,),
    "set": lambda key: (key, b"value"),
    "get_many": lambda key: (["fine", key],),
    "delete_many": lambda key: (["fine", key],),
    "set_many": lambda key: ({"fine": b"value", key: b"value"},),
}
BAD = {
    "None": None,
    "int": 5,
    "bytes": b"key",
    "tuple": ("key",),
    "empty": "",
    "long": "x" * 65_537,
    "long in UTF-8": "é" * 32_769,
    "surrogate": "\ud800",
    "surrogate inside": "a\udfffb",
}
GOOD = {
    "longest": "x" * 65_536,
    "longest in UTF-8": "é" * 32_768,
    "NUL": "\0",
    "newline": "a\nb",
    "crab": "🦀",
    "colon": "a:b",
}


@pytest.fixture
def group(node: Node) -> Group[bytes]:
    return node.group("g", str.encode)


@pytest.mark.parametrize("key", BAD.values(), ids=BAD)
@pytest.mark.parametrize("method", KEYED)
@pytest.mark.parametrize("way", WAYS)
def test_bad_keys(group: Group[bytes], way: str, method: str, key: Any) -> None:
    with pytest.raises(InvalidKey):
        call(way, group, method, *KEYED[method](key))
    stats = group.stats()
    assert (stats.gets, stats.writes, stats.entries) == (0, 0, 0)


@pytest.mark.parametrize("method", ["get_many", "delete_many"])
def test_a_key_that_cannot_be_hashed(group: Group[bytes], method: str) -> None:
    with pytest.raises(InvalidKey):
        getattr(group, method)([["key"]])


def test_no_node_owns_a_bad_key(node: Node, group: Group[bytes]) -> None:
    with pytest.raises(InvalidKey):
        node.owner("g", "")


@pytest.mark.parametrize("key", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("way", WAYS)
def test_good_keys(group: Group[bytes], way: str, key: str) -> None:
    assert call(way, group, "get", key) == key.encode()
    assert call(way, group, "peek", key) == key.encode()
    assert call(way, group, "set", key, b"new") is True
    assert call(way, group, "get_many", [key]) == {key: b"new"}
    assert call(way, group, "delete", key) is True
    assert call(way, group, "peek", key) is None


def test_a_str_of_another_class_is_a_key(group: Group[bytes]) -> None:
    class Name(str):
        __slots__ = ()

    assert group.get(Name("a")) == b"a"
    assert group.get_many([Name("a")]) == {"a": b"a"}
    assert group.stats().loads == 1


# -- bytes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_bytes_are_kept_as_they_are(node: Node, way: str) -> None:
    value = b"a value of some length"
    group = node.group("g", lambda _: value)
    assert call(way, group, "get", "loaded") is value
    assert call(way, group, "get", "loaded") is value
    group.set("set", value)
    assert call(way, group, "get", "set") is value
    assert call(way, group, "peek", "set") is value
    assert call(way, group, "get_many", ["set"])["set"] is value


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))], ids=["bytearray", "memoryview"])
def test_other_buffers_are_copied(node: Node, kind: Callable[[bytes], Any]) -> None:
    buffer = kind(b"before")
    group = node.group("g", lambda _: buffer)
    group.set("set", buffer)
    assert group.get("loaded") == b"before"
    buffer[:] = b"after!"
    assert group.get("loaded") == b"before"
    assert group.get("set") == b"before"
    assert type(group.get("set")) is bytes


@pytest.mark.parametrize("way", WAYS)
def test_empty_is_a_value(node: Node, way: str) -> None:
    group = node.group("g", lambda _: b"")
    assert call(way, group, "get", "loaded") == b""
    assert call(way, group, "set", "set", b"") is True
    assert call(way, group, "get_many", ["loaded", "set"]) == {"loaded": b"", "set": b""}
    assert group.stats().hits == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["set", "set_many"])
def test_none_is_not(group: Group[Any], way: str, method: str) -> None:
    with pytest.raises(TypeError, match=r"delete\(key\)"):
        call(way, group, method, *(("k", None) if method == "set" else ({"a": b"", "k": None},)))
    assert group.stats().entries == 0


# -- codecs ------------------------------------------------------------------------------------------------------------

WRONG: list[tuple[str, Any]] = [("bytes", "text"), ("text", b"bytes"), ("json", {1, 2}), ("msgpack", object())]


@pytest.mark.parametrize(("codec", "value"), WRONG)
@pytest.mark.parametrize("way", WAYS)
def test_values_that_a_codec_does_not_take(node: Node, way: str, codec: Any, value: Any) -> None:
    group: Group[Any] = node.group("g", lambda _: value, codec=codec)
    with pytest.raises(CodecError):
        call(way, group, "set", "k", value)
    with pytest.raises(CodecError):
        call(way, group, "set_many", {"k": value})
    with pytest.raises(LoadError) as caught:
        call(way, group, "get", "k")
    assert isinstance(caught.value.__cause__, CodecError)
    assert caught.value.cause_type == "CodecError"
    assert group.stats().load_errors == 1
    assert group.stats().entries == 0


@pytest.mark.parametrize(("codec", "value"), [("json", {"a": [1]}), ("msgpack", {"a": [1], 5: b"\0"})])
@pytest.mark.parametrize("way", WAYS)
def test_callers_share_nothing(node: Node, way: str, codec: Any, value: Any) -> None:
    group: Group[Any] = node.group("g", lambda _: value, codec=codec)
    group.set("set", value)
    for key in ("set", "loaded"):
        seen = [call(way, group, "get", key) for _ in range(3)]
        seen += [call(way, group, "peek", key), call(way, group, "get_many", [key])[key]]
        assert all(each == value for each in seen)
        assert len({id(each) for each in [*seen, value]}) == 6
        seen[0]["a"].append(2)
        assert group.get(key) == value


def test_callers_of_one_load_share_no_object(node: Node) -> None:
    held = Held(lambda _: {"a": 1})
    group: Group[dict[str, int]] = node.group("g", held, codec="json")
    callers = [waiting(group.get, "k") for _ in range(3)]
    held.go.set()
    values = [caller.result() for caller in callers]
    assert values == [{"a": 1}] * 3
    assert len({id(value) for value in values}) == 3


class Words:
    """A codec whose values cannot be changed."""

    shareable = True

    def encode(self, value: tuple[str, ...]) -> bytes:
        return " ".join(value).encode()

    def decode(self, data: bytes) -> tuple[str, ...]:
        return tuple(data.decode().split())


@pytest.mark.parametrize("way", WAYS)
def test_shareable_values_are_decoded_once(node: Node, way: str) -> None:
    group: Group[tuple[str, ...]] = node.group("g", lambda _: ("a", "b"), codec=Words())
    group.set("set", ("c", "d"))
    for key, value in (("loaded", ("a", "b")), ("set", ("c", "d"))):
        seen = [call(way, group, "get", key) for _ in range(2)]
        seen += [call(way, group, "peek", key), call(way, group, "get_many", [key])[key]]
        assert seen == [value] * 4
        assert len({id(each) for each in seen}) == 1


def test_a_value_in_its_wrapping(node: Node) -> None:
    group: Group[str] = node.group("g", lambda key: Value(key, ttl="10s"), codec="text")
    assert group.get("k") == "k"
    assert group.get("k") == "k"


@pytest.mark.parametrize("codec", ["bytes", "text", "json"])
@pytest.mark.parametrize("way", WAYS)
def test_a_caller_gets_what_its_function_returned_although_a_write_came(way: str, codec: Any, node: Node) -> None:
    """Return the value of this load, and keep that of the write, also if callers share the objects of a codec."""
    group: Group[Any] = node.group("g", codec=codec)
    mine, theirs = (b"mine", b"theirs") if codec == "bytes" else ("mine", "theirs")

    def load(_: str) -> Any:
        assert group.set("k", theirs) is True
        return mine

    assert call(way, group, "get_or_load", "k", load) == mine
    assert call(way, group, "get", "k") == theirs


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_values_over_max_value(way: str) -> None:
    with Node(max_value=100) as node:
        group = node.group("g", lambda key: bytes(int(key)))
        assert call(way, group, "set", "k", bytes(100)) is True
        for method, *args in (("set", "k", bytes(101)), ("set_many", {"a": b"", "k": bytes(101)})):
            with pytest.raises(ValueTooLarge, match="101"):
                call(way, group, method, *args)
        assert group.peek("a") is None
        assert group.peek("k") == bytes(100)
        assert [call(way, group, "get", "101") for _ in range(2)] == [bytes(101)] * 2
        assert call(way, group, "get_many", ["100", "102"]) == {"100": bytes(100), "102": bytes(102)}
        assert group.peek("101") is group.peek("102") is None
        assert group.stats().loads == 4


def test_entries_over_an_eighth_of_the_budget(node: Node) -> None:
    group = node.group("g", lambda _: bytes(512), max_bytes="4 KiB")
    with pytest.raises(ValueTooLarge, match="512"):
        group.set("k", bytes(512))
    with pytest.raises(ValueTooLarge):
        group.set("k" * 512, b"")
    assert group.get("k") == bytes(512)
    assert group.stats().entries == 0
    assert group.set("k", bytes(100))
    assert group.get("k") == bytes(100)


@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_is_too_large_is_counted_and_named_once_a_minute(
    way: str, node: Node, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    sizes = {"small": 10, "large": 2_000}
    group = node.group("g", lambda key: bytes(sizes[key]), max_bytes=8_000)
    lines = ["1 since the last line", "3 since the last line"]
    for line in lines:
        for key in ("small", "large", "large"):
            assert len(call(way, group, "get", key)) == sizes[key]
        call(way, group, "get_many", ["small", "large"])
        (record,) = caplog.records
        text = record.getMessage()
        assert line in text
        assert "'large': 2,000 bytes" in text
        assert "an eighth of max_bytes 1,000" in text
        caplog.clear()
        clock.advance(61)
    stats = group.stats()
    assert (stats.too_large, stats.loads, stats.entries) == (6, 7, 1)


def test_all_callers_that_wait_get_a_value_that_is_too_large() -> None:
    with Node(max_value=10) as node:
        held = Held(lambda _: bytes(11))
        group = node.group("g", held)
        callers = [waiting(group.get, "k") for _ in range(3)]
        held.go.set()
        assert [caller.result() for caller in callers] == [bytes(11)] * 3
        assert held.calls == {"k": 1}
        assert asyncio.run(group.aget("k")) == bytes(11)
        assert held.calls == {"k": 2}


class Unsaid:
    """A codec that does not declare whether its values may be shared, so that they are not."""

    def encode(self, value: list[int], /) -> bytes:
        return bytes(value)

    def decode(self, data: bytes, /) -> list[int]:
        return list(data)


@pytest.mark.parametrize("way", WAYS)
def test_a_codec_need_not_say_that_it_is_not_shareable(node: Node, way: str) -> None:
    group: Group[Any] = node.group("g", lambda _: [1, 2], codec=Unsaid())  # type: ignore[call-overload, arg-type, unused-ignore]
    first, second = (call(way, group, "get", "key") for _ in range(2))
    assert first == second == [1, 2]
    assert first is not second
    assert call(way, group, "get_many", ["key", "other"]) == {"key": [1, 2], "other": [1, 2]}


class Unreadable:
    """A codec of text that cannot read values that begin with "bad"."""

    shareable = False

    def encode(self, value: str, /) -> bytes:
        return value.encode()

    def decode(self, data: bytes, /) -> str:
        if data.startswith(b"bad"):
            raise ValueError("it is bad")
        return data.decode()


@pytest.mark.parametrize("kept", [True, False], ids=["in memory", "loaded"])
@pytest.mark.parametrize("way", WAYS)
def test_a_batch_with_bytes_that_cannot_be_read(node: Node, way: str, kept: bool) -> None:
    group: Group[str] = node.group("g", lambda key: key, codec=Unreadable())
    keys = ["a", "bad 1", "b", "bad 2", "c"]
    for key in keys[: 3 if kept else 0]:
        group.set(key, key)
    with pytest.raises(LoadError) as caught:
        call(way, group, "get_many", keys)
    assert (caught.value.key, caught.value.loaded) == ("bad 1", {"a": "a", "b": "b", "c": "c"})
    assert isinstance(caught.value.__cause__, CodecError)
    assert isinstance(caught.value.__cause__.__cause__, ValueError)
    assert caught.value.cause_type == "CodecError"
    stats = group.stats()
    assert (stats.gets, stats.hits, stats.loads) == (5, 2 if kept else 0, 3 if kept else 5)


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_with_bytes_of_a_peer_that_cannot_be_read(way: str) -> None:
    network = Network(hot=False)
    with (
        Node(registry=network.registry(), lane=network.lane()) as owner,
        Node(registry=network.registry(), lane=network.lane()) as asker,
    ):
        groups: list[Group[str]] = [node.group("g", str, codec=Unreadable()) for node in (owner, asker)]
        until(lambda: {asker.owner("g", str(number)).id for number in range(100)} == {owner.id, asker.id})
        bad, good = (
            next(key for key in (f"{word} {i}" for i in range(200)) if asker.owner("g", key).id == owner.id)
            for word in ("bad", "good")
        )
        assert groups[0].set_many({bad: bad, good: good}) is True
        with pytest.raises(LoadError) as caught:
            call(way, groups[1], "get_many", [bad, good, "here"])
        assert (caught.value.key, caught.value.loaded) == (bad, {good: good, "here": "here"})
        stats = groups[1].stats()
        assert (stats.gets, stats.peer_hits, stats.undecodable > 0) == (3, 1, True)


@pytest.mark.parametrize("ttl", [0, -5, "0s"])
@pytest.mark.parametrize("way", WAYS)
def test_a_value_that_has_run_out_is_returned_and_not_kept(node: Node, way: str, ttl: Any) -> None:
    """Return it, as `Value(token, ttl=expires_at - now)` may have run out."""
    group = node.group("g", lambda key: Value(key.encode(), ttl))
    assert [call(way, group, "get", "k") for _ in range(2)] == [b"k", b"k"]
    assert call(way, group, "get_many", ["k", "l"]) == {"k": b"k", "l": b"l"}
    assert group.peek("k") is None
    assert (group.stats().loads, group.stats().load_errors, group.stats().entries) == (4, 0, 0)


@pytest.mark.parametrize("codec", ["bytes", "json", "pickle"])
def test_a_value_of_a_loader_is_not_set(node: Node, codec: str) -> None:
    """Refuse what would be kept as it is, and with neither its ttl nor its tags."""
    group: Group[Any] = node.group(codec, codec=codec)  # type: ignore[call-overload]
    value = Value(b"x", ttl=5, tags="t")
    writes: tuple[Callable[[], Any], ...] = (
        lambda: group.set("k", value),
        lambda: group.set("k", value, wait=False),
        lambda: group.set_many({"k": value}),
        lambda: group.add("k", value),
        lambda: asyncio.run(group.aset("k", value)),
    )
    for write in writes:
        with pytest.raises(TypeError, match=r"pass its value, with ttl= and tags="):
            write()
    assert group.get("k") is None
