"""/metrics, read by prometheus_client's parser: sums that hold at any scrape, times of loads and of peers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

import kamacache
from kamacache import LoadError, Node
from kamacache._engine import Histogram
from tests.cluster.cluster import in_thread, wait_until
from tests.http.client import PATIENCE, labelled, metrics, request, two_nodes

OUTCOMES = ("hits", "near_hits", "absent", "peer_hits", "joined", "loads", "peer_loads")


def load(key: str) -> bytes | None:
    if key.startswith("bad"):
        raise ValueError(key)
    return None if key.startswith("none") else b"value of " + key.encode()


@pytest.fixture
def pair() -> Iterator[list[Node]]:
    yield from two_nodes("metrics", load, near_ttl=0)


def of(node: Node) -> str:
    assert node.address is not None
    return node.address


def owned(nodes: list[Node], owner: int, prefix: str = "key") -> Iterator[str]:
    keys = (f"{prefix}{number}" for number in range(10_000))
    return (key for key in keys if str(nodes[0].owner("users", key)) == of(nodes[owner]))


def test_the_counters_are_those_of_the_group(pair: list[Node]) -> None:
    group = pair[0].groups["users"]
    mine, theirs, bad = owned(pair, 0), owned(pair, 1), owned(pair, 0, "bad")
    key, far = next(mine), next(theirs)
    for asked in (key, key, far, far, next(mine), next(owned(pair, 0, "none")), next(owned(pair, 1, "none"))):
        group.get(asked)
    with pytest.raises(LoadError):
        group.get(next(bad))
    group.set(key, b"new")
    stats = group.stats()
    found = metrics(of(pair[0]))
    users = labelled(group="users")
    for name in ("gets", "loads", "load_errors", "writes", "undecodable", "evictions", "expirations", "served"):
        assert found[f"kamacache_{name}_total", users] == getattr(stats, name), name
    for name in ("entries", "bytes", "near_bytes", "max_bytes"):
        assert found[f"kamacache_{name}", users] == getattr(stats, name), name
    for outcome in OUTCOMES:
        labels = labelled(group="users", outcome=outcome)
        assert found["kamacache_get_outcomes_total", labels] == getattr(stats, outcome), outcome
    assert (stats.gets, stats.load_errors, stats.writes, stats.peer_hits) == (8, 1, 1, 1)
    assert found["kamacache_gets_under_way", users] == 0
    assert metrics(of(pair[1]))["kamacache_served_total", users] == pair[1].groups["users"].stats().served > 0


def test_the_node_shows_itself_and_its_members(pair: list[Node]) -> None:
    found = metrics(of(pair[0]))
    (build,) = (dict(labels) for name, labels in found if name == "kamacache_build_info")
    assert build["version"] == kamacache.__version__
    assert build["python"].startswith("3.")
    assert found["kamacache_joined", labelled()] == 1
    assert found["kamacache_members", labelled(state="alive")] == 2
    assert found["kamacache_peer_up", labelled(peer=of(pair[1]))] == 1
    pair[1].close()
    wait_until(lambda: metrics(of(pair[0]))["kamacache_members", labelled(state="alive")] == 1, PATIENCE)


def test_loads_and_peers_are_timed(pair: list[Node]) -> None:
    group = pair[0].groups["users"]
    mine, theirs = owned(pair, 0), owned(pair, 1)
    for _ in range(3):
        group.get(next(mine))  # asks the owner before a change of members, too
    before = asked_of_peers(metrics(of(pair[0])))
    for _ in range(3):
        far = next(theirs)
        group.get(far)  # a peek, then a load by call
        group.get(far)  # a peek
    assert group.get_many([far]) == {far: load(far)}

    async def ask() -> None:
        await group.aget(far)
        await group.aget_many([far])

    asyncio.run(ask())
    found = metrics(of(pair[0]))
    peer = of(pair[1])
    counts = asked_of_peers(found)
    assert counts["peek"] - before.get("peek", 0) == 3 * 2 + 3
    assert counts["load"] == 3
    assert counts["hello"] >= 1
    assert found["kamacache_load_seconds_count", labelled(group="users")] == 3
    assert found["kamacache_peer_seconds_sum", labelled(peer=peer, kind="load")] > 0
    check_histograms(found)


def asked_of_peers(found: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> dict[str, float]:
    return {dict(labels)["kind"]: n for (name, labels), n in found.items() if name == "kamacache_peer_seconds_count"}


def check_histograms(found: dict[tuple[str, frozenset[tuple[str, str]]], float]) -> None:
    """Check that buckets grow with their bounds, and that the last is the count."""
    series: dict[tuple[str, frozenset[tuple[str, str]]], dict[float, float]] = {}
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            bound = float(dict(labels)["le"])
            rest = frozenset(item for item in labels if item[0] != "le")
            series.setdefault((name.removesuffix("_bucket"), rest), {})[bound] = value
    assert series
    for (name, labels), buckets in series.items():
        assert sorted(buckets) == [*Histogram.BOUNDS, float("inf")]
        in_order = [buckets[bound] for bound in sorted(buckets)]
        assert in_order == sorted(in_order)
        assert in_order[-1] == found[f"{name}_count", labels]
        assert (found[f"{name}_sum", labels] > 0) == (in_order[-1] > 0)


def test_a_failed_or_late_load_is_timed_and_an_async_batch_is_one() -> None:
    async def many(keys: list[str]) -> dict[str, bytes]:
        return dict.fromkeys(keys, b"")

    with Node("127.0.0.1:0") as node:
        bad = node.group("bad", load)
        batch = node.group("batch", load_many=many)
        plain = node.group("plain", load_many=lambda keys: dict.fromkeys(keys, b""))
        with pytest.raises(LoadError):
            bad.get("bad")
        batch.get_many(["a", "b", "c"])
        plain.get_many(["a", "b", "c"])
        found = metrics(of(node))
        for name in ("bad", "batch", "plain"):
            assert found["kamacache_load_seconds_count", labelled(group=name)] == 1
        check_histograms(found)


def test_a_silent_peer_is_timed(pair: list[Node]) -> None:
    far = next(owned(pair, 1))
    address = of(pair[1])
    pair[1]._runtime.lane.close()  # it is gone without a goodbye
    before = metrics(of(pair[0])).get(("kamacache_peer_seconds_count", labelled(peer=address, kind="peek")), 0.0)
    assert pair[0].groups["users"].get(far) == load(far)
    after = metrics(of(pair[0]))["kamacache_peer_seconds_count", labelled(peer=address, kind="peek")]
    assert after == before + 1
    wait_until(lambda: metrics(of(pair[0]))["kamacache_members", labelled(state="dead")] == 1, PATIENCE)


def test_the_sums_hold_at_any_scrape() -> None:
    stop = threading.Event()

    def work(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            group.get(f"key{(turn * 7 + number) % 500}")
            group.get_many([f"none{turn % 90}", f"key{turn % 300}"])
            if turn % 50 == 0:
                group.delete(f"key{turn % 500}")

    with Node("127.0.0.1:0") as node:
        group = node.group("users", load, max_bytes="64 KiB")
        working = [in_thread(work, number) for number in range(4)]
        last = 0.0
        try:
            for _ in range(30):
                found = metrics(of(node))
                gets = found["kamacache_gets_total", labelled(group="users")]
                outcomes = (
                    found["kamacache_get_outcomes_total", labelled(group="users", outcome=outcome)]
                    for outcome in OUTCOMES
                )
                assert gets == sum(outcomes) >= last
                assert 0 <= found["kamacache_gets_under_way", labelled(group="users")] <= 8
                check_histograms(found)
                last = gets
        finally:
            stop.set()
        for done in working:
            done.result(PATIENCE)
        stats = group.stats()
        assert stats.gets == metrics(of(node))["kamacache_gets_total", labelled(group="users")] > 0


def test_a_get_under_way_is_no_answer_yet() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(key: str) -> bytes:
        entered.set()
        assert go_on.wait(PATIENCE)
        return b""

    with Node("127.0.0.1:0") as node:
        group = node.group("slow", slow)
        getting = in_thread(group.get, "k")
        assert entered.wait(PATIENCE)
        found = metrics(of(node))
        assert found["kamacache_gets_total", labelled(group="slow")] == 0
        assert found["kamacache_gets_under_way", labelled(group="slow")] == 1
        go_on.set()
        getting.result(PATIENCE)
        assert metrics(of(node))["kamacache_gets_total", labelled(group="slow")] == 1


def test_many_scrapes_at_once() -> None:
    with Node("127.0.0.1:0") as node:
        node.group("g")
        scrapes = [in_thread(request, of(node), "/metrics") for _ in range(30)]
        assert {scrape.result(PATIENCE).status for scrape in scrapes} == {200}


def test_labels_are_escaped(tmp_path: object) -> None:
    from kamacache.serve.metrics import Page  # noqa: PLC0415 - the only test of a part

    page = Page()
    page.metric("odd", "gauge", "An odd path.", [({"peer": 'unix:/a"b\\c\nd'}, 1)])
    assert str(page).splitlines()[-1] == r'odd{peer="unix:/a\"b\\c\nd"} 1'
