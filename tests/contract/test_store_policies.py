"""One suite for stores of every policy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamacache._engine import MISSING, POLICIES, Clock, Placement, Store


@pytest.fixture
def clock() -> Clock:
    return Clock(manual=True, unix=1e9)


def build(policy: str, clock: Clock, max_bytes: int = 1 << 20, *, keep_evicted: bool = False) -> Store:
    return Store(
        "g",
        max_bytes=max_bytes,
        policy=policy,
        clock=clock,
        near_ttl=5.0,
        remember=30.0,
        decode=None,
        shareable=False,
        keep_evicted=keep_evicted,
    )


def kind(store: Store, key: str) -> int:
    found = store.find(key)
    assert found is not None
    return found[3]


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(policy: str, clock: Clock) -> Store:
    return build(policy, clock)


def test_keeps_the_callers_object(store: Store) -> None:
    value = b"v" * 50
    assert store.put("k", value, 1, None, Store.MAIN)
    assert store.get("k") is value
    assert store.peek("k") is value
    assert store.find("k") == (value, 1, None, Store.MAIN)
    assert store.lookup("other") is MISSING
    assert store.get("other") is None
    assert store.peek("other") is None
    assert store.find("other") is None


def test_a_key_longer_than_an_entry_holds(store: Store) -> None:
    keys = ["k" * n for n in (1, 21, 22, 23, 24, 65_536)]
    for n, key in enumerate(keys):
        assert store.put(key, b"%d" % n, 1, None, Store.MAIN)
    assert [store.get(key) for key in keys] == [b"%d" % n for n in range(len(keys))]


def test_newer_wins(store: Store) -> None:
    assert store.put("k", b"2", 2, None, Store.MAIN)
    assert not store.put("k", b"1", 1, None, Store.MAIN)
    assert store.put("k", b"also 2", 2, None, Store.MAIN), "a load carries the version of the write it could see"
    assert store.get("k") == b"also 2"
    assert store.known("k") == 2


def test_a_write_outlives_its_entry(store: Store, clock: Clock) -> None:
    assert store.write("k", b"new", 5, 1.0)
    assert not store.write("k", b"same", 5, None)
    assert store.get("k") == b"new"
    clock.advance(1.0)
    assert store.lookup("k") is MISSING
    assert not store.put("k", b"loaded before", 4, None, Store.MAIN)
    assert store.put("k", b"loaded after", 5, None, Store.MAIN)
    assert store.write("k", None, 6, None), "a delete"
    assert store.lookup("k") is MISSING
    assert store.known("k") == 6
    assert store.missed(0, 0)[0] == [("k", 6)]
    clock.advance(30.0)
    assert store.sweep() == []
    assert (store.known("k"), store.missed(0, 0)[0]) == (0, [])


def test_a_note_drops_older_entries(store: Store) -> None:
    store.put("k", b"1", 1, None, Store.MAIN)
    assert store.note("k", 1) == 1
    assert store.get("k") == b"1"
    assert store.note("k", 3) == 3
    assert store.lookup("k") is MISSING
    assert not store.put("k", b"2", 2, None, Store.NEAR, foreign=True)
    assert store.note("k", 2) == 3
    assert store.put("k", b"3", 3, None, Store.NEAR, foreign=True)


def test_clear_spares_newer_entries(store: Store) -> None:
    for n in range(10):
        store.put(f"k{n}", b"v", n, None, Store.MAIN)
    store.write("w", b"w", 7, None)
    assert store.clear(6) == 6 == store.floor
    assert [n for n in range(10) if store.peek(f"k{n}")] == [6, 7, 8, 9]
    assert store.peek("w") == b"w"
    assert store.stats()["entries"] == 5
    assert store.clear(3) == 6
    assert store.known("unheard of") == 6
    assert not store.put("k1", b"v", 5, None, Store.MAIN)
    assert store.clear(100) == 100
    assert {store.stats()[name] for name in ("entries", "bytes", "near_bytes")} == {0}
    assert store.missed(0, 0)[0] == []


def test_absence_is_an_entry(store: Store, clock: Clock) -> None:
    store.on_miss = lambda key: pytest.fail(f"{key} is known")
    assert store.put("k", None, 1, 5.0, Store.MAIN)
    assert store.get("k") is None
    assert store.lookup("k") is None
    assert store.find("k") == (None, 1, 5.0, Store.MAIN)
    stats = store.stats()
    assert (stats["gets"], stats["absent"], stats["hits"], stats["entries"]) == (2, 2, 0, 1)
    clock.advance(5.0)
    assert store.lookup("k") is MISSING


def test_near_copies_are_short_lived_and_few(policy: str, clock: Clock) -> None:
    store = build(policy, clock, 64 << 10)
    store.put("main", b"m" * 5_000, 1, None, Store.MAIN)
    for n in range(100):
        assert store.put(f"n{n}", b"n" * 500, 1, None, Store.NEAR)
        assert store.stats()["near_bytes"] <= (64 << 10) // 8
        assert store.peek(f"n{n}") == b"n" * 500
    assert store.peek("main") is not None, "near copies make room for each other"
    assert store.get("n99") is not None
    assert store.stats()["near_hits"] == 1
    found = store.find("n99")
    assert found is not None
    assert found[2:] == (5.0, Store.NEAR)
    clock.advance(5.0)
    assert store.find("n99") is None


def test_expired_entries_are_swept(store: Store, clock: Clock) -> None:
    store.put("short", b"1", 1, 1.0, Store.MAIN)
    store.put("long", b"2", 1, 10.0, Store.MAIN)
    store.put("ever", b"3", 1, None, Store.MAIN)
    clock.advance(0.5)
    assert store.find("short") == (b"1", 1, 0.5, Store.MAIN)
    clock.advance(0.5)
    store.sweep()
    stats = store.stats()
    assert (stats["entries"], stats["expirations"], stats["evictions"]) == (2, 1, 0)
    clock.advance(9.0)
    assert store.get("long") is None, "expiry does not wait for a sweep"
    assert store.stats()["expirations"] == 2
    assert store.get("ever") == b"3"
    assert not store.put("over", b"v", 1, 0.0, Store.MAIN)


def test_reports_evicted_entries(policy: str, clock: Clock) -> None:
    store = build(policy, clock, 4096, keep_evicted=True)
    values = {f"k{n}": b"%d" % n * 20 for n in range(40)}
    for key, value in values.items():
        assert store.put(key, value, 1, 60.0, Store.MAIN)
        assert store.peek(key) is value
    kept = {key for key in values if store.peek(key) is not None}
    told = store.sweep()
    assert {(key, value, reason) for key, value, reason in told} == {
        (key, value, "capacity") for key, value in values.items() if key not in kept
    }
    assert store.stats()["evictions"] == len(told) == 40 - len(kept)
    clock.advance(60.0)
    assert sorted(store.sweep()) == sorted((key, values[key], "expired") for key in kept)
    assert store.sweep() == []


def test_placement_demotes_and_promotes(policy: str, clock: Clock) -> None:
    store = build(policy, clock)
    placement = Placement([("a", 1.0), ("b", 1.0)])
    keys = [f"k{n}" for n in range(50)]
    for key in keys:
        store.put(key, b"v", 1, None, Store.MAIN)
    store.place(placement, 0)
    mine = {key for key in keys if placement.owner(key) == 0}
    assert 0 < len(mine) < 50
    kinds = {key: kind(store, key) for key in keys}
    assert kinds == {key: Store.MAIN if key in mine else Store.FORMER for key in keys}
    assert all(store.get(key) == b"v" for key in keys), "served here for near_ttl more"
    clock.advance(5.0)
    assert {key for key in keys if store.get(key) is not None} == mine
    assert all(store.find(key) for key in keys)
    store.place(None, 0)
    assert all(store.get(key) == b"v" for key in keys)
    assert {kind(store, key) for key in keys} == {Store.MAIN}


def test_entries_that_are_not_owned_go_first(policy: str, clock: Clock) -> None:
    store = build(policy, clock, 64 << 10)
    placement = Placement([("a", 1.0), ("b", 1.0)])
    keys = [f"k{n}" for n in range(60)]
    for key in keys:
        store.put(key, b"v" * 500, 1, None, Store.MAIN)
    store.place(placement, 0)
    former = [key for key in keys if placement.owner(key) == 1]
    for n in range(200):
        store.put(f"new{n}", b"v" * 500, 1, None, Store.MAIN)
        evicted = store.stats()["evictions"]
        gone = [key for key in former if store.find(key) is None]
        if evicted >= len(former):
            break
        assert len(gone) == evicted
    assert len(gone) == len(former)


def test_too_large_is_refused(policy: str, clock: Clock) -> None:
    store = build(policy, clock, 8192)
    room = next(size for size in range(1024, 0, -1) if store.fits("key", size))
    assert room > 500
    assert store.put("key", b"v" * room, 1, None, Store.MAIN)
    assert not store.put("key", b"v" * (room + 1), 2, None, Store.MAIN)
    assert store.write("key", b"v" * (room + 1), 2, None), "the write holds, the value is not kept"
    assert store.lookup("key") is MISSING
    assert store.known("key") == 2


def test_counts(store: Store) -> None:
    store.put("k", b"v", 1, None, Store.MAIN)
    store.put("n", b"v", 1, None, Store.NEAR)
    store.put("a", None, 1, None, Store.MAIN)
    assert store.get_many(["n", "x", "k", "a", "y"]) == ({"n": b"v", "k": b"v"}, ["x", "y"], {})
    store.peek("k")
    store.find("k")
    store.count(Store.OUTCOMES.index("loads"))
    store.count(Store.OUTCOMES.index("loads"), 2)
    with pytest.raises(ValueError, match="OUTCOMES"):
        store.count(len(Store.OUTCOMES))
    stats = store.stats()
    assert {name: stats[name] for name in Store.OUTCOMES if stats[name]} == {
        "gets": 5,
        "hits": 1,
        "near_hits": 1,
        "absent": 1,
        "loads": 3,
    }
    assert set(stats) == {
        *Store.OUTCOMES,
        "evictions",
        "expirations",
        "entries",
        "bytes",
        "near_bytes",
        "remembered",
        "remembered_bytes",
        "unremembered",
        "max_bytes",
    }


def test_delete_and_close(store: Store) -> None:
    for key in "abc":
        store.write(key, b"v", 5, None)
    store.clear(2)
    store.write("a", None, 6, None)
    assert store.lookup("a") is MISSING
    assert store.known("a") == 6
    store.close()
    assert (store.stats()["entries"], store.missed(0, 0)[0], store.floor) == (0, [], 2)
    assert store.lookup("a") is MISSING
    assert not store.put("a", b"v", 9, None, Store.MAIN)
    assert not store.write("a", b"v", 9, None)
    store.close()


KEYS = st.integers(0, 60).map("k{}".format)


@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    max_bytes=st.integers(4096, 20_000),
    steps=st.lists(st.tuples(KEYS, st.integers(0, 1200), st.sampled_from([0, 1, 2]), st.booleans()), max_size=150),
)
def test_the_budget_holds(policy: str, max_bytes: int, steps: list[tuple[str, int, int, bool]]) -> None:
    store = build(policy, Clock(manual=True), max_bytes)
    for version, (key, size, kind, ask) in enumerate(steps):
        if ask:
            store.get(key)
        elif store.put(key, bytes(size), version, None, kind):
            assert store.find(key) is not None
        stats = store.stats()
        assert stats["bytes"] <= max_bytes
        assert stats["near_bytes"] <= max_bytes // 8
