"""Primitives of a node alone: what they return, raise and keep, under every codec."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

import kamacache
from kamacache import KEEP, Clock, Conflict, LockTaken, Node, Value, ValueTooLarge
from kamacache.errors import ConfigError, InvalidKey
from kamacache.tags import key_of
from tests.cluster.cluster import wait_until

VALUES: dict[str, Any] = {"bytes": b"x", "text": "x", "json": {"a": 1}, "msgpack": [1]}
FIVE: dict[str, Any] = {"bytes": b"5", "text": "5", "json": 5, "msgpack": 5}


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True, unix=1000.0)


@pytest.fixture
def node(clock: Clock) -> Iterator[Node]:
    with Node(registry=None, clock=clock) as node:
        yield node


def codec_group(node: Node, codec: str) -> Any:
    if codec == "msgpack":
        pytest.importorskip("msgpack")
    return node.group(codec, codec=codec, ttl="1m")  # type: ignore[call-overload]


def test_add_takes_the_place_of_nothing_alone(node: Node, clock: Clock) -> None:
    absent = {"gone"}
    group = node.group("g", lambda key: None if key in absent else b"loaded", negative_ttl="1h")
    assert group.add("k", b"1", ttl=10) is True
    assert group.add("k", b"2") is False
    assert group.get("k") == b"1"
    clock.advance(11)
    assert group.add("k", b"3") is True, "it has expired"
    assert group.get("gone") is None
    assert group.add("gone", b"4") is True, "known to be absent"
    assert group.get("gone") == b"4"
    assert group.get("other") == b"loaded"
    assert group.add("other", b"5") is False
    with pytest.raises(InvalidKey):
        group.add("", b"")


def test_load_under_way_does_not_overwrite_what_was_added(node: Node) -> None:
    def load(key: str) -> bytes:
        assert group.add(key, b"added")
        return b"loaded"

    group = node.group("g", load)
    group.get("k")
    assert group.get("k") == b"added"


class Number(int):
    """An integer of a class of its own."""


@pytest.mark.parametrize("delta", [0.5, 1.0, "1", None, Decimal(1), b"1", [1], math.nan])
def test_incr_by_what_is_no_integer(node: Node, delta: Any) -> None:
    group = node.group("n", codec="json")
    group.set("n", 1)
    with pytest.raises(TypeError, match=r"^delta=.*: must be an int$"):
        group.incr("n", delta)
    with pytest.raises(TypeError, match=r"^initial=.*: must be an int$"):
        group.incr("none", 1, 0.5)  # type: ignore[arg-type]
    assert group.incr("n", Number(2), Number(7)) == 3
    assert group.incr("n", True) == 4


@pytest.mark.parametrize("codec", VALUES)
def test_incr_is_an_int_under_every_codec(node: Node, codec: str) -> None:
    group = codec_group(node, codec)
    assert group.incr("n", initial=5, delta=2) == 7
    assert group.get("n") == 7
    assert type(group.get("n")) is int
    assert group.get_many(["n"]) == {"n": 7}
    assert group.incr("n", -8) == -1
    group.set("five", FIVE[codec], ttl=30)
    assert group.incr("five") == 6
    assert group.incr("five") == 7
    assert group.get("five") == 7
    assert group.ttl("five") == 30, "the remaining time"
    group.set("text", VALUES[codec])
    with pytest.raises(TypeError, match="not an integer"):
        group.incr("text")
    with pytest.raises(KeyError):
        group.incr("none")


def test_sum_that_does_not_fit_changes_nothing(node: Node) -> None:
    group: Any = node.group("g", codec="text")
    most = (1 << 63) - 1
    assert group.incr("n", initial=most, delta=0) == most
    group.set("digits", str(most))
    for key in ("n", "digits"):
        with pytest.raises(OverflowError):
            group.incr(key)
    with pytest.raises(OverflowError):
        group.incr("n", 1 << 63)
    assert group.get("n") == most
    assert group.get("digits") == str(most)


@pytest.mark.parametrize("value", [b"\xc1i7", b"\xc1", b"\xc1r", b"\xc1rx", b""])
def test_bytes_that_look_like_something_else_stay_what_they_are(node: Node, value: bytes) -> None:
    group = node.group("g", lambda _: value)
    assert group.get("loaded") == value
    assert group.get("loaded") == value
    group.set("k", value)
    assert group.get("k") == value
    assert group.get_many(["k", "loaded", "third"]) == dict.fromkeys(["k", "loaded", "third"], value)
    assert group.pop("k") == value


def test_set_on_conditions(node: Node) -> None:
    group = node.group("g", codec="text", ttl="1m", max_bytes="64 KiB")
    assert group.set("k", "1", if_present=True) is False
    assert group.get_entry("k") is None
    group.set("k", "1", ttl=20)
    assert group.set("k", "2", if_present=True, ttl=KEEP) is True
    assert (group.get("k"), group.ttl("k")) == ("2", 20)
    assert group.set("new", "1", ttl=KEEP) is True
    assert group.ttl("new") == 60, "there was nothing to keep"
    entry = group.get_entry("k")
    assert entry is not None
    assert (entry.value, entry.ttl, entry.stale, entry.source) == ("2", 20, False, "main")
    assert group.set("k", "3", if_version=entry.version) is True
    with pytest.raises(Conflict):
        group.set("k", "4", if_version=entry.version)
    with pytest.raises(Conflict):
        group.remove("k", if_version=entry.version)
    with pytest.raises(Conflict):
        group.set("absent", "4", if_version=entry.version)
    assert group.get("k") == "3"
    with pytest.raises(ConfigError):
        group.set("k", "5", ttl=KEEP, wait=False)  # type: ignore[call-overload]
    with pytest.raises(ValueTooLarge):
        group.set("k", "x" * 10_000)
    assert group.set("k", "x" * 10_000, strict=False) is False
    assert group.get("k") == "3"


def test_keys_and_delete_prefix_say_what_is_wrong_with_a_prefix(node: Node) -> None:
    group = node.group("g")
    group.set("k", b"1")
    assert list(group.keys("k")) == ["k"]
    for call in (group.keys, group.delete_prefix):
        with pytest.raises(InvalidKey, match=r"lone surrogates: '\\ud800'$"):
            call("\ud800")


def test_an_old_value_has_the_version_that_its_reader_was_told(node: Node, clock: Clock) -> None:
    """Replace and remove it by that version, as long as it may be answered; a loop of get_entry and set ends."""
    group = node.group("g", ttl=10, stale_while_revalidate=20, stale_if_error=30)
    group.set("k", b"1")
    clock.advance(15)
    entry = group.get_entry("k")
    assert entry is not None
    assert entry.stale
    assert group.set("k", b"2", if_version=entry.version, ttl=KEEP) is True
    new = group.get_entry("k")
    assert new is not None
    assert (new.value, new.stale, new.ttl) == (b"2", False, 10), "a ttl that is over is not kept"
    with pytest.raises(Conflict):
        group.set("k", b"3", if_version=entry.version)
    clock.advance(25)
    assert group.add("k", b"3") is True, "for all else it is gone"
    clock.advance(35)
    old = group.get_entry("k")
    assert old is not None
    assert group.remove("k", if_version=old.version)
    assert group.get_entry("k") is None
    group.set("k", b"4")
    last = group.get_entry("k")
    assert last is not None
    clock.advance(41)
    with pytest.raises(Conflict):
        group.set("k", b"5", if_version=last.version)


@pytest.mark.parametrize("seconds", [0, 100])
@pytest.mark.parametrize("kind", ["loaded", "set"])
@pytest.mark.parametrize("drop", ["delete", "delete_tag", "delete_prefix", "clear", "remove", "pop"])
def test_what_is_loaded_after_a_delete_has_another_version(
    node: Node, clock: Clock, drop: str, kind: str, seconds: float
) -> None:
    """Refuse the version from before, also when the delete itself is remembered no more."""
    values = iter(["old", "new", "newest"])
    group = node.group("g", lambda _: Value(next(values), tags="tag"), codec="text")
    if kind == "loaded":
        group.get("key")
    else:
        group.set("key", next(values), tags="tag")
    entry = group.get_entry("key")
    arguments = {"delete_tag": ("tag",), "delete_prefix": ("k",), "clear": ()}.get(drop, ("key",))
    getattr(group, drop)(*arguments)
    clock.advance(seconds)
    if seconds and drop != "clear":
        written = key_of("tag") if drop == "delete_tag" else "key"
        wait_until(lambda: not group._core.store.known(written))
    assert group.get("key") == "new"
    assert entry is not None
    with pytest.raises(Conflict):
        group.set("key", "late", if_version=entry.version)
    with pytest.raises(Conflict):
        group.remove("key", if_version=entry.version)
    now = group.get_entry("key")
    assert now is not None
    assert now.value == "new"
    assert group.set("key", "last", if_version=now.version) is True


@pytest.mark.parametrize("ttl", [0, -1, "0s"])
def test_time_that_is_over_keeps_nothing(node: Node, ttl: Any) -> None:
    group = node.group("g")
    group.set("k", b"old")
    assert group.set("k", b"v", ttl=ttl) is True
    assert group.get("k") is None
    assert group.add("k", b"v", ttl=ttl) is True
    assert group.get("k") is None
    group.set("k", b"v")
    assert group.touch("k", ttl) is True
    assert group.get("k") is None


def test_touch_pop_and_remove(node: Node, clock: Clock) -> None:
    group: Any = node.group("g", codec="json", ttl="1m")
    group.set("k", [1])
    assert group.touch("k", None) is True
    assert group.ttl("k") == math.inf
    assert group.touch("k", "5s") is True
    assert group.ttl("k") == 5
    assert "k" in group
    assert group.get("k") == [1]
    clock.advance(6)
    assert "k" not in group
    assert group.ttl("k") is None
    assert group.touch("k", 1) is False
    assert group.pop("k") is None
    assert group.pop("k", "default") == "default"
    group.set("k", [2])
    assert group.pop("k") == [2]
    assert group.remove("k") == (False, True)
    group.set("k", [3])
    assert group.remove("k") == kamacache.Removed(existed=True, confirmed=True)
    for is_in in (group.contains, group.__contains__):
        with pytest.raises(InvalidKey):
            is_in(5)


def test_keys_of_this_node(node: Node, clock: Clock) -> None:
    group = node.group("g", lambda _: None, negative_ttl="1h")
    for key in ("user:1", "user:2", "other"):
        group.set(key, b"", ttl=5)
    group.get("absent")
    assert set(group.keys("user:")) == {"user:1", "user:2"}
    assert len(group) == 3
    clock.advance(6)
    assert list(group.keys()) == []
    assert len(group) == 0
    assert group, "an empty group is a group"


@pytest.mark.parametrize(
    ("version", "kind"),
    [("1", TypeError), (1.0, TypeError), (True, TypeError), (-1, ValueError), (1 << 128, ValueError)],
)
def test_what_is_no_version(node: Node, version: Any, kind: type[Exception]) -> None:
    group = node.group("n", codec="json")
    group.set("n", 1)
    with pytest.raises(kind, match=r"^if_version="):
        group.set("n", 2, if_version=version)
    with pytest.raises(kind, match=r"^if_version="):
        group.remove("n", if_version=version)
    assert group.get("n") == 1


def test_only_set_and_incr_keep_a_time(node: Node) -> None:
    group = node.group("n", codec="json", ttl="1h")
    group.set("n", 1, ttl=5)
    for call in (
        lambda: group.set_many({"n": 2}, ttl=KEEP),  # type: ignore[call-overload]
        lambda: group.touch("n", KEEP),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match="ttl=KEEP"):
            call()
    assert group.set("n", 3, ttl=KEEP)
    assert group.incr("n", ttl=KEEP) == 4  # type: ignore[arg-type]
    assert (group.ttl("n") or 0) <= 5


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("is_taken", [False, True])
def test_a_cancelled_caller_leaves_no_lock(node: Node, turns: int, is_taken: bool) -> None:
    group = node.group("n")

    async def main() -> None:
        first = group.lock("k")
        if is_taken:
            await first.__aenter__()

        async def take() -> None:
            async with group.lock("k", lease="1h", wait="1h"):
                await asyncio.sleep(3600)

        waiting = asyncio.create_task(take())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        if is_taken:
            await first.__aexit__(None, None, None)
        until = asyncio.get_running_loop().time() + 10
        async with group.lock("k", wait="10s"):
            assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.2)
        assert "k" not in group

    asyncio.run(main())


def test_lock_is_held_once(node: Node, clock: Clock) -> None:
    group: Any = node.group("g", codec="json")
    with group.lock("k"):
        with pytest.raises(LockTaken), group.lock("k"):
            raise AssertionError
        with pytest.raises(LockTaken), group.lock("k", wait="20ms"):
            raise AssertionError
    with group.lock("k", lease="5s"):
        clock.advance(6)
        with group.lock("k"):
            pass  # the lease had ended
    lock = group.lock("k")
    with lock:
        clock.advance(20)
        with group.lock("k", lease="1h"):
            lock._run(lock._release())  # its own lease has ended: it leaves the other one alone
            assert "k" in group
    with pytest.raises(ZeroDivisionError), group.lock("k"):
        raise ZeroDivisionError
    assert "k" not in group


def test_twins_for_asyncio(node: Node) -> None:
    group = node.group("g", codec="text")

    async def main() -> None:
        assert await group.aadd("k", "1")
        assert not await group.aadd("k", "2")
        assert await group.aincr("k") == 2
        assert await group.atouch("k", 9)
        assert await group.attl("k") == 9
        assert await group.acontains("k")
        entry = await group.aget_entry("k")
        assert entry is not None
        assert await group.aset("k", "3", if_version=entry.version, ttl=KEEP)
        assert await group.apop("k") == "3"
        assert await group.aremove("k") == (False, True)
        assert await group.apop("k", 0) == 0
        async with group.lock("k"):
            with pytest.raises(LockTaken):
                async with group.lock("k", wait=0.01):
                    raise AssertionError

    asyncio.run(main())
