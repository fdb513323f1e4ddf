"""A closed node starts again: a new member with the same groups, empty, and nothing of the life before reaches it.

Each docstring of a race is its schedule.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamacache import Group, GroupClosed, Node, NodeClosed
from kamacache.net.messages import Hello
from kamacache.registry.local import LocalRegistry
from kamacache.testing import Network, Peek
from tests.cluster.cluster import Cluster, Source, in_thread, wait_until

ROOT = Path(__file__).parents[2]
OLD, NEW = b"old", b"new"
Start = Callable[[Node], None]


def start(node: Node) -> None:
    node.start()


def astart(node: Node) -> None:
    asyncio.run(node.astart())


@pytest.mark.parametrize("begin", [start, astart])
@pytest.mark.parametrize("registry", ["none", "local", "object"])
def test_a_closed_node_starts_again_empty(tmp_path: Path, registry: str, begin: Start) -> None:
    loads: list[str] = []

    def load(key: str) -> bytes:
        loads.append(key)
        return key.encode()

    async def aload(key: str) -> bytes:
        return load(key)

    given: dict[str, Any] = {
        "none": None,
        "local": f"local://{tmp_path}",
        "object": LocalRegistry(f"local://{tmp_path}"),
    }
    node = Node(registry=given[registry], max_bytes="8 MiB")
    users, awaited = node.group("users", load), node.group("awaited", aload, codec="bytes", near_ttl="1s")
    ids = set()
    for _ in range(3):
        begin(node)
        ids.add(node.id)
        assert (users.stats().gets, users.stats().entries) == (0, 0)
        assert [users.get("k") for _ in range(3)] == [b"k"] * 3
        assert asyncio.run(awaited.aget("a")) == b"a"
        assert users.get_many(["k", "m"]) == {"k": b"k", "m": b"m"}
        assert (users.stats().gets, users.stats().entries) == (5, 2)
        assert users.stats().max_bytes + awaited.stats().max_bytes <= 8 << 20
        assert [member.id for member in node.members()] == [node.id]
        node.close()
        for call in (users.get, users.peek, users.delete):
            with pytest.raises(NodeClosed, match=r"start\(\)"):
                call("k")
        with pytest.raises(NodeClosed):
            asyncio.run(awaited.aget("a"))
    assert sorted(loads) == ["a"] * 3 + ["k"] * 3 + ["m"] * 3
    assert len(ids) == 3
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


def test_a_node_with_a_fixed_port_starts_again(unused_port: int) -> None:
    node = Node(f"127.0.0.1:{unused_port}")
    node.group("g", str.encode)
    for _ in range(3):
        with node:
            assert node.address == f"127.0.0.1:{unused_port}"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def test_a_cell_of_a_notebook_runs_again() -> None:
    """Run a cell that makes its groups, uses the node and closes it; another cell has made the node."""
    cell = """
@node.loader
def users(key):
    return key.encode()

rooms = node.group("rooms", str.encode)
with node:
    found = users.get("k"), rooms.get("r")
"""
    names: dict[str, Any] = {"node": Node(), "__name__": "__main__"}
    for number in range(3):
        exec(compile(cell, f"<cell {number}>", "exec"), names)  # noqa: S102 - as a notebook does
        assert names.pop("found") == (b"k", b"r")
    assert list(names["node"].groups) == ["users", "rooms"]


def test_groups_are_made_and_closed_between_two_lives() -> None:
    node = Node()
    kept, dropped = node.group("kept", str.encode), node.group("dropped", str.encode)
    node.close()
    made = node.group("made", str.encode)
    dropped.close()
    assert node.group("kept", str.encode) is kept
    with pytest.raises(NodeClosed):
        made.get("k")
    with node:
        assert kept.get("k") == made.get("k") == b"k"
        assert list(node.groups) == ["kept", "made"]
        with pytest.raises(GroupClosed):
            dropped.get("k")


def test_a_call_that_was_under_way_ends_and_leaves_nothing_behind() -> None:
    """Let a load outlive the life of its node.

    1. A get loads a key, and reads the old value; another waits for it. The node is closed: the one that waits raises.
    2. The source changes, and the node starts again.
    3. The load ends, in its old life, for its caller alone. A get loads the new value.
    """
    source = Source(OLD)
    node = Node()
    group = node.group("g", source.load)
    hold = source.hold("k")
    leading = in_thread(group.get, "k")
    hold.wait()
    joined = in_thread(group.get, "k")
    wait_until(lambda: group.stats().gets == 2)
    node.close(drain=0)
    with pytest.raises(NodeClosed):
        joined.result(5)
    source.value = NEW
    with node:
        hold.open()
        assert leading.result(5) == OLD
        assert group.peek("k") is None
        assert group.get("k") == NEW
        assert group.stats().gets == 1  # the calls before count for the life before


def test_a_late_answer_of_a_peer_is_not_kept_in_the_new_life() -> None:
    """Hold the owner's answer over the restart of the node that asked.

    1. A peeks at B, which has the old value; the answer is on its way.
    2. A is closed. B sets a new value: True, as A is gone.
    3. A starts again; the answer arrives.
    4. No node serves the old value, and A keeps no near copy of it.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(b)
        assert cluster.group(b).get(key) == OLD
        answer = cluster.network.gate(Peek, stage="reply", source=a.address, target=b.address)
        before, old = a.id, cluster.group(a)._core
        asking = in_thread(cluster.group(a).get, key)
        answer.wait()
        a.close(drain=0)
        cluster.source.value = NEW
        assert cluster.group(b).set(key, NEW) is True
        a.start()
        answer.open()
        with pytest.raises((NodeClosed, TimeoutError)):
            raise asking.exception(5) or NodeClosed(str(asking.result()))
        assert old.store.closed
        assert old.store.put(key, OLD, 1 << 127, 5.0, old.store.NEAR) is False
        assert cluster.group(a).peek(key) is None
        cluster.settle()
        assert a.id != before
        cluster.assert_serves(key, NEW)


def test_a_thread_of_the_old_life_finds_no_groups() -> None:
    """Let the membership of the old life build a table after the new one has begun."""
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        old = a._membership
        a.close(drain=0)
        a.start()
        cluster.settle()
        old.peers.listed([])
        old._build()  # as if it had just read an empty list
        assert list(old._groups) == []
        assert cluster.group(a).set("k", NEW) is True
        assert cluster.group(b).get("k") == NEW


def test_members_take_the_new_life_for_a_new_member() -> None:
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(a)
        for _ in range(2):
            cluster.assert_serves(key, cluster.source.value)
            before = a.id
            a.close(drain=0)
            assert cluster.group(b).delete(key) is True
            cluster.source.value = NEW
            assert cluster.group(b).get(key) == NEW
            a.start()
            cluster.settle()
            assert a.id not in {before, b.id}
            cluster.assert_serves(key, NEW)


def test_a_start_waits_for_the_close_under_way() -> None:
    """Start a node while another thread closes it.

    1. A closes; its goodbye is held.
    2. Two threads start A: they wait. A second close returns at once.
    3. The goodbye arrives. Both starts return, and A lives: one new member.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        before = a.id
        goodbye = cluster.network.gate(Hello, source=a.address, target=b.address)
        closing = in_thread(a.close)
        goodbye.wait()
        starts = [in_thread(a.start), in_thread(lambda: asyncio.run(a.astart()))]
        a.close()
        assert not any(starting.done() for starting in starts)
        goodbye.matches = lambda _: False
        goodbye.open()
        closing.result(10)
        for starting in starts:
            starting.result(10)
        assert a.id != before
        cluster.settle()
        assert sorted(member.id for member in b.members()) == sorted([a.id, b.id])
        cluster.assert_serves("k", OLD)


def test_a_close_ends_the_start_of_the_new_life_alone() -> None:
    """Close a node in its second start, and start it a third time.

    1. The first life ends. The second start waits for the registry.
    2. A close comes: the start raises NodeClosed, once the registry answers.
    3. The third start waits for that, and is not undone by it.
    """
    network = Network()
    registry = network.registry()
    gone_on, arrived = threading.Event(), threading.Event()
    held: list[int] = []

    def register(*given: Any) -> None:
        if len(held) == 1:
            held.append(1)
            arrived.set()
            assert gone_on.wait(10)
        real(*given)

    real = registry.register
    registry.register = register  # type: ignore[method-assign, assignment]
    node = Node(registry=registry, lane=network.lane())
    group = node.group("g", str.encode)
    with node:
        held.append(0)
    second = in_thread(node.start)
    assert arrived.wait(10)
    closing = in_thread(node.close, 0)
    wait_until(lambda: node._start.closed)
    third = in_thread(node.start)
    closing.result(10)
    assert not third.done()
    gone_on.set()
    with pytest.raises(NodeClosed):
        second.result(10)
    third.result(10)
    assert group.get("k") == b"k"
    assert [member.id for member in node.members()] == [node.id]
    assert len(network.listed("kamacache")) == 1
    node.close()


def test_starts_and_closes_at_once_leave_a_node_that_works() -> None:
    network = Network()
    node = Node(registry=network.registry(), lane=network.lane())
    group = node.group("g", str.encode)
    strange: list[BaseException] = []

    def work(number: int) -> None:
        for turn in range(6):
            try:
                (node.start if (number + turn) % 2 else node.close)()
                group.get("k")
            except NodeClosed:
                pass
            except BaseException as error:  # noqa: BLE001 - shown below
                strange.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert strange == []
    node.start()
    assert group.get("k") == b"k"
    assert len(network.listed("kamacache")) == 1
    node.close()
    assert network.listed("kamacache") == {}


def test_a_start_inside_the_close_raises() -> None:
    """Start a node in an on_evict, or a finaliser, that runs on the thread that closes it."""
    node = Node()
    node.group("g", str.encode).get("k")
    errors: list[BaseException] = []
    stop = node._membership.stop

    def inside() -> None:
        with pytest.raises(NodeClosed) as caught:
            node.start()
        errors.append(caught.value)
        stop()

    node._membership.stop = inside  # type: ignore[method-assign]
    node.close()
    assert len(errors) == 1
    with node:
        assert node.groups["g"].get("k") == b"k"


def test_an_interrupt_of_a_close_leaves_a_node_that_starts_again() -> None:
    node = Node("127.0.0.1:0")
    group: Group[Any] = node.group("g", str.encode)
    node.start()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    node._serving.drain = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        node.close()
    with pytest.raises(NodeClosed):
        node._runtime.lane.peek("127.0.0.1:1", "g", "k")  # the steps after the interrupted one were taken
    with node:
        assert group.get("k") == b"k"


def run(program: str, *lines: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(lines), done.stderr


def test_a_node_closed_at_exit_stays_closed() -> None:
    """Call the node in a finaliser that runs after the exit handlers, and start it in one that runs after its close."""
    program = """
        import atexit

        def late():
            for call in (node.start, lambda: users.get("k")):
                try:
                    call()
                except NodeClosed as error:
                    print("refused", flush=True)
            assert node._closed

        atexit.register(late)  # handlers run in reverse order: after that of the package, which is imported below

        from kamacache import Node, NodeClosed

        class Late:
            def __del__(self):
                late()

        node = Node()
        users = node.group("users", str.encode)
        assert users.get("k") == b"k"
        kept = Late()
        kept.self = kept
    """
    run(program, *["refused"] * 4)


@pytest.mark.parametrize("closing", [False, True], ids=["closed", "closing"])
def test_a_closed_node_starts_again_in_a_forked_child(tmp_path: Path, *, closing: bool) -> None:
    """Fork after a close, or while another thread is in the middle of it and holds the locks of the node."""
    program = f"""
        import os, threading
        from kamacache import Node, NodeClosed

        node = Node(registry="local://{tmp_path}")
        users = node.group("users", str.encode)
        node.start()
        users.get("k")
        inside, go = threading.Event(), threading.Event()

        def drain(_):
            with node._lock:
                inside.set()
                go.wait(10)

        if {closing}:
            node._serving.drain = drain
        thread = threading.Thread(target=node.close)
        thread.start()
        inside.wait(10) if {closing} else thread.join()
        if not (child := os.fork()):
            try:
                try:
                    users.get("k")
                except NodeClosed:
                    print("closed", flush=True)
                with node:
                    assert users.peek("k") is None
                    assert users.get("k") == b"k"
                    print("started", flush=True)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        go.set()
        thread.join()
        with node:
            assert users.get("k") == b"k"
            print("again", flush=True)
    """
    run(program, "closed", "started", "again")
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
