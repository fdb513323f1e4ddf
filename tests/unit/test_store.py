"""The Python side of a store: keys, codecs, reference counts, threads and forks."""

from __future__ import annotations

import gc
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from kamacache._engine import MISSING, Clock, Store, after_fork_in_child, arrived, check_key
from kamacache.errors import InvalidKey
from kamacache.net.messages import WriteItem

if TYPE_CHECKING:
    from collections.abc import Callable


def build(
    *,
    max_bytes: int = 1 << 20,
    clock: Clock | None = None,
    decode: Callable[[bytes], Any] | None = None,
    shareable: bool = False,
    keep_evicted: bool = False,
) -> Store:
    return Store(
        "g",
        max_bytes=max_bytes,
        policy="lru",
        clock=clock or Clock(manual=True),
        near_ttl=5.0,
        remember=30.0,
        decode=decode,
        shareable=shareable,
        keep_evicted=keep_evicted,
    )


class Box:
    """An object whose end can be watched."""

    def __init__(self, raw: bytes, on_death: Callable[[], object] | None = None) -> None:
        self.raw = raw
        self.on_death = on_death

    def __del__(self) -> None:
        if self.on_death is not None:
            self.on_death()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "empty"),
        (b"k", "bytes"),
        (None, "NoneType"),
        ("k" * 65_537, "65537"),
        ("é" * 32_769, "65538"),
        ("lone \ud800", "surrogate"),
    ],
)
def test_bad_keys(key: Any, text: str) -> None:
    store = build()
    asks: list[Callable[[Any], object]] = [
        check_key,
        store.get,
        store.lookup,
        store.peek,
        store.find,
        store.known,
        lambda key: store.order(WriteItem(key, b"v")),
        lambda key: store.get_many(["good", key]),
        lambda key: store.put(key, b"v", 1, None, Store.MAIN),
    ]
    for ask in asks:
        with pytest.raises(InvalidKey, match=text) as caught:
            ask(key)
        assert len(str(caught.value)) < 120
    assert store.stats()["gets"] == 0


def test_good_keys() -> None:
    store = build()
    for key in ("k", "\0", "a\nb", "é" * 32_768, "😀", type("Text", (str,), {})("sub")):
        check_key(key)
        assert store.put(key, key.encode()[:9], 1, None, Store.MAIN)
        assert store.get(key) == key.encode()[:9]


def test_wrong_arguments() -> None:
    store = build()
    with pytest.raises(ValueError, match="kind"):
        store.put("k", b"v", 1, None, 3)
    with pytest.raises(ValueError, match="NaN"):
        store.put("k", b"v", 1, float("nan"), Store.MAIN)
    with pytest.raises(OverflowError):
        store.put("k", b"v", -1, None, Store.MAIN)
    with pytest.raises(TypeError):
        store.put("k", "text", 1, None, Store.MAIN)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="s3fifo, lru, lru2"):
        Store(
            "g",
            max_bytes=4096,
            policy="fifo",
            clock=Clock(),
            near_ttl=1,
            remember=1,
            decode=None,
            shareable=False,
            keep_evicted=False,
        )


def test_a_miss_asks_on_miss() -> None:
    store = build()
    store.on_miss = lambda key: [key]
    assert store.get("k") == ["k"]
    assert store.lookup("k") is MISSING

    def fail(key: str) -> None:
        raise LookupError(key)

    store.on_miss = fail
    with pytest.raises(LookupError):
        store.get("k")
    assert store.stats()["gets"] == 3


def test_decodes_afresh_unless_shareable() -> None:
    for shareable in (False, True):
        decoded: list[bytes] = []

        def decode(raw: bytes, decoded: list[bytes] = decoded) -> Box:
            decoded.append(raw)
            return Box(raw)

        store = build(decode=decode, shareable=shareable)
        raw = b"raw" * 10
        store.put("k", raw, 1, None, Store.MAIN)
        first, second = store.get("k"), store.lookup("k")
        assert (first is second) is shareable
        assert store.get_many(["k"])[0]["k"].raw is raw
        assert store.peek("k").raw is raw
        assert len(decoded) == (1 if shareable else 4)
        found = store.find("k")
        assert found is not None
        assert found[0] is raw
        store.put("k", b"new", 2, None, Store.MAIN)
        assert store.get("k").raw == b"new"


def test_an_error_of_decode_reaches_the_caller() -> None:
    store = build(decode=int)
    store.put("k", b"no number", 1, None, Store.MAIN)
    for ask in (store.get, store.lookup, store.peek):
        with pytest.raises(ValueError, match="no number"):
            ask("k")


def test_missed_writes_are_fetched_by_number() -> None:
    store = build()
    before = arrived()
    for n in range(5_000):
        store.note(f"k{n}", n + 1)
    assert arrived() >= before + 5_000
    writes, part, forgotten = store.missed(before, 0)
    assert part is not None
    rest, end, also = store.missed(before, part)
    assert (end, forgotten, also) == (None, False, False)
    assert sorted(writes + rest) == sorted((f"k{n}", n + 1) for n in range(5_000))
    assert len(writes) == 4_000
    store.close()
    assert store.missed(before, 0) == ([], None, True)


def counts(values: list[bytes]) -> list[int]:
    return [sys.getrefcount(value) for value in values]


def test_evicted_values_are_released() -> None:
    store = build(max_bytes=8192)
    values = [bytes([n]) * 300 for n in range(100)]
    before = counts(values)
    for n in range(100):
        store.put(f"k{n}", values[n], 1, None, Store.MAIN)
    held = sum(counts(values)) - sum(before)
    assert held == store.stats()["entries"] < 100
    for n in range(3):
        store.put("same", values[n], 1, None, Store.MAIN)
        store.get("same")
    store.write("same", None, 2, None)
    store.clear(9)
    store.sweep()
    assert counts(values) == before


@pytest.mark.parametrize("end", ["note", "clear", "forget", "close", "expire", "replace", "delete"])
def test_every_way_out_releases_a_decoded_value(end: str) -> None:
    clock = Clock(manual=True)
    store = build(clock=clock, decode=Box, shareable=True)
    store.put("k", b"raw", 1, 10.0, Store.MAIN)
    dead = weakref.ref(store.get("k"))
    assert dead() is not None
    match end:
        case "note":
            store.note("k", 2)
        case "clear":
            store.clear(2)
            store.sweep()
        case "forget":
            store.forget()
        case "close":
            store.close()
        case "expire":
            clock.advance(10.0)
            store.lookup("k")
        case "replace":
            store.put("k", b"new", 1, None, Store.MAIN)
        case "delete":
            del store
    assert dead() is None


def test_a_dying_value_may_use_the_store() -> None:
    store = build(max_bytes=4096, decode=lambda raw: Box(raw, lambda: deaths.append(store.get("k0"))), shareable=True)
    deaths: list[Any] = []
    for n in range(200):
        store.put(f"k{n}", b"v" * 100, 1, None, Store.MAIN)
        store.get(f"k{n}")
    assert len(deaths) == store.stats()["evictions"] > 0
    store.forget()


def test_evicted_values_are_reported_decoded() -> None:
    store = build(max_bytes=4096, decode=lambda raw: raw.decode(), keep_evicted=True)
    for n in range(100):
        store.put(f"k{n}", b"text", 1, None, Store.MAIN)
    told = store.sweep()
    assert told[0] == ("k0", "text", "capacity")
    assert len(told) == store.stats()["evictions"]


def test_evicted_values_that_are_never_swept_are_bounded() -> None:
    store = build(max_bytes=8192, keep_evicted=True)
    value = b"v" * 300
    before = sys.getrefcount(value)
    for n in range(1_000):
        store.put(f"k{n}", value, 1, None, Store.MAIN)
    assert sys.getrefcount(value) - before - store.stats()["entries"] <= 8192 // 300
    last = store.stats()["evictions"] - 1
    assert store.sweep()[-1][0] == f"k{last}"


def test_a_cycle_through_on_miss_is_collected() -> None:
    class Owner:
        def __init__(self) -> None:
            self.store = build(decode=self.decode)
            self.store.on_miss = self.load

        def decode(self, raw: bytes) -> bytes:
            return raw

        def load(self, key: str) -> str:
            return key

    owner = Owner()
    dead = weakref.ref(owner)
    del owner
    gc.collect()
    assert dead() is None


def test_counters_add_up_over_threads() -> None:
    store = build(max_bytes=64 << 10)
    asked = 20_000

    def work(seed: int) -> None:
        for n in range(asked):
            key = f"k{(n * 31 + seed) % 700}"
            if store.lookup(key) is MISSING:
                store.count(Store.OUTCOMES.index("loads"))
                store.put(key, None if n % 7 == 0 else b"v" * 50, 1, None, n % 2)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = store.stats()
    assert stats["gets"] == 4 * asked
    assert stats["hits"] + stats["near_hits"] + stats["absent"] + stats["loads"] == 4 * asked
    assert stats["evictions"] > 0
    assert stats["bytes"] <= 64 << 10


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty() -> None:
    """Fork while threads hold the stores' locks with the interpreter (lookup, put) and without it (sweep, place)."""
    stores = [build(max_bytes=8 << 20, clock=Clock()) for _ in range(3)]
    closed = build()
    closed.close()
    stop = threading.Event()

    def hammer(store: Store) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            store.put(f"k{n % 5_000}", b"v" * 100, n, 0.001, Store.MAIN)
            store.lookup(f"k{n % 300}")
            if n % 50 == 0:
                store.sweep()
                store.place(None, 0)

    threads = [threading.Thread(target=hammer, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                after_fork_in_child()
                os._exit(0 if all(map(starts_anew, stores)) and not closed.put("k", b"v", 9, None, 0) else 1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for store in stores:
        assert store.write("k", b"v", 1 << 100, None), "the parent goes on"
        assert store.get("k") == b"v"


def starts_anew(store: Store) -> bool:
    stats = store.stats()
    return (
        sum(stats.values()) == stats["max_bytes"]
        and store.missed(0, 0)[0] == []
        and store.floor == 0
        and store.put("k", b"v", 1, None, Store.MAIN)
        and store.get("k") == b"v"
        and store.clear(5) == 5
        and store.sweep() == []
    )
