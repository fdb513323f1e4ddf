"""Tags of a node alone: who gives them, what a delete of one drops, under every codec and beside every other method."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, Any, cast

import msgspec
import pydantic
import pytest

from kamacache import KEEP, Clock, Conflict, LoadError, Node, NotKey, Value, codec_for
from kamacache.errors import ConfigError, InvalidKey, ValueTooLarge
from tests.support.policies import MODELS
from tests.unit.groups import PATIENCE, WAYS, Held, begun, call, settled, until, waiting

LONG = "many of the same words, " * 1000


class Item(pydantic.BaseModel):
    id: int


class Row(msgspec.Struct):
    id: int


VALUES: dict[str, tuple[Any, Any]] = {
    "bytes": ("bytes", b"x"),
    "empty": ("bytes", b""),
    "marked": ("bytes", b"\xc1t\x01\x05user:"),
    "text": ("text", "x"),
    "json": ("json", {"a": [1, None]}),
    "msgpack": ("msgpack", [1, b"x"]),
    "pickle": ("pickle", {1, 2}),
    "msgspec": (codec_for(Row), Row(1)),
    "pydantic": (codec_for(Item), Item(id=1)),
}


def write(way: str, group: Any, how: str, key: str, value: Any, tags: Any) -> None:
    """Keep a value with tags."""
    if how == "set":
        assert call(way, group, "set", key, value, tags=tags) is True
    elif how == "set_many":
        assert call(way, group, "set_many", {key: value}, tags=tags) is True
    elif how == "behind":
        call(way, group, "set", key, value, tags=tags, wait=False)
        until(lambda: group.get(key) is not None)
    else:
        assert call(way, group, "get_or_load", key, lambda _: Value(value, tags=tags)) == value


def found(group: Any, key: str) -> dict[str, Any]:
    """Return what each method that never loads finds."""
    return {
        "peek": group.peek(key),
        "entry": group.get_entry(key),
        "ttl": group.ttl(key),
        "contains": True if key in group else None,
        "keys": key if key in list(group.keys()) else None,
        "get": group.get(key),
        "aget": call("async", group, "get", key),
        "get_many": group.get_many([key]).get(key),
        "aget_many": call("async", group, "get_many", [key]).get(key),
        "pop": group.pop(key),
    }


NOTHING = dict.fromkeys(["peek", "entry", "ttl", "contains", "keys", "get", "aget", "get_many", "aget_many", "pop"])


def is_gone(group: Any, key: str) -> bool:
    return found(group, key) == NOTHING


# What gives tags, and what a delete drops.


@pytest.mark.parametrize(
    ("how", "way"), [("set", "sync"), ("set_many", "async"), ("behind", "sync"), ("load", "async")]
)
@pytest.mark.parametrize("compress", [None, 10])
@pytest.mark.parametrize("kind", VALUES)
def test_a_tagged_value_is_itself_until_a_tag_is_deleted(
    node: Node, kind: str, compress: Any, way: str, how: str
) -> None:
    codec, value = VALUES[kind]
    group: Any = node.group("g", codec=codec, compress_above=compress)
    write(way, group, how, "k", value, ["user:7", "all"])
    group.set("untagged", value)
    assert all(one is not None for one in found(group, "k").values())
    write(way, group, how, "k", value, ["user:7", "all"])
    write(way, group, how, "other", value, ["user:8"])
    write(way, group, how, "single", value, "user:9")
    assert group.get_many(["k", "other", "single"]) == {"k": value, "other": value, "single": value}
    assert group.get_entry("k").value == group.peek("k") == value
    assert call(way, group, "delete_tag", "user:7") is True
    assert is_gone(group, "k")
    assert group.peek("other") == group.peek("single") == value
    assert call(way, group, "delete_tag", "user:9") is True
    assert is_gone(group, "single")
    assert call(way, group, "delete_tag", "u") is True, "no part of a text"
    assert call(way, group, "delete_tag", "never seen") is True
    assert call(way, group, "delete_tag", "untagged") is True, "a key is no tag"
    assert group.get("other") == group.get("untagged") == value
    assert call(way, group, "delete", "user:8") is True, "a tag is no key"
    assert group.pop("other") == value


def test_tags_count_in_bytes(node: Node) -> None:
    """Count a tag at the entry that has it first, also if the entry is set again, and not at those that share it."""
    group = node.group("g")

    def cost(key: str, *tags: str) -> int:
        before = group.stats().bytes - group.stats().remembered_bytes
        group.set(key, b"v", tags=tags)
        return group.stats().bytes - group.stats().remembered_bytes - before

    first, shared, two = cost("k1", "aa"), cost("k2", "aa"), cost("k3", "bb", "cc")
    assert first - shared > 100
    assert 0 < (two - first) - (first - shared) < 50  # and its text, in the value
    assert cost("k1", "aa") <= 0  # k2 has the tag, too
    assert cost("k3", "bb", "cc") == 0
    assert group.touch("k3", 60)
    assert cost("k3", "bb", "cc") == 0
    used = group.stats().bytes - group.stats().remembered_bytes
    group.delete("k3")
    assert used - (group.stats().bytes - group.stats().remembered_bytes) == two


@pytest.mark.parametrize("kind", ["text", "json", "pickle"])
def test_packed_values_have_tags(node: Node, kind: str) -> None:
    codec: Any = VALUES[kind][0]
    group: Any = node.group("g", lambda _: Value(LONG, tags="a"), codec=codec, compress_above="1 KiB")
    group.set("set", LONG, tags="a")
    assert group.get_many(["set", "loaded"]) == {"set": LONG, "loaded": LONG}
    assert group.get("loaded") == group.peek("set") == LONG
    assert group.stats().bytes < 4000
    group.delete_tag("a")
    assert group.peek("set") is group.peek("loaded") is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("use_async", [False, True])
def test_loaders_give_tags(node: Node, way: str, use_async: bool) -> None:
    loads: Counter[str] = Counter()

    def load(key: str) -> Value[bytes]:
        loads[key] += 1
        return Value(key.encode(), tags=[f"of:{key}", "all"], ttl="1h")

    async def aload(key: str) -> Value[bytes]:
        return load(key)

    def load_many(keys: list[str]) -> dict[str, Value[bytes] | bytes]:
        return {key: load(key) if key != "bare" else b"bare" for key in keys}

    async def aload_many(keys: list[str]) -> dict[str, Value[bytes] | bytes]:
        return load_many(keys)

    options: Any = {"loader": aload, "load_many": aload_many} if use_async else {"loader": load, "load_many": load_many}
    group = node.group("g", **options)
    assert group.ttl("none") is None
    assert call(way, group, "get", "one") == b"one"
    many = {"two": b"two", "three": b"three", "bare": b"bare"}
    assert call(way, group, "get_many", list(many)) == many
    given = call(way, group, "get_many_or_load", ["four", "two"], load_many)
    assert given == {"four": b"four", "two": b"two"}
    assert group.ttl("one") == 3600
    assert call(way, group, "delete_tag", "of:two") is True
    assert [group.peek(key) for key in ("one", "two", "three")] == [b"one", None, b"three"]
    assert call(way, group, "get", "two") == b"two"
    assert call(way, group, "delete_tag", "all") is True
    assert [group.peek(key) for key in ("one", "two", "three", "four", "bare")] == [None] * 4 + [b"bare"]
    assert call(way, group, "get_many", ["one", "two"]) == {"one": b"one", "two": b"two"}
    assert loads == {"one": 2, "two": 3, "three": 1, "four": 1}


@pytest.mark.parametrize("later", [["b"], [], "b"])
def test_a_value_set_anew_has_the_new_tags_alone(node: Node, later: Any) -> None:
    group = node.group("g")
    group.set("k", b"1", tags=["a", "b"])
    group.set("k", b"2", tags=later)
    group.delete_tag("a")
    assert group.get("k") == b"2"
    group.delete_tag("b")
    assert group.get("k") == (b"2" if not later else None)


def test_a_tag_that_was_deleted_can_be_used_again(node: Node) -> None:
    group = node.group("g")
    for turn in range(5):
        value = b"%d" % turn
        assert group.set("k", value, tags=["a"]) is True
        assert group.set("other", value, tags=["a"]) is True
        assert group.get("k") == group.get("other") == value
        assert group.delete_tag("a") is True
        assert group.set("k", value, tags=["a"]) is True
        assert (group.get("k"), group.get("other")) == (value, None)
        assert group.delete_tag("a") is True
        assert group.get("k") is None


def test_set_without_tags_leaves_none_also_with_terms(node: Node) -> None:
    group: Any = node.group("g", ttl="1m")
    terms: dict[str, Any] = {"keep": {"ttl": KEEP}, "present": {"if_present": True}, "plain": {}}
    for key, options in terms.items():
        group.set(key, b"1", tags="a")
        assert group.set(key, b"2", **options) is True
        group.delete_tag("a")
        assert group.get(key) == b"2", key
        assert group.set(key, b"3", tags="a", **options) is True
        group.delete_tag("a")
        assert group.get(key) is None, key
    group.set("v", b"1", tags="a")
    entry = group.get_entry("v")
    assert entry is not None
    assert group.set("v", b"2", if_version=entry.version, tags="b") is True
    group.delete_tag("a")
    assert group.get("v") == b"2"
    group.delete_tag("b")
    assert group.get("v") is None


# Beside the primitives.


@pytest.mark.parametrize("way", WAYS)
def test_integers_keep_their_tags(node: Node, clock: Clock, way: str) -> None:
    group: Any = node.group("g", codec="json", ttl="1m")
    group.set("n", 5, tags="a", ttl=30)
    assert call(way, group, "incr", "n") == 6
    assert call(way, group, "incr", "n", 4) == 10
    assert (group.get("n"), group.ttl("n")) == (10, 30)
    assert call(way, group, "touch", "n", 50) is True
    clock.advance(31)
    assert group.get("n") == 10
    group.delete_tag("a")
    assert is_gone(group, "n")
    with pytest.raises(KeyError):
        group.incr("n")
    assert call(way, group, "incr", "n", initial=0) == 1
    group.delete_tag("a")
    assert group.get("n") == 1, "it was new: it has no tags"


@pytest.mark.parametrize("codec", ["bytes", "text"])
def test_digits_under_tags_are_integers(node: Node, codec: Any) -> None:
    group: Any = node.group("g", codec=codec)
    group.set("n", b"41" if codec == "bytes" else "41", tags=["a", "b"])
    assert group.incr("n") == 42
    assert group.get("n") == group.get_entry("n").value == 42
    group.set("words", b"x" if codec == "bytes" else "x", tags="a")
    with pytest.raises(TypeError, match="not an integer"):
        group.incr("words")
    assert group.pop("n") == 42


@pytest.mark.parametrize("way", WAYS)
def test_for_primitives_a_value_whose_tag_was_deleted_is_absent(node: Node, way: str) -> None:
    group = node.group("g", ttl="1m", codec="text")
    keys = ["add", "touch", "pop", "remove", "present", "keep", "version", "contains", "lock"]
    group.set_many(dict.fromkeys(keys, "old"), tags="a", ttl=10)
    version = group.get_entry("version")
    assert version is not None
    group.delete_tag("a")
    assert call(way, group, "touch", "touch", None) is False
    assert call(way, group, "pop", "pop", "default") == "default"
    assert tuple(call(way, group, "remove", "remove")) == (False, True)
    assert call(way, group, "set", "present", "new", if_present=True) is False
    assert call(way, group, "set", "keep", "new", ttl=KEEP) is True
    assert group.ttl("keep") == 60, "there was nothing to keep"
    with pytest.raises(Conflict):
        call(way, group, "set", "version", "new", if_version=version.version)
    assert call(way, group, "contains", "contains") is False
    assert call(way, group, "add", "add", "new") is True
    assert call(way, group, "add", "add", "newer") is False
    group.delete_tag("a")
    assert group.get("add") == "new", "it was new: it has no tags"
    assert set(group.keys()) == {"add", "keep"}


def test_touch_keeps_tags_for_ever(node: Node, clock: Clock) -> None:
    group = node.group("g", ttl="1m")
    group.set("k", b"x", tags="a")
    assert group.touch("k", None) is True
    clock.advance(1e6)
    assert (group.get("k"), group.ttl("k")) == (b"x", math.inf)
    group.delete_tag("a")
    assert is_gone(group, "k")


def test_keys_of_other_types(node: Node) -> None:
    group: Any = node.group("g", lambda key: Value(str(key), tags=f"of:{key}"), codec="text", key_codec="auto")
    one = uuid.uuid4()
    keys = ["7", 7, one, (7, "a")]
    assert group.get_many(keys) == {key: str(key) for key in keys}
    for key in keys:
        group.set((key, "set"), "set", tags=["set", f"of:{key}"])
    assert group.delete_tag("of:7") is True
    assert [group.peek(key) for key in keys] == [None, None, str(one), "(7, 'a')"]
    assert group.peek((one, "set")) == "set"
    assert group.delete_tag("set") is True
    assert [group.peek((key, "set")) for key in keys] == [None] * 4
    with pytest.raises(TypeError):
        group.delete_tag(7)


# Bad input.


@pytest.mark.parametrize("tags", [7, None, [7], ["a", None], [b"a"], b"a", object(), {"a": 1}.values()])
def test_tags_that_are_no_texts(node: Node, tags: Any) -> None:
    group: Any = node.group("g", lambda _: Value(b"x", tags=tags))
    for bad in (
        lambda: group.set("k", b"x", tags=tags),
        lambda: group.set_many({"k": b"x"}, tags=tags),
        lambda: call("async", group, "set", "k", b"x", tags=tags),
        lambda: call("async", group, "set_many", {"k": b"x"}, tags=tags),
        lambda: group.set("k", b"x", tags=tags, wait=False),
        lambda: Value(b"x", tags=tags),
    ):
        with pytest.raises(TypeError, match="tag"):
            bad()
    assert group.peek("k") is None
    with pytest.raises(LoadError):
        group.get("k")


@pytest.mark.parametrize(
    "tags", ["", ["a", ""], "x" * 1025, "é" * 513, [str(number) for number in range(65)], "\ud800"]
)
def test_tags_that_cannot_be(node: Node, tags: Any) -> None:
    group = node.group("g")
    for bad in (
        lambda: group.set("k", b"x", tags=tags),
        lambda: group.set_many({"k": b"x"}, tags=tags),
        lambda: Value(b"x", tags=tags),
    ):
        with pytest.raises(InvalidKey, match="tag"):
            bad()
    assert group.peek("k") is None


@pytest.mark.parametrize("way", WAYS)
def test_bad_arguments_of_deletes(node: Node, way: str) -> None:
    group = node.group("g")
    group.set("k", b"x", tags="a")
    whole: Any = node
    for method in ("delete_tag", "delete_prefix"):
        for bad in (7, None, b"a", ["a"]):
            with pytest.raises(TypeError, match=method.removeprefix("delete_")):
                call(way, group, method, bad)
        with pytest.raises(InvalidKey, match=method.removeprefix("delete_")):
            call(way, group, method, "")
        with pytest.raises(InvalidKey):
            call(way, group, method, "\ud800")
    with pytest.raises(InvalidKey):
        call(way, group, "delete_tag", "x" * 1025)
    with pytest.raises(InvalidKey):
        call(way, group, "delete_prefix", "x" * 65_537)
    for bad in (7, None, b"a", ["a"]):
        with pytest.raises(TypeError, match="tag"):
            call(way, whole, "delete_tag", bad)
    with pytest.raises(InvalidKey):
        call(way, whole, "delete_tag", "")
    assert group.get("k") == b"x"


def test_the_most_that_is_allowed(node: Node) -> None:
    group = node.group("g")
    tags = [f"{number}" + "é" * 511 for number in range(10, 64 + 10)]
    assert group.set("k", b"x", tags=tags) is True
    assert group.set("twice", b"x", tags=["a"] * 40 + ["b"] * 40) is True, "one is one"
    assert group.get("k") == b"x"
    assert group.delete_tag(tags[-1]) is True
    assert group.get("k") is None
    assert group.delete_tag("a") is True
    assert group.get("twice") is None


@pytest.mark.parametrize("tags", [("a", "b"), {"a", "b"}, frozenset("ab"), dict.fromkeys("ab"), iter("ab")])
def test_any_iterable_of_texts(node: Node, tags: Iterable[str]) -> None:
    group = node.group("g")
    assert group.set("k", b"x", tags=tags) is True
    group.delete_tag("b")
    assert group.get("k") is None


def test_texts_that_differ_little_are_different_tags(node: Node) -> None:
    group = node.group("g")
    tags = ["a", "A", "a ", "ä", "a\u0308", "a\0", "\0a", "a,b", "b", "*", "a*", "a\n"]
    for number, tag in enumerate(tags):
        group.set(str(number), b"x", tags=tag)
    for number, tag in enumerate(tags):
        assert group.get(str(number)) == b"x"
        group.delete_tag(tag)
        assert group.get(str(number)) is None


def test_a_tag_and_a_key_and_a_prefix_of_one_text(node: Node) -> None:
    group = node.group("g", lambda key: Value(key.encode(), tags="same"))
    assert group.get("same") == b"same"
    assert group.get("same2") == b"same2"
    assert group.set("same", b"bare") is True
    assert group.delete_tag("same") is True
    assert (group.peek("same"), group.peek("same2")) == (b"bare", None)
    assert group.delete("same") is True
    group.get("same2")
    assert group.peek("same2") == b"same2"
    assert group.delete_prefix("same") is True
    assert group.peek("same2") is None


def test_values_that_are_too_large_with_their_tags(node: Node) -> None:
    group = node.group("g", max_bytes="64 KiB")
    tags = ["x" * 1000 + str(number) for number in range(20)]
    with pytest.raises(ValueTooLarge):
        group.set("k", b"x", tags=tags)
    assert group.set("k", b"x", tags=tags, strict=False) is False
    assert group.peek("k") is None


# Cached functions.


class Shop:
    """Cached functions of all kinds, which count their runs."""

    def __init__(self, node: Node) -> None:
        self.runs: Counter[str] = Counter()
        runs = self.runs

        @node.cached(ttl="10m", tags="user:{user_id}")
        def plain(user_id: int, lang: str = "en") -> str:
            runs["plain"] += 1
            return f"{user_id} {lang}"

        @node.cached(ttl="10m", tags=["user:{user_id}", "lang:{lang}"])
        async def coroutine(user_id: int, lang: str = "en") -> str:
            runs["coroutine"] += 1
            return f"{user_id} {lang}"

        def by_result(result: str, user_id: int, lang: str = "en") -> list[str]:
            return [f"result:{result}", f"user:{user_id}", f"lang:{lang}"]

        @node.cached(tags=by_result)
        def called(user_id: int, lang: str = "en") -> str:
            runs["called"] += 1
            return f"{user_id} {lang}"

        @node.cached
        def valued(user_id: int) -> Any:
            runs["valued"] += 1
            return Value(b"%d" % user_id, tags=f"user:{user_id}")

        @node.cached(tags=["all", "user:{user_id}"])
        def both(user_id: int) -> Any:
            runs["both"] += 1
            return Value(b"%d" % user_id, tags="from the value")

        class Class:
            @node.cached(ignore=("self",), tags="user:{user_id}")
            def method(self, user_id: int) -> str:
                runs["method"] += 1
                return str(user_id)

            @classmethod
            @node.cached(tags="user:{user_id}")
            def of_class(cls, user_id: int) -> str:
                runs["of_class"] += 1
                return str(user_id)

            @staticmethod
            @node.cached(tags="user:{user_id}")
            async def static(user_id: int) -> str:
                runs["static"] += 1
                return str(user_id)

        made = Class()
        self.plain, self.coroutine, self.called, self.valued, self.both = plain, coroutine, called, valued, both
        self.functions: dict[str, Any] = {
            "plain": plain,
            "coroutine": coroutine,
            "called": called,
            "valued": valued,
            "both": both,
            "method": made.method,
            "of_class": Class.of_class,
            "static": made.static,
        }

    def __call__(self, name: str, *arguments: Any) -> Any:
        return done(self.functions[name](*arguments))


def done(result: Any) -> Any:
    """Return what a call returns, also one of an async function."""

    async def main() -> Any:
        return await result

    return asyncio.run(main()) if inspect.isawaitable(result) else result


@pytest.mark.parametrize("name", ["plain", "coroutine", "called", "valued", "both", "method", "of_class", "static"])
@pytest.mark.parametrize("way", WAYS)
def test_results_of_functions_have_tags(node: Node, name: str, way: str) -> None:
    shop, whole = Shop(node), cast("Any", node)
    for user in (7, 7, 8, 8):
        shop(name, user)
    assert shop.runs == {name: 2}
    assert call(way, whole, "delete_tag", "user:7") is True
    shop(name, 8)
    assert shop.runs == {name: 2}
    value = shop(name, 7)
    assert shop.runs == {name: 3}
    assert shop(name, 7) == value
    assert shop.runs == {name: 3}


def test_templates_are_filled_with_defaults(node: Node) -> None:
    shop = Shop(node)
    for name in ("coroutine", "called"):
        shop(name, 7), shop(name, 8, "de")
        node.delete_tag("lang:en")
        shop(name, 7), shop(name, 8, "de")
        assert shop.runs[name] == 3
    shop("called", 9)
    node.delete_tag("result:9 en")
    shop("called", 9)
    assert shop.runs["called"] == 5


def test_tags_of_the_value_count_beside_those_of_the_function(node: Node) -> None:
    shop = Shop(node)
    for number, tag in enumerate(["from the value", "user:7", "all"], 2):
        shop("both", 7)
        node.delete_tag(tag)
        shop("both", 7)
        assert shop.runs["both"] == number


@pytest.mark.parametrize("name", ["plain", "coroutine", "called"])
@pytest.mark.parametrize("how", ["set", "refresh", "many"])
def test_set_refresh_and_many_of_functions_give_the_tags(node: Node, name: str, how: str) -> None:
    shop = Shop(node)
    function = shop.functions[name]
    match how:
        case "set":
            done(function.set("7 en", 7)), done(function.set("8 en", 8))
        case "refresh":
            assert [done(function.refresh(7)), done(function.refresh(8))] == ["7 en", "8 en"]
        case "many":
            assert done(function.many([(7,), (8,)])) == ["7 en", "8 en"]
    before = shop.runs[name]
    assert [shop(name, 7), shop(name, 8)] == ["7 en", "8 en"]
    assert shop.runs[name] == before
    node.delete_tag("user:7")
    assert [shop(name, 7), shop(name, 8)] == ["7 en", "8 en"]
    assert shop.runs[name] == before + 1


@pytest.mark.parametrize("bad", [7, ["user:{nobody}"], "user:{nobody}", [7], ""])
def test_templates_that_cannot_be(node: Node, bad: Any) -> None:
    with pytest.raises((ConfigError, TypeError, InvalidKey), match=r"tag|nobody"):

        @node.cached(tags=bad)
        def function(user_id: int) -> str:
            return str(user_id)


def test_a_result_of_none_has_the_tags_of_templates(node: Node) -> None:
    """Delete None as any other result, unless it is kept as an absence: by an option, or where tags come of results."""
    runs: Counter[str] = Counter()

    @node.cached(tags="user:{user_id}")
    def value(user_id: int) -> str | None:
        runs["value"] += 1
        return None

    @node.cached(tags="user:{user_id}", cache_none=False)
    def absence(user_id: int) -> str | None:
        runs["absence"] += 1
        return None

    @node.cached(tags=lambda result, *_: f"len:{len(result)}")
    def by_result(user_id: int) -> str | None:
        runs["by_result"] += 1
        return None

    functions: list[Any] = [value, absence, by_result]
    for _ in range(2):
        assert [function(7) for function in functions] == [None] * 3
    assert runs == {"value": 1, "absence": 1, "by_result": 1}
    node.delete_tag("user:7")
    assert [function(7) for function in functions] == [None] * 3
    assert runs == {"value": 2, "absence": 1, "by_result": 1}


def test_a_callable_that_raises_or_returns_nonsense(node: Node) -> None:
    bad: Any = None

    def tags(*_: Any) -> Any:
        if isinstance(bad, Exception):
            raise bad
        return bad

    @node.cached(tags=tags)
    def function(user_id: int) -> str:
        return str(user_id)

    for case, raised in [(ZeroDivisionError(), ZeroDivisionError), (7, TypeError), ([7], TypeError), ("", InvalidKey)]:
        bad = case
        with pytest.raises(raised):
            function(7)
    bad = "fine"
    assert function(7) == "7"


# Old values, failures, ends.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("window", ["stale_while_revalidate", "stale_if_error", "refresh_after"])
def test_an_old_value_whose_tag_was_deleted_is_never_answered(node: Node, clock: Clock, window: Any, way: str) -> None:
    down, value = False, b"old"

    def load(_: str) -> Value[bytes]:
        if down:
            raise ConnectionError("the database is down")
        return Value(value, tags="a", ttl=10)

    options: Any = {"ttl": "1h", "refresh_after": 5} if window == "refresh_after" else {window: 1000}
    group = node.group("g", load, **options)
    assert call(way, group, "get", "k") == b"old"
    clock.advance(6 if window == "refresh_after" else 11)
    value, down = b"new", window == "stale_if_error"
    if window == "stale_if_error":
        assert call(way, group, "get", "k") == b"old"
    clock.advance(0.5)
    assert group.delete_tag("a") is True
    assert group.get_entry("k") is group.peek("k") is None
    if down:
        for method in ("get", "get_many"):
            with pytest.raises(LoadError):
                call(way, group, method, "k" if method == "get" else ["k"])
        down = False
    assert call(way, group, "get", "k") == b"new"


def test_a_tag_is_deleted_while_the_old_value_is_answered_and_one_load_runs(node: Node, clock: Clock) -> None:
    """Begin the load of an old value in the background; delete its tag; the next get waits for a load of its own."""
    held = Held(lambda _: Value(b"new", tags="a"))
    group: Any = node.group("g", held, ttl=10, stale_while_revalidate=1000)
    group.set("k", b"old", tags="a", ttl=10)
    clock.advance(11)
    assert group.get("k") == b"old"
    held.wait_begun()
    assert group.delete_tag("a") is True
    caller = waiting(group.get, "k")
    held.wait_begun()
    held.go.set()
    assert caller.result() == b"new"
    assert held.calls == {"k": 2}


def test_failures_and_absences(node: Node, clock: Clock) -> None:
    answer: Any = ConnectionError("down")
    loads: list[str] = []

    def load(key: str) -> Any:
        loads.append(key)
        if isinstance(answer, Exception):
            raise answer
        return answer

    group = node.group("g", load, error_ttl=60, negative_ttl=60)
    for _ in range(2):
        with pytest.raises(LoadError):
            group.get("fails")
    assert group.delete_tag("a") is True
    with pytest.raises(LoadError):
        group.get("fails")
    assert loads == ["fails"], "a failure has no tags"
    answer = None
    assert group.get("absent") is group.get("absent") is None
    assert group.delete_tag("a") is True
    assert group.get("absent") is None
    assert loads == ["fails", "absent"]
    answer = Value(b"x", tags="a")
    clock.advance(61)
    assert group.get("fails") == group.get("absent") == b"x"
    assert group.delete_tag("a") is True
    assert group.peek("fails") is group.peek("absent") is None


def test_expiry_and_what_on_evict_is_told(clock: Clock) -> None:
    evicted: list[tuple[str, bytes, str]] = []
    with Node(clock=clock) as node:
        options: Any = {"on_evict": lambda key, value, reason: evicted.append((key, value, reason))}
        group = node.group("g", max_bytes="64 KiB", **options)
        group.set("short", b"short", tags="a", ttl=5)
        group.set("deleted", b"deleted", tags="b")
        clock.advance(6)
        assert group.get("short") is None
        group.delete_tag("b")
        assert group.get("deleted") is None
        until(lambda: ("short", b"short", "expired") in evicted)
        for number in range(2000):
            group.set(str(number), b"x" * 100, tags=["a", f"n{number}"])
        until(lambda: any(reason == "capacity" for _, _, reason in evicted))
        assert all(value == b"x" * 100 for _, value, reason in evicted if reason == "capacity")
        assert not [one for one in evicted if one[0] == "deleted"], "deleted is not evicted"


# Memory.


@pytest.mark.parametrize("policy", MODELS)
def test_many_tags_stay_within_the_budget(node: Node, policy: Any) -> None:
    group: Any = node.group("g", max_bytes="256 KiB", policy=policy)
    for number in range(6000):
        group.set(f"k{number}", b"x", tags=[f"tag{number}-{turn}" for turn in range(5)])
        if number % 500 == 0:
            assert group.stats().bytes <= 256 << 10
    assert group.stats().bytes <= 256 << 10
    assert 50 < group.stats().entries < 500, "tags are counted"
    kept = list(group.keys())
    for key in kept[:50]:
        group.delete_tag(f"tag{key[1:]}-3")
        assert group.get(key) is None
    assert all(group.get(key) == b"x" for key in list(group.keys())[:50])


def test_memory_of_tags_is_given_back(node: Node) -> None:
    group, twin = node.group("g", max_bytes="1 MiB"), node.group("twin", max_bytes="1 MiB")
    keys = [f"k{number}" for number in range(300)]

    def forgotten() -> int:
        """Return the bytes when the writes are no longer remembered."""
        node._clock.advance(120)
        assert node._sweeper is not None
        node._sweeper.sweep()
        return group.stats().bytes

    for key in keys:
        group.set(key, b"x", tags=[f"{key}-{turn}" for turn in range(5)])
        twin.set(key, b"x")
    tagged, bare = forgotten(), twin.stats().bytes
    assert bare + 300 * 1000 < tagged < bare + 300 * 2000
    for key in keys:
        group.set(key, b"x")
    assert forgotten() == bare
    group.set_many(dict.fromkeys(keys, b"x"), tags="shared")
    group.delete_tag("shared")
    assert [key for key in keys if group.get(key) is not None] == []
    assert (group.stats().entries, forgotten()) == (0, 0)


def test_tags_that_are_used_once_do_not_pile_up(node: Node, clock: Clock) -> None:
    """Use and delete many tags, over a long time: what is remembered is what the last writes need."""
    group: Any = node.group("g", max_bytes="1 MiB")
    sizes = []
    for turn in range(6):
        for number in range(500):
            tag = f"tag{turn}-{number}"
            group.set("k", b"x", tags=tag)
            group.delete_tag(tag)
        assert group.get("k") is None
        clock.advance(120)
        assert node._sweeper is not None
        node._sweeper.sweep()
        sizes.append(group.stats().bytes)
    assert sizes == [0] * 6


# Loads under way.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tag", ["a", "b"])
def test_a_load_under_way_is_given_but_not_kept(node: Node, tag: str, way: str) -> None:
    held = Held(lambda _: Value(b"old", tags="a"))
    group = node.group("g", held)
    first = waiting(group.get, "k")
    held.wait_begun()
    assert call(way, group, "delete_tag", tag) is True
    second = waiting(group.get, "k")
    held.wait_begun()
    held.answer = lambda _: Value(b"new", tags="a")
    held.go.set()
    assert second.result() == b"new"
    assert first.result() in {b"old", b"new"}
    assert held.calls == {"k": 2}, "none joins a load that began before a delete of any tag"
    assert group.get("k") == b"new"


def test_a_load_under_way_that_does_not_bring_the_tag_is_kept(node: Node) -> None:
    held = Held(lambda _: Value(b"x", tags="other"))
    group = node.group("g", held)
    caller = waiting(group.get, "k")
    held.wait_begun()
    assert group.delete_tag("a") is True
    held.go.set()
    assert caller.result() == b"x"
    assert group.peek("k") == b"x"


@pytest.mark.parametrize("tags", ["a", ()])
def test_a_load_under_way_in_a_task(node: Node, tags: Any) -> None:
    held = Held(lambda _: Value(b"x", tags=tags))

    async def main() -> None:
        group = node.group("g", held)
        first = asyncio.create_task(group.aget("k"))
        await begun(held)
        assert await group.adelete_tag("a") is True
        second = asyncio.create_task(group.aget("k"))
        await begun(held)
        await settled()
        held.go.set()
        assert list(await asyncio.gather(first, second)) == [b"x", b"x"]
        assert held.calls == {"k": 2}
        assert group.peek("k") == b"x", "the second load began after the delete"
        assert await group.adelete_tag("a") is True
        assert group.peek("k") == (None if tags else b"x")

    asyncio.run(main())


def test_a_function_of_a_caller_under_way(node: Node) -> None:
    group = node.group("g")
    for number in range(20):
        key = f"k{number}"

        def load(key: str) -> Value[bytes]:
            assert group.delete_tag("a") is True
            return Value(b"old", tags=["b", "a"])

        assert group.get_or_load(key, load) == b"old"
        assert group.peek(key) is None, "its tag was deleted while the function ran"
        assert group.get_many_or_load([key], lambda keys: {one: load(one) for one in keys}) == {key: b"old"}
        assert group.peek(key) is None


def test_a_cached_function_that_deletes_its_own_tag(node: Node) -> None:
    runs = []

    @node.cached(tags="user:{user_id}")
    def function(user_id: int) -> str:
        runs.append(user_id)
        if len(runs) == 1:
            assert node.delete_tag("user:7") is True
        return str(len(runs))

    assert [function(7) for _ in range(3)] == ["1", "2", "2"]


def test_a_write_behind_and_a_delete_of_its_tag_keep_their_order(node: Node) -> None:
    group = node.group("g")
    for _ in range(50):
        group.set("k", b"old", tags="a", wait=False)
        assert group.delete_tag("a") is True
        assert group.get("k") is None
        group.set("k", b"old", tags="a", wait=False)
        assert group.delete_tag("a", wait=False) is None
        assert group.get("k") is None
        group.delete_tag("a", wait=False)
        group.set("k", b"new", tags="a", wait=False)
        assert group.get("k") == b"new"


def test_hits_beside_deletes_from_many_threads(node: Node) -> None:
    """Set values that count up, delete their tag, and check in others that none is older than the last delete."""
    state = {"source": 0, "least": 0}
    group = node.group("g", lambda _: Value(b"%d" % state["source"], tags=["a", "b"]))
    wrong: list[Any] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            least = state["least"]
            value = group.get("k")
            if value is None or int(value) < least:
                wrong.append((value, least))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(1, 300):
        state["source"] = number
        assert group.delete_tag("a" if number % 2 else "b") is True
        state["least"] = number
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert wrong == []


# Nodes, prefixes, forks.


@pytest.mark.parametrize("way", WAYS)
def test_a_group_and_a_node(node: Node, way: str) -> None:
    first, second, whole = node.group("first"), node.group("second"), cast("Any", node)
    for group in (first, second):
        group.set("k", b"x", tags="a")
    assert call(way, first, "delete_tag", "a") is True
    assert (first.get("k"), second.get("k")) == (None, b"x")
    first.set("k", b"x", tags="a")
    assert call(way, whole, "delete_tag", "a") is True
    assert (first.get("k"), second.get("k")) == (None, None)


def test_a_node_without_groups() -> None:
    with Node() as node:
        assert node.delete_tag("a") is True


@pytest.mark.parametrize("way", WAYS)
def test_prefixes(node: Node, way: str) -> None:
    held = Held()
    held.go.set()
    group = node.group("g", held)
    for key in ("search:a", "search:b", "search", "searc", "other:search:"):
        group.get(key)
    group.set("search:set", b"x", tags="a")
    group.set("search:behind", b"x", wait=False)
    assert call(way, group, "delete_prefix", "search:") is True
    gone = {"search:a", "search:b", "search:set", "search:behind"}
    assert [group.peek(key) for key in sorted(gone)] == [None] * 4
    assert [group.peek(key) for key in ("search", "searc", "other:search:")] == [b"search", b"searc", b"other:search:"]
    assert group.get("search:a") == b"search:a"
    assert held.calls["search:a"] == 2
    assert group.get("search:a") == b"search:a"
    assert held.calls["search:a"] == 2, "kept again"
    group.set("search:set", b"y")
    assert group.get("search:set") == b"y"


def test_a_load_under_way_when_its_prefix_is_deleted(node: Node) -> None:
    held = Held()
    group = node.group("g", held)
    first, other = waiting(group.get, "search:a"), waiting(group.get, "other")
    held.wait_begun()
    held.wait_begun()
    assert group.delete_prefix("search:") is True
    assert first.future.done() is False
    second = waiting(group.get, "search:a")
    held.wait_begun()
    held.answer = lambda _: b"new"
    held.go.set()
    assert second.result() == b"new"
    assert other.result() == b"new"
    assert group.peek("search:a") == b"new"
    assert held.calls == {"search:a": 2, "other": 1}


def test_an_old_value_under_a_deleted_prefix(node: Node, clock: Clock) -> None:
    down = False

    def load(_: str) -> bytes:
        if down:
            raise ConnectionError
        return b"old"

    group = node.group("g", load, ttl=10, stale_if_error=1000, error_ttl=60)
    group.get("search:a")
    clock.advance(11)
    down = True
    assert group.get("search:a") == b"old"
    assert group.delete_prefix("search:") is True
    with pytest.raises(LoadError):
        group.get("search:a")
    down = False
    assert group.delete_prefix("search:") is True
    assert group.get("search:a") == b"old", "a delete ends a remembered failure"


def test_prefixes_of_other_keys(node: Node) -> None:
    group: Any = node.group("g", key_codec="auto", codec="text")
    group.set_many({"7": "text", 7: "int", ("a", 7): "tuple"})
    assert group.delete_prefix("7") is True
    assert (group.peek(7), group.peek("7"), group.peek(("a", 7))) == (None, "text", "tuple")
    assert group.delete_prefix("'7") is True
    assert (group.peek("7"), group.peek(("a", 7))) == (None, "tuple")
    assert group.delete_prefix("('a',") is True
    assert group.peek(("a", 7)) is None


def test_a_fork_has_no_values_and_may_use_tags(node: Node) -> None:
    group = node.group("g", lambda key: Value(key.encode(), tags="a"))
    assert group.get("k") == b"k"

    def child() -> bool:
        first = group.peek("k") is None and group.delete_tag("a") is True and group.get("k") == b"k"
        return first and group.delete_tag("a") is True and group.peek("k") is None

    pid = os.fork()
    if pid == 0:
        os._exit(0 if child() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert group.peek("k") == b"k"
    assert group.delete_tag("a") is True
    assert group.peek("k") is None


def test_closed_groups_refuse(node: Node) -> None:
    group = node.group("g")
    group.close()
    calls: list[Callable[[], Any]] = [
        lambda: group.delete_tag("a"),
        lambda: group.delete_prefix("a"),
        lambda: call("async", group, "delete_tag", "a"),
        lambda: call("async", group, "delete_prefix", "a"),
    ]
    for one in calls:
        with pytest.raises(Exception, match="closed") as raised:
            one()
        assert type(raised.value).__name__ == "GroupClosed"


def test_clear_and_tags(node: Node) -> None:
    group = node.group("g")
    group.set("k", b"x", tags="a")
    assert group.clear() is True
    assert group.get("k") is None
    group.set("k", b"y", tags="a")
    assert group.get("k") == b"y"
    assert group.delete_tag("a") is True
    assert group.get("k") is None


def test_value_shows_itself() -> None:
    assert "tags" not in repr(Value(b"x"))
    assert Value(b"x", tags="a") == Value(b"x", tags=["a"])
    assert Value(b"x", tags="a") != Value(b"x")
    assert "'a'" in repr(Value(b"x", tags="a"))


@pytest.mark.parametrize(
    "tags", ["tenant:{user}", lambda _, number, *, user: f"tenant:{user}"], ids=["text", "function"]
)
def test_set_of_a_function_lacks_an_argument_of_its_tags(node: Node, tags: Any) -> None:
    @node.cached(tags=tags)
    def price(number: int, *, user: Annotated[str, NotKey]) -> int:
        return number

    @node.cached(tags=tags)
    async def aprice(number: int, *, user: Annotated[str, NotKey]) -> int:
        return number

    writes: list[Callable[[], Any]] = [lambda: price.set(5, 1), lambda: asyncio.run(aprice.set(5, 1))]
    for write in writes:
        with pytest.raises(TypeError, match=r"^tags=: .*'user'; pass set every argument"):
            write()
    assert price.set(5, 1, user="a") is True
    assert price(1, user="b") == 5
    with pytest.raises(TypeError, match=r"^(?!tags=)"):
        price.set(5)
