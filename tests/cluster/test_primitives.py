"""Primitives in a cluster, under schedules decided by the test: one caller wins, and no increment is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kamacache import ConfigError, Conflict, Node, PeerError
from kamacache.net.lane import Look
from kamacache.net.messages import Hello, TellRequest, WriteReply, WriteRequest
from kamacache.testing import HandOver, Network, Peek
from tests.cluster.cluster import Cluster, in_thread, wait_until
from tests.cluster.conftest import free_ports


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(0) as cluster:
        for _ in range(2):
            cluster.add(loader=False)
        cluster.settle()
        yield cluster


def groups(cluster: Cluster) -> list[Any]:
    return [cluster.group(node) for node in cluster.nodes]


def key_of(cluster: Cluster, owner: Any, prefix: str = "k") -> str:
    return next(key for key in (f"{prefix}{n}" for n in range(1000)) if cluster.nodes[0].owner("g", key).id == owner.id)


def test_one_of_two_nodes_wins_every_key(cluster: Cluster) -> None:
    a, b = groups(cluster)
    keys = [f"key{n}" for n in range(100)]
    with ThreadPoolExecutor(2) as threads:
        won = list(threads.map(lambda group: [group.add(key, b"v") for key in keys], (a, b)))
    assert all(one + other == 1 for one, other in zip(*won, strict=True))


def test_no_increment_of_two_nodes_is_lost(cluster: Cluster) -> None:
    a, b = groups(cluster)

    async def by_tasks(group: Any) -> list[int]:
        return [await group.aincr("n", initial=0) for _ in range(100)]

    with ThreadPoolExecutor(2) as threads:
        tasks = threads.submit(lambda: asyncio.run(by_tasks(a)))
        seen = [b.incr("n", initial=0) for _ in range(100)]
        assert sorted(seen + tasks.result(10)) == list(range(1, 201))
    assert a.get("n") == b.get("n") == 200


@pytest.mark.parametrize("owner", [0, 1])
def test_what_each_primitive_returns_on_both_nodes(cluster: Cluster, owner: int) -> None:
    key = key_of(cluster, cluster.nodes[owner])
    a, b = groups(cluster)
    assert a.pop(key) is None
    assert a.remove(key) == (False, True)
    assert not a.touch(key, 10)
    assert not a.set(key, b"v", if_present=True)
    with pytest.raises(KeyError):
        a.incr(key)
    assert a.add(key, b"v", ttl=100)
    assert not b.add(key, b"w")
    assert (a.ttl(key), b.ttl(key)) == (100, 100)
    entries = [group.get_entry(key) for group in (a, b)]
    assert [entry.source for entry in entries] == (["main", "owner"], ["owner", "main"])[owner]
    assert b.set(key, b"w", if_version=entries[0].version)
    with pytest.raises(Conflict):
        a.set(key, b"x", if_version=entries[1].version)
    with pytest.raises(TypeError):
        a.incr(key)
    assert a.get(key) == b.get(key) == b"w"
    assert b.touch(key, 50)
    assert (key in a, key in b, a.ttl(key)) == (True, True, 50)
    assert b.pop(key) == b"w"
    assert (a.get(key), key in b) == (None, False)
    a.set(key, b"41")
    assert b.incr(key) == 42
    assert a.get(key) == 42
    assert a.remove(key) == (True, True)


def test_near_copies_follow_a_touch(cluster: Cluster) -> None:
    """A near copy is dropped by what its owner decides; a caller sees the new time at once."""
    a, b = cluster.nodes
    key = key_of(cluster, a)
    cluster.group(a).set(key, b"v", ttl="1h")
    cluster.group(b).get(key)
    assert cluster.group(b).peek(key) == b"v"
    assert cluster.group(a).touch(key, 1)
    assert cluster.group(b).peek(key) is None
    assert cluster.group(b).get(key) == b"v"
    for node in (a, b):
        node._runtime.clock.advance(2)
    assert cluster.group(b).get(key) is None


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_what_is_known_of_an_entry_elsewhere(way: str) -> None:
    """Tell the age of the owner's copy, stale or not; contains and ttl have no value sent."""
    with Cluster(2, ttl=10, jitter=0, refresh_after=5, stale_if_error=20) as cluster:
        a, b = groups(cluster)
        key = key_of(cluster, cluster.nodes[0])
        a.set(key, b"v")
        clocks = [node._runtime.clock for node in cluster.nodes]

        def look() -> tuple[bool, float | None, Any]:
            if way == "threads":
                return b.contains(key), b.ttl(key), b.get_entry(key)

            async def all_three() -> tuple[bool, float | None, Any]:
                return await b.acontains(key), await b.attl(key), await b.aget_entry(key)

            return asyncio.run(all_three())

        for ages, expected in ((6, (True, 4, False)), (5, (False, None, True))):
            for clock in clocks:
                clock.advance(ages)
            there, left, entry = look()
            assert (there, left, entry.stale) == expected
            assert (entry.value, entry.source, entry.version) == (b"v", "owner", a.get_entry(key).version)
            assert entry.age == pytest.approx(11 if entry.stale else 6, abs=0.1)
        asked = [parcel.message for parcel in cluster.network.sent if parcel.stage == "request"]
        looks = [message.look for message in asked if isinstance(message, Peek)]
        assert looks == [Look.TRAITS, Look.TRAITS, Look.ENTRY] * 2


@pytest.mark.parametrize("call", ["add", "incr", "pop", "touch", "cas", "lock"])
def test_dead_owner_is_an_error_and_no_second_winner(cluster: Cluster, call: str) -> None:
    b = cluster.nodes[1]
    key, group = key_of(cluster, b), groups(cluster)[0]
    group.set(key, b"1")
    cluster.network.freeze(b.address or "")
    calls: dict[str, Any] = {
        "add": lambda: group.add(key, b"v"),
        "incr": lambda: group.incr(key, initial=0),
        "pop": lambda: group.pop(key),
        "touch": lambda: group.touch(key, 1),
        "cas": lambda: group.set(key, b"v", if_version=1),
        "lock": lambda: group.lock(key).__enter__(),
    }
    with pytest.raises(PeerError, match="not known"):
        calls[call]()
    cluster.network.kill(b.address or "")
    with pytest.raises(PeerError, match="nothing was done"):
        calls[call]()
    assert group.remove(key) == (False, False), "a delete is taken by the next in line, which knows of no key"


def test_greater_version_at_a_listener_is_not_another_increment(cluster: Cluster) -> None:
    """Order an increment anew above what a listener knows.

    1. B knows of a write of the key that A, its owner, has not heard of.
    2. B increments: A counts once, and the sum gets a version above that.
    """
    a, b = cluster.nodes
    key = key_of(cluster, a)
    assert cluster.group(b).incr(key, initial=0) == 1
    store = cluster.group(b)._core.store
    store.note(key, store.known(key) + (1000 << 80))
    assert cluster.group(b).incr(key) == 2
    assert [group.get(key) for group in groups(cluster)] == [2, 2]
    assert cluster.group(a)._core.store.known(key) == store.known(key)
    assert cluster.group(a).incr(key) == 3


def test_write_between_an_increment_and_its_new_version(cluster: Cluster) -> None:
    """Supersede an increment that is ordered anew.

    1. B knows a greater version; its increment is decided at A, and the answer of the listener is held.
    2. A sets the key.
    3. The increment is ordered anew: A's value stays.
    """
    a, b = cluster.nodes
    key = key_of(cluster, a)
    assert cluster.group(a).incr(key, initial=0) == 1
    store = cluster.group(b)._core.store
    store.note(key, store.known(key) + (1000 << 80))
    reply = cluster.network.gate(TellRequest, stage="reply", source=a.address, target=b.address)
    incr = in_thread(cluster.group(a).incr, key)
    reply.wait()
    reply.matches = lambda _: False
    cluster.group(a).set(key, b"later")
    reply.open()
    assert incr.result(5) == 2
    assert cluster.group(a).get(key) == cluster.group(b).get(key) == b"later"


def test_counters_survive_a_member_that_joins(cluster: Cluster) -> None:
    """Increment on all keys while a member joins: the new owner takes in what the former one has, and counts on."""
    keys = [f"n{n}" for n in range(60)]
    sums: Counter[str] = Counter()
    stop = False

    def work(group: Any) -> Counter[str]:
        done: Counter[str] = Counter()
        while not stop:
            for key in keys:
                group.incr(key, initial=0)
                done[key] += 1
        return done

    works = [in_thread(work, cluster.group(node)) for node in cluster.nodes]
    try:
        c = cluster.add(loader=False)
        wait_until(lambda: sum(cluster.group(c)._core.store.find(key) is not None for key in keys) > 5)
    finally:
        stop = True
    for work_done in works:
        sums += work_done.result(10)
    cluster.settle()
    for group in groups(cluster):
        assert {key: group.get(key) for key in keys} == dict(sums)
    assert not any(cluster.group(c).add(key, b"") for key in keys)


def test_owner_that_has_not_joined_decides_nothing(cluster: Cluster) -> None:
    """Add at a new owner before it has greeted everybody, and after.

    1. C joins; its hello to B is held. A knows C, and refuses what C owns now.
    2. A adds such a key: C does not decide before it has joined.
    """
    a, b = cluster.nodes
    before = {key: cluster.nodes[0].owner("g", key).id for key in map(str, range(300))}
    hello = cluster.network.gate(Hello, target=b.address)
    node = cluster.make(loader=False)
    started = in_thread(node.start)
    hello.wait()
    wait_until(lambda: len(a.members()) == 3)

    def new() -> list[str]:
        return [key for key, owner in before.items() if owner == a.id and a.owner("g", key).id not in {a.id, b.id}]

    def refused() -> bool:
        replies = [parcel.reply for parcel in cluster.network.sent if isinstance(parcel.message, WriteRequest)]
        return any(isinstance(reply, WriteReply) and reply.refused for reply in replies)

    wait_until(new)
    key = new()[0]
    add = in_thread(cluster.group(a).add, key, b"v")
    wait_until(refused)
    assert not add.done()
    hello.matches = lambda _: False
    hello.open()
    started.result(10)
    cluster.nodes.append(node)
    assert add.result(10) is True
    assert not cluster.group(node).add(key, b"w")


def test_primitive_says_why_their_node_cannot_start() -> None:
    """Raise PeerError with the error of the start as its cause; none once the node has started."""
    (port,) = free_ports(1)
    node = Node(f"127.0.0.1:{port}", registry=f"static://127.0.0.1:{port}")
    group = node.group("g", codec="json")
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PeerError, match=f"this node cannot start: cannot listen on 127.0.0.1:{port}") as caught:
            group.add("k", 1)
        assert isinstance(caught.value.__cause__, ConfigError)
    node.start()
    assert node._runtime.refused is None
    assert group.incr("k", initial=0) == 1
    node.close()


def test_a_loop_that_ends_leaves_no_lock() -> None:
    """End the loop of each of many tasks while its order is under way: asyncio.run cancels that."""
    network = Network(hot=False)
    nodes = [Node(registry=network.registry(), lane=network.lane()) for _ in range(2)]
    one, other = (node.group("g", ttl="10m") for node in nodes)
    with nodes[0], nodes[1]:
        for number in range(40):

            async def main(key: str = f"k{number}") -> None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0):
                        async with one.lock(key, lease="1h", wait="5s"):
                            pass

            asyncio.run(main())
        wait_until(lambda: not any(f"k{number}" in other for number in range(40)))


def test_a_counter_of_one_that_joins_goes_on_at_another(cluster: Cluster) -> None:
    """Increment at C, which has read the list before B came, after B has: no table of C had B as the owner.

    1. C reads the list, and registers late.
    2. B joins, takes counters of A over, and increments them. A and the other member have nothing of them any more.
    3. C joins. What B hands over to it is held.
    4. C owns some of them, and increments them.
    """
    keys = [f"n{n}" for n in range(200)]
    before = {key: cluster.nodes[0].owner("g", key).id for key in keys}
    for key in keys:
        cluster.group(cluster.nodes[0]).incr(key, initial=0)
    c, registers = joins_late(cluster)
    b = cluster.add(loader=False)
    counted = [key for key in keys if b.owner("g", key).id == b.id != before[key]]
    for key in counted:
        assert cluster.group(b).incr(key) == 2
    cluster.network.gate(HandOver, source=b.address)
    registers.set()
    c.start()
    cluster.nodes.append(c)
    inherited = [key for key in counted if c.owner("g", key).id == c.id]
    assert inherited
    assert {cluster.group(c).incr(key, initial=0) for key in inherited} == {3}


def joins_late(cluster: Cluster) -> tuple[Node, threading.Event]:
    """Make a node that has read the list, and registers once the event is set. Start it again to wait for that."""
    node, registers = cluster.make(loader=False), threading.Event()
    registry: Any = node._registry
    register = registry.register

    def late(*arguments: Any) -> None:
        reads.set()
        assert registers.wait(10)
        register(*arguments)

    reads = threading.Event()
    registry.register = late
    in_thread(node.start)
    assert reads.wait(10)
    return node, registers


def test_a_member_whose_socket_is_gone_is_not_waited_for(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Increment while a member ends: its address breaks connections, before anyone knows that it has ended."""
    a = cluster.nodes[0]
    c = cluster.add(loader=False)
    cluster.settle()
    lane: Any = a._runtime.lane
    peek_many, broken = lane.peek_many, PeerError("No such file or directory")
    broken.broken = True

    def peeks(asks: list[tuple[str, list[str]]], group: str, look: Look) -> list[Any]:
        return [broken if ask[0] == c.address else peek_many([ask], group, look)[0] for ask in asks]

    monkeypatch.setattr(lane, "peek_many", peeks)
    assert cluster.group(a).incr(key_of(cluster, a), initial=0) == 1


def test_a_member_that_closes_answers_what_it_was_asked_before(cluster: Cluster) -> None:
    """Close an owner that still asks those before it.

    1. A has a counter; C joins and owns it. What A hands over is held.
    2. A increments it: C asks A for what it has, and its question is held.
    3. C closes: it waits for that within its drain.
    """
    a, _ = cluster.nodes
    keys = [f"n{n}" for n in range(200)]
    mine = [key for key in keys if a.owner("g", key).id == a.id]
    for key in mine:
        cluster.group(a).incr(key, initial=0)
    cluster.network.gate(HandOver, source=a.address)
    c = cluster.add(loader=False)
    wait_until(lambda: any(a.owner("g", key).id == c.id for key in mine))
    key = next(key for key in mine if a.owner("g", key).id == c.id)
    question = cluster.network.gate(Peek, source=c.address)
    incr = in_thread(cluster.group(a).incr, key)
    question.wait()
    close = in_thread(c.close, 10)
    wait_until(lambda: a.owner("g", key).id != c.id)
    with pytest.raises(TimeoutError):
        close.result(0.3)
    question.open()
    close.result(10)
    assert incr.result(10) == 2
