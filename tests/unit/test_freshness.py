"""Old values and remembered failures on a node alone: when they are the answer, and which loads begin."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kamacache import Clock, ConfigError, Group, LoadError, Node, Value
from tests.unit.groups import WAYS, AsyncHeld, Caller, Held, call, until


class Source:
    """A loader, plain or async, whose values tell how often their key was loaded; `down` makes it fail."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.down = False
        self.values: list[Any] = []  # that come first

    def load(self, key: str) -> bytes:
        self.calls[key] += 1
        if self.down:
            raise ConnectionError("the database is down")
        if self.values:
            value: bytes = self.values.pop(0)
            return value
        return b"%s %d" % (key.encode(), self.calls[key])

    async def aload(self, key: str) -> bytes:
        return self.load(key)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def make(node: Node, source: Source, way: str) -> Iterator[Callable[..., Group[bytes]]]:
    def make(**options: Any) -> Group[bytes]:
        return node.group("g", source.aload if way == "async" else source.load, jitter=0, **options)

    yield make
    node.close()


def test_an_older_value_is_answered_and_loaded_anew(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str
) -> None:
    group = make(ttl="10m", refresh_after="8m")
    assert call(way, group, "get", "k") == b"k 1"
    clock.advance(479)
    assert call(way, group, "get", "k") == b"k 1"
    assert source.calls["k"] == 1
    clock.advance(1)
    assert call(way, group, "get", "k") == b"k 1"
    until(lambda: source.calls["k"] == 2)
    until(lambda: call(way, group, "get", "k") == b"k 2")
    clock.advance(479)
    assert call(way, group, "get", "k") == b"k 2"
    assert source.calls["k"] == 2


def test_a_batch_does_the_same(make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str) -> None:
    group = make(ttl="10m", refresh_after="8m")
    assert call(way, group, "get_many", ["a", "b"]) == {"a": b"a 1", "b": b"b 1"}
    clock.advance(500)
    assert call(way, group, "get_many", ["a", "b", "c"]) == {"a": b"a 1", "b": b"b 1", "c": b"c 1"}
    until(lambda: source.calls["a"] == source.calls["b"] == 2)


def test_stale_while_it_is_loaded_anew(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str
) -> None:
    group = make(ttl=10, stale_while_revalidate=30)
    call(way, group, "get", "k")
    clock.advance(39)
    assert call(way, group, "get", "k") == b"k 1"
    assert group.stats().stale == 1
    until(lambda: call(way, group, "get", "k") == b"k 2")
    clock.advance(40)
    assert call(way, group, "get", "k") == b"k 3"


def test_stale_if_the_load_fails(make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str) -> None:
    group = make(ttl=10, stale_if_error="1h")
    call(way, group, "get", "k")
    source.down = True
    clock.advance(10)
    assert call(way, group, "get", "k") == b"k 1"
    assert call(way, group, "get_many", ["k"]) == {"k": b"k 1"}
    assert source.calls["k"] == 3
    clock.advance(3600)
    with pytest.raises(LoadError):
        call(way, group, "get", "k")
    source.down = False
    assert call(way, group, "get", "k") == b"k 5"


@pytest.mark.parametrize("unkept", [Value(b"new", ttl=0), b"n" * 2000, None])
@pytest.mark.parametrize("options", [{"stale_if_error": "1h"}, {"stale_while_revalidate": "1h"}, {"refresh_after": 5}])
def test_a_loaded_value_that_is_not_kept_ends_the_old_one(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str, options: dict[str, Any], unkept: Any
) -> None:
    group = make(ttl=10, negative_ttl=0, max_bytes="8 KiB", **options)
    new = b"new" if isinstance(unkept, Value) else unkept
    source.values = [b"old", unkept, unkept]
    assert call(way, group, "get", "k") == b"old"
    clock.advance(6 if "refresh_after" in options else 11)
    until(lambda: call(way, group, "get", "k") == new)
    source.down = True
    clock.advance(1)
    with pytest.raises(LoadError):
        call(way, group, "get", "k")


@pytest.mark.parametrize("options", [{"stale_if_error": "1h"}, {"stale_while_revalidate": "1h"}, {"refresh_after": 5}])
def test_a_failure_that_no_caller_sees_is_logged(
    make: Callable[..., Group[bytes]],
    source: Source,
    clock: Clock,
    way: str,
    options: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Log the traceback once, however often it happens in ten seconds."""
    group = make(ttl=10, **options)
    call(way, group, "get", "k")
    assert caplog.records == []
    source.down = True
    clock.advance(5 if "refresh_after" in options else 10)
    until(lambda: call(way, group, "get", "k") == b"k 1" and source.calls["k"] > 1)
    until(lambda: bool(caplog.records))
    clock.advance(2)
    until(lambda: call(way, group, "get", "k") == b"k 1" and source.calls["k"] > 2)
    (record,) = caplog.records
    assert (record.group, record.key, record.error_type) == ("g", "k", "ConnectionError")  # type: ignore[attr-defined]
    assert "callers get the old value" in record.getMessage()
    assert record.exc_info is not None


def test_a_failure_is_remembered_and_doubles(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str
) -> None:
    group = make(error_ttl=2)
    source.down = True
    waits = [2, 4, 8, 16, 32, 64, 64]
    for number, wait in enumerate(waits, 1):
        for _ in range(3):
            with pytest.raises(LoadError) as caught:
                call(way, group, "get", "k")
            assert caught.value.cause_type == "ConnectionError"
        (note,) = caught.value.__notes__  # of a remembered failure
        assert note.startswith("The loader ran in another process, or for an earlier call:")
        assert "ConnectionError" in note
        assert source.calls["k"] == number
        clock.advance(wait - 0.001)
        with pytest.raises(LoadError):
            call(way, group, "get", "k")
        assert source.calls["k"] == number
        clock.advance(0.001)
    source.down = False
    assert call(way, group, "get", "k") == b"k 8"
    call(way, group, "delete", "k")
    source.down = True
    with pytest.raises(LoadError):
        call(way, group, "get", "k")
    clock.advance(2)
    with pytest.raises(LoadError):
        call(way, group, "get", "k")
    assert source.calls["k"] == 10  # it began with error_ttl again


@pytest.mark.parametrize("write", ["delete", "clear"])
def test_a_write_ends_a_remembered_failure(
    make: Callable[..., Group[bytes]], source: Source, way: str, write: str
) -> None:
    group = make(error_ttl="1h")
    source.down = True
    with pytest.raises(LoadError):
        call(way, group, "get", "k")
    source.down = False
    call(way, group, write, *["k"] * (write == "delete"))
    assert call(way, group, "get", "k") == b"k 2"


def test_a_remembered_failure_and_an_old_value(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str
) -> None:
    group = make(ttl=10, stale_if_error="1h", error_ttl=60)
    call(way, group, "get", "k")
    source.down = True
    clock.advance(10)
    for _ in range(5):
        assert call(way, group, "get", "k") == b"k 1"
    assert source.calls["k"] == 2


@pytest.mark.parametrize("write", ["delete", "set", "clear"])
def test_a_write_takes_an_old_value_away(
    make: Callable[..., Group[bytes]], source: Source, clock: Clock, way: str, write: str
) -> None:
    group = make(ttl=10, stale_while_revalidate="1h", stale_if_error="1h", refresh_after=5)
    call(way, group, "get", "k")
    clock.advance(11)
    if write == "set":
        call(way, group, "set", "k", b"new")
        assert call(way, group, "get", "k") == b"new"
        return
    call(way, group, write, *["k"] * (write == "delete"))
    source.down = True
    with pytest.raises(LoadError):
        call(way, group, "get", "k")


@pytest.mark.parametrize("held", [Held, AsyncHeld])
def test_a_load_that_takes_long_is_overtaken(node: Node, clock: Clock, held: type[Held], way: str) -> None:
    node.start()  # so that async loaders run on a loop that outlives the callers'
    loader = held(lambda key: b"%d" % loader.calls[key])
    group = node.group("g", loader, ttl=10, jitter=0, stale_if_error="1h", soft_timeout="50ms")
    loader.go.set()
    assert call(way, group, "get", "k") == b"1"
    loader.go.clear()
    clock.advance(10)
    callers = [Caller(call, way, group, "get", "k") for _ in range(3)]
    assert [caller.result() for caller in callers] == [b"1"] * 3
    assert loader.calls["k"] == 2
    clock.advance(5)
    assert call(way, group, "get", "k") == b"1"
    assert loader.calls["k"] == 2  # the load still goes on
    loader.go.set()
    until(lambda: call(way, group, "get", "k") == b"2")
    assert loader.calls["k"] == 2
    assert call(way, group, "get", "other") == b"1"  # without an old value a caller waits


def test_what_get_entry_tells_of_a_stale_value(node: Node, clock: Clock) -> None:
    group = node.group("g", lambda _: b"v", ttl=10, jitter=0, refresh_after=5, stale_if_error=20)
    assert group.get_entry("k") is None
    group.get("k")
    clock.advance(6)
    entry = group.get_entry("k")
    assert entry is not None
    assert (entry.value, round(entry.age or 0), entry.ttl, entry.stale, entry.source) == (b"v", 6, 4, False, "main")
    clock.advance(5)
    entry = group.get_entry("k")
    assert entry is not None
    assert (round(entry.age or 0), entry.ttl, entry.stale) == (11, 0, True)
    assert "k" not in group
    assert group.ttl("k") is None
    assert group.add("k", b"new")
    clock.advance(31)
    assert group.get_entry("k") is None


def test_a_slow_first_load_waits(node: Node, way: str) -> None:
    loader = Held()
    group = node.group("g", loader, ttl=10, stale_if_error="1h", soft_timeout="10ms")
    caller = Caller(call, way, group, "get", "k")
    loader.wait_begun()
    time.sleep(0.03)
    assert not caller.future.done()
    loader.go.set()
    assert caller.result() == b"k"


def test_by_chance_before_the_end(clock: Clock) -> None:
    calls: Counter[str] = Counter()

    def load(key: str) -> bytes:
        calls[key] += 1
        time.sleep(0.01)
        return b"v"

    with Node(clock=clock) as node:
        group = node.group("g", load, ttl=100, jitter=0, early=1000.0)  # in 10 s before the end it is e^-1 at most
        keys = [str(number) for number in range(40)]
        group.get_many(keys)
        clock.advance(1)
        until(lambda: all(group.get(key) for key in keys))
        clock.advance(98.999)
        for _ in range(20):
            group.get_many(keys)
            clock.advance(0.00001)
        until(lambda: sum(calls[key] > 1 for key in keys) > 30)


def test_a_ttl_of_the_value(node: Node, clock: Clock) -> None:
    group = node.group("g", lambda _: Value(b"v", ttl=1), ttl=100, stale_if_error=5)
    assert group.get("k") == b"v"
    clock.advance(6)
    assert group.peek("k") is None


def test_an_absence_is_revalidated(node: Node, clock: Clock) -> None:
    found: list[bytes | None] = [None]
    group = node.group("g", lambda _: found[0], negative_ttl=1, stale_while_revalidate=60)
    assert group.get("k") is None
    found[0] = b"v"
    clock.advance(2)
    assert group.get("k") is None
    until(lambda: group.get("k") == b"v")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"refresh_after": 0}, "more than zero"),
        ({"refresh_after": "10m", "ttl": "10m"}, "less than ttl"),
        ({"early": -1}, "in times of a load"),
        ({"early": "much"}, "in times of a load"),
        ({"soft_timeout": "1s"}, "stale_if_error="),
        ({"stale_if_error": None}, "always ends"),
        ({"error_ttl": "soon"}, "error_ttl"),
        ({"stale_while_revalidate": -1}, "stale_while_revalidate"),
    ],
)
def test_options_that_cannot_be(node: Node, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        node.group("g", **options)


def test_failures_take_a_part_of_the_budget(node: Node) -> None:
    """Fail 1,000 loads with texts of 20 kB in a group of 1 MiB: a part of them is remembered."""

    def load(key: str) -> bytes:
        raise ConnectionError("x" * 20_000 + key)

    group = node.group("g", load, max_bytes="1 MiB", error_ttl="1h", jitter=0)
    tracemalloc.start()
    try:
        for number in range(1_000):
            with pytest.raises(LoadError):
                group.get(str(number))
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()
    assert "x999" in str(failure_of(group, "999"))
    assert group.stats().loads == 1_000
    failure_of(group, "0")
    assert group.stats().loads == 1_001  # forgotten, and loaded again


def failure_of(group: Group[bytes], key: str) -> LoadError:
    with pytest.raises(LoadError) as raised:
        group.get(key)
    return raised.value
