"""The promise of writes: when one has returned True, no process serves an older value.

Members stand still, join, or cannot reach each other meanwhile.
"""

from __future__ import annotations

import itertools
import logging
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import Any

import pytest

from kamacache import ConfigError, Member, Node
from kamacache.errors import PeerError
from kamacache.testing import Network
from kamacache.testing.lane import MemoryLane
from tests.cluster.cluster import Cluster, wait_until
from tests.cluster.conftest import Process, Processes, free_ports
from tests.security.test_password import Stranger
from tests.support.table import Table

SHORT: dict[str, Any] = {"lease": 1.0, "group": {"near_ttl": "500ms"}}  # with static:// a write waits for three pings
AWAKE = 0.15  # seconds after which a process that stood still answers its own callers from memory again


def assert_never(value: str, process: Process, since: float, place: str) -> None:
    """Check that no get which began after that moment returned the value, and that gets succeeded."""
    seen = process.do("seen")
    assert not [text for text in seen if "Error" in text], seen
    late = seen.get(value, 0.0) - since
    assert late < 0, f"{place} served it {late:.3f} s too late"


@pytest.mark.parametrize("frozen", [3])
def test_owner_that_was_stopped_during_a_delete(processes: Processes, frozen: int) -> None:
    """Serve a deleted value nowhere after True; after False, nowhere once its owner is awake.

    1. All get a value of the owner all the time. Of another one no other member asks, and so tells, the owner. It is
       stopped, and maybe other members, too.
    2. Another one deletes both. With local:// that is False: the system shows that they live.
    3. The owner goes on.
    """
    owner, writer, *others = processes.make(2 + max(frozen, 1), **SHORT)
    local = processes.kind == "local"
    keys = writer.do("orders", processes.keys_of(owner))[:2]
    for key in keys:
        assert owner.do("set", key, "old")[0] is True
        assert {process.do("get", key)[0] for process in processes.all} == {"old"}
    asleep, awake = others[:frozen], others[frozen:]
    owner.do("watch", keys)
    for process in (writer, *awake):
        process.do("watch", keys[:1])
    for process in (owner, *asleep):
        process.kill(signal.SIGSTOP)
    if local:
        time.sleep(1.5)
        assert [writer.do("delete", key)[0] for key in keys] == [False, False]
    else:
        wait_until(lambda: all([writer.do("delete", key)[0] for key in keys]))  # noqa: C419 - each is deleted
    written = time.monotonic()
    owner.kill(signal.SIGCONT)
    went_on = time.monotonic()
    time.sleep(0.7)
    for process in (writer, *awake):
        assert_never("old", process, went_on + AWAKE if local else written, "another member")
    assert_never("old", owner, went_on + AWAKE, "the owner")
    for process in asleep:
        process.kill(signal.SIGCONT)
    time.sleep(AWAKE)
    for key in keys:
        assert {process.do("get", key)[0] for process in processes.all} == {f"value of {key}"}
    wait_until(lambda: writer.do("delete", keys[0])[0])


def test_first_write_of_a_process_that_stood_still(processes: Processes) -> None:
    """Return True only if no other process serves an older value, one that joined meanwhile included.

    1. The writer stands still for 2.5 s. Another member joins meanwhile, and keeps a near copy.
    2. The writer goes on, and finds a delete to do. It has not pinged the others since.
    """
    writer, owner, late = processes.make(3, start=False, lease=1.0, group={"near_ttl": "1s"})
    for process in (writer, owner):
        process.start()
    late.do("peek", "key")
    wait_until(lambda: all(len(process.do("members")) == 2 for process in (writer, owner)))
    keys = [f"key{number}" for number in range(60)]
    wait_until(lambda: writer.do("owners", keys) == owner.do("owners", keys))
    keys = processes.keys_of(owner)[:40]
    wait_until(lambda: writer.do("set", keys[0], "old")[0])
    for key in keys:
        assert writer.do("set", key, "old")[0] is True
    writer.do("slow_probes")
    writer.kill(signal.SIGSTOP)
    stopped = time.monotonic()
    late.start()
    time.sleep(max(0.0, stopped + 2.5 - time.monotonic()))
    keys = [key for key in keys if late.do("owners", [key]) == [owner.address]][:20]

    def is_near(key: str) -> bool:
        return [late.do("get", key)[0], late.do("peek", key)] == ["old", "old"]

    for key in keys[:8]:
        wait_until(partial(is_near, key))
    writer.send("delete", keys[0])
    writer.kill(signal.SIGCONT)
    confirmed, done = 0, writer.receive()[0]
    for key in keys:
        if key != keys[0]:
            done = writer.do("delete", key)[0]
        if done:
            assert [process.do("get", key)[0] for process in (late, owner)] == [f"value of {key}"] * 2
            confirmed += 1
        time.sleep(0.02)
    assert confirmed
    assert [process.do("get", keys[0])[0] for process in (late, owner)] == [f"value of {keys[0]}"] * 2


def test_living_member_beside_frozen_ones(local_processes: Processes) -> None:
    """Tell a living member of every write, with no near copies, while others are frozen."""
    writer, living, *others = local_processes.make(4, group={"near_ttl": 0})
    keys = local_processes.keys_of(writer, prefix="other")
    writer.do("watch_listeners", living.address)
    for process in others:
        process.kill(signal.SIGSTOP)
    until = time.monotonic() + 3
    for key in keys:
        assert writer.do("set", key, "new")[0] is False
        assert living.do("known", key)
        time.sleep(0.05)
        if time.monotonic() > until:
            break
    missing, looks = writer.do("was_missing")
    assert looks > 100
    assert missing == 0


class CutNetwork(Network):
    """A network in which some members cannot reach some others, be it in one direction."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts: set[tuple[str | None, str | None]] = set()

    def deliver(self, source: str, target: str, message: Any) -> MemoryLane:
        if (source, target) in self.cuts:
            raise PeerError(f"{target} cannot be reached from {source}")
        return super().deliver(source, target, message)


@pytest.mark.parametrize("both", [False, True], ids=["one direction", "both"])
@pytest.mark.parametrize("owned_by", [0, 1, 2])
def test_cut_that_heals(owned_by: int, *, both: bool) -> None:
    """Drop what was written meanwhile, as soon as a cut is over.

    1. A, B and C hold a value of one of them. A cannot reach B; B can reach A, or cannot either.
    2. The source changes; A deletes the key: False.
    3. A reaches B again.
    """
    network = CutNetwork()
    with Cluster(3, network=network) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(cluster.nodes[owned_by])
        cluster.assert_serves(key, b"old")
        network.cuts = {(a.address, b.address)} | ({(b.address, a.address)} if both else set())
        cluster.source.value = b"new"
        assert cluster.group(a).delete(key) is False
        wait_until(lambda: cluster.peer(a, b).dead)
        network.cuts = set()
        wait_until(lambda: cluster.group(b).get(key) == b"new", 3)
        wait_until(lambda: all(cluster.is_up(x, y) for x, y in itertools.permutations(cluster.nodes, 2)))
        cluster.assert_serves(key, b"new")
        wait_until(lambda: cluster.group(a).delete(key), 3)


@pytest.mark.parametrize("owned_by", ["q", "r"])
def test_two_that_cannot_reach_each_other(owned_by: str) -> None:
    """Serve a deleted value at no member that was told; one that asks its owner tells that one.

    1. P and Q cannot reach each other. R reaches both. Q holds a value, its own or R's.
    2. The source changes; P deletes the key: False.
    """
    network = CutNetwork()
    with Cluster(3, network=network) as cluster:
        p, q, r = cluster.nodes
        key = cluster.key_of(q if owned_by == "q" else r)
        cluster.assert_serves(key, b"old")
        network.cuts = {(p.address, q.address), (q.address, p.address)}
        cluster.source.value = b"new"
        assert cluster.group(p).delete(key) is False
        for _ in range(20):
            assert [cluster.group(node).get(key) for node in (r, p)] == [b"new"] * 2
            time.sleep(0.02)
        if owned_by == "q":
            assert cluster.group(q).get(key) == b"new"
        network.cuts = set()
        wait_until(lambda: cluster.is_up(p, q) and cluster.is_up(q, p))
        cluster.assert_serves(key, b"new")


def test_a_member_that_cannot_be_reached_is_not_listed_for_a_moment() -> None:
    """Confirm no write without a member that the registry has lost, with all its data, and will list again.

    1. A and B cannot reach each other: no ping of A is answered. B holds a value.
    2. The registry loses its data. A deletes the key: False.
    3. B has registered anew. A deletes the key: False. B serves the value all the time.
    """
    network = CutNetwork()
    with Cluster(3, network=network, near_ttl=0) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(b)
        cluster.assert_serves(key, b"old")
        network.cuts = {(a.address, b.address), (b.address, a.address)}
        wait_until(lambda: cluster.peer(a, b).silent > 1)
        assert cluster.group(a).delete(key) is False
        since = time.monotonic()
        network.unregister(str(b.address))
        wait_until(lambda: not cluster.peer(a, b).registered)
        assert not cluster.group(a).delete(key) or time.monotonic() > since + 1.5
        b._membership.announce(groups=("g",), loads=("g",))
        wait_until(lambda: cluster.peer(a, b).registered)
        assert cluster.group(a).delete(key) is False
        assert cluster.group(b).get(key) == b"old"


def test_address_of_another_node() -> None:
    """Refuse to start a node whose address another one answers, before the list names it."""
    table: dict[str | None, Member] = {}
    first = Node("127.0.0.1:0", registry=Table(table))
    first.group("g", lambda _: b"")
    with closing(first):
        first.start()
        second = Node("127.0.0.1:0", registry=Table(table), advertise=first.address)
        second.group("g", lambda _: b"")
        with closing(second), pytest.raises(ConfigError) as raised:
            second.start()
        assert table[first.address].id == first.id
        assert first.id in str(raised.value)
        assert second.id in str(raised.value)


def forward(listener: socket.socket, port: int) -> None:
    """Pass on what comes to this socket, until it is closed."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with source, suppress(OSError):
            while part := source.recv(65_536):
                target.sendall(part)
            target.shutdown(socket.SHUT_WR)

    while True:
        try:
            near, _ = listener.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for pair in ((near, far), (far, near)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def test_advertised_address_that_does_not_lead_here(caplog: pytest.LogCaptureFixture) -> None:
    """Warn of it, and say when that is over."""
    caplog.set_level(logging.INFO, "kamacache")
    port, shown = free_ports(2)
    address = f"127.0.0.1:{shown}"
    node = Node(f"127.0.0.1:{port}", registry=Table({}), advertise=address)
    node.group("g", lambda _: b"")
    with closing(node), ExitStack() as stack:
        node.start()
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert [text for text in warnings if address in text and "may not reach" in text]
        assert f"answers at its address {address}" not in caplog.text
        listener = stack.enter_context(socket.create_server(("127.0.0.1", shown)))
        threading.Thread(target=forward, args=(listener, port), daemon=True).start()
        wait_until(lambda: f"answers at its address {address}" in caplog.text)


def test_join_beside_a_member_that_remembers_many_writes(local_processes: Processes) -> None:
    """Know 200,000 writes when joined, within a second; the other one answers its clients meanwhile."""
    (first,) = local_processes.make(1, group={"max_bytes": "256MB"})
    first.do("remember", 200_000)
    gaps: list[float] = []
    times: list[float] = []
    with Stranger(first.address) as client:
        for _ in range(3):  # the machine may be busy with other things
            (late,) = local_processes.make(1, start=False, group={"max_bytes": "256MB"})
            late.do("peek", "key")
            late.send("start")
            began = last = time.monotonic()
            longest = 0.0
            joined = threading.Thread(target=late.receive)
            joined.start()
            while joined.is_alive():
                assert client.says(b"PING") == b"+PONG"
                longest = max(longest, time.monotonic() - last)
                last = time.monotonic()
                time.sleep(0.001)
            gaps.append(longest)
            times.append(time.monotonic() - began)
            assert late.do("remembers", 200_000)
            if gaps[-1] < 0.05 and times[-1] < 1.0:
                break
    assert min(times) < 1.0, times
    assert min(gaps) < 0.05, gaps


def test_write_that_is_stopped_in_its_middle(local_processes: Processes) -> None:
    """Return True only if no process serves an older value, one that joined while the write stood still included.

    1. The writer stops after it has looked whom it must tell. Another member joins, and keeps a near copy.
    2. The writer goes on.
    """
    writer, owner, late = local_processes.make(3, start=False, group={"near_ttl": "10s"})
    for process in (writer, owner):
        process.start()
    late.do("peek", "key")
    wait_until(lambda: all(len(process.do("members")) == 2 for process in (writer, owner)))
    keys = local_processes.keys_of(owner)[:40]
    for key in keys:
        assert writer.do("set", key, "old")[0] is True
    writer.do("stop_in_write")
    writer.send("delete", keys[0])
    late.start()
    wait_until(lambda: late.do("get", keys[0])[0] == "old" and late.do("peek", keys[0]))
    time.sleep(1.0)  # it has stood still for more than a second
    writer.kill(signal.SIGCONT)
    if writer.receive()[0]:
        assert [process.do("get", keys[0])[0] for process in (late, owner)] == [f"value of {keys[0]}"] * 2
    wait_until(lambda: writer.do("delete", keys[0])[0])
    assert [process.do("get", keys[0])[0] for process in (late, owner)] == [f"value of {keys[0]}"] * 2
