"""Guarantee 1 under schedules decided by the test: once a write returned True, no node serves an older value.

Each docstring is the schedule; `old` is what the source had before the write, `new` what it has from then on.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from kamacache import Node
from kamacache.errors import NodeClosed
from kamacache.load import outcome
from kamacache.load.miss import Misses
from kamacache.net.lane import Look
from kamacache.net.messages import Hello, LoadRequest, TellReply, TellRequest, WriteItem, WriteRequest
from kamacache.steps import Path, drive
from kamacache.testing import Gate, Parcel, Peek
from kamacache.write.write import Writes
from tests.cluster.cluster import Cluster, in_thread, wait_until

OLD, NEW = b"old", b"new"


def get_with_held_peek(cluster: Cluster, owner: Node, key: str) -> tuple[Future[Any], Gate]:
    """Get a key at its new owner, while the answer of the former one, the first node, to its peek is held."""
    reply = cluster.network.gate(Peek, stage="reply", source=owner.address, target=cluster.nodes[0].address)
    get = in_thread(cluster.group(owner).get, key)
    reply.wait()
    reply.matches = lambda _: False  # hold this one alone
    return get, reply


def former_peeks(cluster: Cluster) -> int:
    """Return how often a node asked for former copies."""
    messages = [parcel.message for parcel in cluster.network.sent]
    return sum(isinstance(message, Peek) and message.look == Look.FORMER for message in messages)


def test_peek_of_an_unnotified_former_owner_during_a_delete() -> None:
    """Order a delete at the new owner while the former one still holds the value.

    1. A and B load keys; C joins and takes some over: A holds them as a former owner.
    2. The source changes; B deletes such a key: C orders it, A is not notified yet.
    3. C gets the key: it peeks at A, which still shows the old value, and refuses it.
    4. A is notified; the delete returns True.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        c, key = cluster.move()
        tell = cluster.network.gate(TellRequest, target=a.address)
        cluster.source.value = NEW
        delete = in_thread(cluster.group(b).delete, key)
        tell.wait()
        peeks = former_peeks(cluster)
        assert cluster.group(c).get(key) == NEW
        assert former_peeks(cluster) > peeks
        assert not delete.done()
        tell.open()
        assert delete.result(5) is True
        cluster.assert_serves(key, NEW)


def test_former_copy_on_its_way_during_a_delete() -> None:
    """Order a delete while the old value is on the wire.

    1. C, new owner of a key, peeks at A; A's answer with the old value is held.
    2. The source changes; C deletes the key: True.
    3. The answer arrives: no caller that asks now sees it.
    """
    with Cluster(2) as cluster:
        c, key = cluster.move()
        get, reply = get_with_held_peek(cluster, c, key)
        cluster.source.value = NEW
        assert cluster.group(c).delete(key) is True
        assert cluster.group(c).get(key) == NEW
        reply.open()
        assert get.result(5) in {OLD, NEW}
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("between", ["nothing", "get", "set"])
def test_delete_while_the_former_owner_is_asked(between: str) -> None:
    """Load a key once although a write comes while its flight asks the former owner.

    1. C, new owner of a key, leads a flight: it peeks at A, the former owner; the answer is held.
    2. C deletes the key: the flight is detached. A caller gets or sets the key, or none does.
    3. The answer arrives, too old. The load that begins now is newer than the delete: it is kept, and if there was one
       meanwhile, there is no second.
    """
    with Cluster(2) as cluster:
        c, key = cluster.move()
        get, reply = get_with_held_peek(cluster, c, key)
        cluster.source.value = NEW
        assert cluster.group(c).delete(key) is True
        loads = cluster.source.loads[key]
        if between == "get":
            assert cluster.group(c).get(key) == NEW
        elif between == "set":
            assert cluster.group(c).set(key, NEW) is True
        reply.open()
        assert get.result(5) == NEW
        cluster.assert_serves(key, NEW)
        assert cluster.source.loads[key] - loads == (0 if between == "set" else 1)


def test_flight_whose_place_was_taken_while_the_former_owner_is_asked() -> None:
    """End two flights of one key, one begun before a delete and one after, in one load.

    1. C, new owner of a key, leads a flight: it peeks at A, the former owner; the answer is held.
    2. C deletes the key; a second get leads another flight, whose load is held.
    3. The answer arrives: the first flight's caller joins the second.
    """
    with Cluster(2) as cluster:
        c, key = cluster.move()
        first, reply = get_with_held_peek(cluster, c, key)
        cluster.source.value = NEW
        assert cluster.group(c).delete(key) is True
        loads = cluster.source.loads[key]
        load = cluster.source.hold(key)
        second = in_thread(cluster.group(c).get, key)
        load.wait()
        reply.open()
        with pytest.raises(TimeoutError):
            first.result(0.1)
        load.open()
        assert (first.result(5), second.result(5)) == (NEW, NEW)
        assert cluster.source.loads[key] - loads == 1


@pytest.mark.parametrize("clearer", [0, 1, 2])
def test_clear_while_peers_still_hold(clearer: int) -> None:
    """Send a clear that reaches one node late.

    1. Every node holds near or main copies.
    2. The source changes; one node clears; one other is not notified yet.
    3. The nodes that know of it serve the new value, though the one not yet notified still shows the old.
    4. It is notified; clear returns True.
    """
    with Cluster(3) as cluster:
        late = cluster.nodes[(clearer + 1) % 3]
        keys = [cluster.key_of(node) for node in cluster.nodes]
        for key in keys:
            cluster.assert_serves(key, OLD)
        cluster.source.value = NEW
        tell = cluster.network.gate(TellRequest, target=late.address)
        clear = in_thread(cluster.groups[clearer].clear)
        tell.wait()
        own = cluster.key_of(cluster.nodes[clearer])
        assert cluster.groups[clearer].get(own) == NEW
        for key in keys:
            assert cluster.groups[clearer].peek(key) in {None, NEW}
        tell.open()
        assert clear.result(5) is True
        for key in keys:
            cluster.assert_serves(key, NEW)


def test_clear_by_a_node_whose_clock_is_behind() -> None:
    """Cover an earlier write by a clear, although the clearing node never saw the version of that write.

    1. A, its clock far ahead, sets a key; the notice to C is lost.
    2. The source changes; C, its clock behind, clears.
    """
    with Cluster(3, unix=(50_000.0, 10.0, 10.0)) as cluster:
        a, _, c = cluster.nodes
        assert c.address is not None
        key = cluster.key_of(a)
        probes = cluster.consider_dead(a, c)
        assert cluster.group(a).set(key, OLD) is False
        cluster.source.value = NEW
        assert cluster.group(c).clear() is True
        cluster.assert_serves(key, NEW)
        probes.open()
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("unix", [(1000.0, 10.0, 50_000.0), (50_000.0, 10.0, 1000.0), (10.0, 50_000.0, 10.0)])
def test_two_writers_with_different_views_and_skewed_clocks(unix: tuple[float, ...]) -> None:
    """Keep the write of the greater version everywhere.

    1. B considers A, the owner of a key, dead; the clocks of all three are far apart.
    2. A sets the key, B sets it with the next in line; no notice passes before both are ordered. If that is C, B has
       no other listener to notify.
    3. The notices arrive, then B learns that A is alive.
    """
    with Cluster(3, unix=unix) as cluster:
        a, b, _c = cluster.nodes
        key = cluster.key_of(a)
        probes = cluster.consider_dead(b, a)
        tells = cluster.network.gate(TellRequest)
        first = in_thread(cluster.group(a).set, key, b"from a")
        second = in_thread(cluster.group(b).set, key, b"from b")
        wait_until(lambda: any(parcel.source == a.address for parcel in tells.parcels))
        wait_until(lambda: second.done() or any(parcel.source == b.address for parcel in tells.parcels))
        tells.open()
        assert first.result(5) in {True, False}
        assert second.result(5) is False
        probes.open()
        wait_until(lambda: not cluster.peer(b, a).dead)
        stores = [group._core.store for group in cluster.groups]
        wait_until(lambda: len({store.known(key) for store in stores}) == 1)
        greatest = stores[0].known(key)
        kept = [found for store in stores if (found := store.find(key)) is not None]
        assert all(version == greatest for _, version, *_ in kept)
        winners = {value for value, *_ in kept} - {OLD}
        assert len(winners) <= 1
        cluster.assert_serves(key, OLD, *winners)  # the source is asked if no copy is left


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("at", ["owner", "elsewhere", "asked by a peer"])
@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_load_begun_before_a_write_and_ending_after_it(write: str, at: str, *, use_async: bool) -> None:
    """Drop the old value that a slow load brings after the write.

    1. A node loads a key and has read the source: as its owner, as one that considers the owner dead, or the owner
       for a peer.
    2. The source changes; another node writes: True, while the load goes on.
    3. Every node serves the new value.
    4. The load ends with the old one: its own caller may get it, no other.
    """
    with Cluster(3, use_async=use_async) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(a)
        reader = {"owner": a, "elsewhere": b, "asked by a peer": b}[at]
        probes = cluster.consider_dead(b, a) if at == "elsewhere" else None
        hold = cluster.source.hold(key)
        get = in_thread(cluster.group(reader).get, key)
        hold.wait()
        cluster.source.value = NEW
        writer = cluster.group(c)
        arguments = {"set": (key, NEW), "delete": (key,), "clear": ()}[write]
        assert getattr(writer, write)(*arguments) is True
        cluster.assert_serves(key, NEW)
        hold.open()
        assert get.result(5) in {OLD, NEW}
        cluster.assert_serves(key, NEW)
        if probes is not None:
            probes.open()
        cluster.assert_serves(key, NEW)


def test_batch_whose_owners_answer_at_different_times() -> None:
    """Send a batch to all owners first, then to all others: no listener is notified before the last owner has answered.

    1. A sets a batch whose keys are owned by A, B and C; the request to B is held.
    2. C has answered; no listener is notified yet.
    3. B answers: now all are notified, and the result is True.
    """
    with Cluster(3) as cluster:
        a, b, _c = cluster.nodes
        keys = [cluster.key_of(node) for node in cluster.nodes]
        for key in keys:
            cluster.assert_serves(key, OLD)
        cluster.source.value = NEW
        held = cluster.network.gate(WriteRequest, target=b.address)
        write = in_thread(cluster.group(a).set_many, dict.fromkeys(keys, NEW))
        held.wait()
        sent = cluster.network.sent
        wait_until(lambda: any(p.stage == "reply" and isinstance(p.message, WriteRequest) for p in sent))
        assert not [parcel for parcel in sent if isinstance(parcel.message, TellRequest)]
        held.open()
        assert write.result(5) is True
        last = max(i for i, p in enumerate(sent) if p.stage == "reply" and isinstance(p.message, WriteRequest))
        assert min(i for i, p in enumerate(sent) if isinstance(p.message, TellRequest)) > last
        for key in keys:
            cluster.assert_serves(key, NEW)


def test_set_without_waiting_while_a_fetch_is_under_way() -> None:
    """Read the node's own pending write.

    1. C fetches a key from its owner A, whose load is held with the old value.
    2. The source changes; C sets the key with wait=False; the request to A is held.
    3. C asks again: that get waits for the write.
    4. The load ends; nothing of it stays at C.
    5. The write goes through: the waiting get has the new value.
    """
    with Cluster(3) as cluster:
        a, _b, c = cluster.nodes
        key = cluster.key_of(a)
        hold = cluster.source.hold(key)
        fetch = in_thread(cluster.group(c).get, key)
        hold.wait()
        cluster.source.value = NEW
        request = cluster.network.gate(WriteRequest, source=c.address)
        assert cluster.group(c).set(key, NEW, wait=False) is None
        request.wait()
        gets = [in_thread(cluster.group(c).get, key), in_thread(asyncio.run, cluster.group(c).aget(key))]
        hold.open()
        assert fetch.result(5) in {OLD, NEW}
        assert cluster.group(c).peek(key) is None
        assert not any(get.done() for get in gets)
        request.open()
        assert [get.result(5) for get in gets] == [NEW, NEW]
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("at", ["owner", "other"])
@pytest.mark.parametrize("way", ["get", "get_many"])
def test_load_that_begins_while_a_write_is_pending(monkeypatch: pytest.MonkeyPatch, way: str, at: str) -> None:
    """Keep no load that began between a write with wait=False and its sending, or the writer would not wait for it.

    1. A caller at C, the key's owner or another, misses a key that no write is pending for. It does not lead yet.
    2. C sets the key with wait=False; that is not sent yet, and the source still has the old value.
    3. The caller goes on and loads. Nothing of that stays at C: a get of C waits for the write.
    4. The write is sent: the waiting get has the new value.
    """
    with Cluster(3) as cluster:
        a, _b, c = cluster.nodes
        key = cluster.key_of(c if at == "owner" else a)
        group = cluster.group(c)
        missed, lead, sending, send = (threading.Event() for _ in range(4))
        wait_for_writes, write = Misses.wait_for_writes, Writes.write

        def wait_and_hold(self: Misses, keys: Iterable[str]) -> Path[None]:
            yield from wait_for_writes(self, keys)
            if self is group._core.misses and not missed.is_set():
                missed.set()
                assert lead.wait(5)

        def hold_and_write(self: Writes, items: Sequence[WriteItem]) -> Path[bool]:
            sending.set()
            assert send.wait(5)
            return (yield from write(self, items))

        monkeypatch.setattr(Misses, "wait_for_writes", wait_and_hold)
        monkeypatch.setattr(Writes, "write", hold_and_write)
        first = in_thread(group.get_many, [key]) if way == "get_many" else in_thread(group.get, key)
        assert missed.wait(5)
        assert group.set(key, NEW, wait=False) is None
        assert sending.wait(5)
        lead.set()
        assert first.result(5) in (OLD, {key: OLD})
        assert group.peek(key) is None
        get = in_thread(group.get, key)
        time.sleep(0.1)
        assert not get.done()
        send.set()
        assert get.result(5) == NEW
        cluster.source.value = NEW
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("wait", [True, False])
def test_write_that_is_told_after_a_later_one(*, wait: bool) -> None:
    """Keep a write that was read already from coming back after a later one that returned True.

    1. C, the owner, sets a key; its notice to B is held. A get at C has that value.
    2. A sets the key to another value. C orders it, B is notified, and the set returns True.
    3. The notice arrives: B knows a greater version. The first write is not ordered anew above it.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(c)
        notice = cluster.network.gate(TellRequest, source=c.address, target=b.address)
        first = in_thread(lambda: cluster.group(c).set(key, OLD, wait=wait))
        notice.wait()
        assert cluster.group(c).get(key) == OLD
        cluster.source.value = NEW
        assert cluster.group(a).set(key, NEW) is True
        notice.open()
        assert first.result(5) is (True if wait else None)
        wait_until(lambda: not cluster.group(c)._core.behind._count())
        assert cluster.group(c).peek(key) == NEW
        cluster.assert_serves(key, NEW)


def test_write_that_is_superseded_while_a_listener_does_not_answer() -> None:
    """Return False: the listener may have what is older than either write.

    1. C, the owner, orders a write of A and then a later one.
    2. A goes on with the first, because a listener had not answered. It is superseded.
    3. True only if no listener is considered dead.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(c)
        owner, writer = (cluster.group(node)._core.writes for node in (c, a))
        (first,), (later,) = (owner.order([WriteItem(key, value)]) for value in (OLD, NEW))
        assert later > first
        again = [WriteItem(key, OLD, ordered=first)]
        assert drive(writer.write(again)) is True
        probes = cluster.consider_dead(a, b)
        assert drive(writer.write(again)) is False
        probes.open()
        assert cluster.group(c).get(key) == NEW


def test_get_among_endless_pending_writes() -> None:
    """Wait in a get for the writes that were pending when it began, not for later ones.

    1. C sets a key with wait=False; the request to its owner is held. C's get waits.
    2. Whenever a request is about to be answered, the next write is pending already.
    3. The get ends with its own write or a newer one.
    """
    with Cluster(3) as cluster:
        a, _, c = cluster.nodes
        key = cluster.key_of(a)
        group = cluster.group(c)
        cluster.source.value = b"0"
        numbers = itertools.count(1)
        ended = threading.Event()

        def write_again(parcel: Parcel) -> bool:
            if parcel.stage == "reply" and isinstance(parcel.message, WriteRequest) and not ended.is_set():
                cluster.source.value = str(next(numbers)).encode()
                group.set(key, cluster.source.value, wait=False)
            return False

        cluster.network._gates.append(Gate(write_again))
        group.set(key, b"0", wait=False)
        get = in_thread(group.get, key)
        try:
            assert int(get.result(5)) >= 0
        finally:
            ended.set()


def test_member_that_joins_while_a_write_is_sent() -> None:
    """Notify a member that joins in the middle of a write, or let it learn of the write by its hello.

    1. A deletes a key; B is not notified yet.
    2. C joins and asks for the key.
    3. B is notified; the delete returns True, and C was notified too.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(a)
        cluster.assert_serves(key, OLD)
        cluster.source.value = NEW
        tell = cluster.network.gate(TellRequest, target=b.address)
        delete = in_thread(cluster.group(a).delete, key)
        tell.wait()
        c = cluster.add()
        assert cluster.group(c).get(key) == NEW
        tell.open()
        assert delete.result(5) is True
        told = [p.target for p in cluster.network.sent if isinstance(p.message, TellRequest) and p.stage == "reply"]
        assert c.address in told
        cluster.assert_serves(key, NEW)


def test_values_that_a_joining_node_loaded_before_any_member_knew_it() -> None:
    """Send writes to a node that is still joining with the answer to its hello, before it has joined.

    1. C starts; its hellos are held. It loads a key for a caller of its own.
    2. A deletes the key and cannot know of C.
    3. The hellos go through; start returns: C does not serve the old value.
    """
    with Cluster(2) as cluster:
        a, _ = cluster.nodes
        key = cluster.key_of(a)
        c = cluster.make()
        hello = cluster.network.gate(Hello, source=None, target=a.address)
        starting = in_thread(c.start)
        hello.wait()
        assert c.groups["g"].get(key) == OLD
        cluster.source.value = NEW
        assert cluster.group(a).delete(key) is True
        hello.open()
        starting.result(6)
        cluster.nodes.append(c)
        assert c._membership.joined
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("use_async", [False, True])
def test_near_copy_that_arrives_after_the_tell(*, use_async: bool) -> None:
    """Refuse a near copy if the write came first.

    1. B asks A's memory for a key; the answer, hot, is held.
    2. The source changes; A deletes the key; B is notified: True.
    3. The answer arrives at B: its caller may have it, but it does not stay.
    """
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(a)
        assert cluster.group(a).get(key) == OLD
        group = cluster.group(b)
        reply = cluster.network.gate(Peek, stage="reply", source=b.address, target=a.address)
        get = in_thread(asyncio.run, group.aget(key)) if use_async else in_thread(group.get, key)
        reply.wait()
        cluster.source.value = NEW
        assert cluster.group(a).delete(key) is True
        reply.open()
        assert get.result(5) in {OLD, NEW}
        assert group.peek(key) in {None, NEW}
        cluster.assert_serves(key, NEW)


def test_near_copy_of_a_process_that_was_held_up_for_long() -> None:
    """Count the life of a near copy from the request, however long the answer took.

    1. B asks A's memory for a key that never expires; the answer is held.
    2. The source changes; the key is deleted: True.
    3. So much time passes that no node remembers the delete.
    4. The answer arrives: it does not stay.
    """
    with Cluster(3, ttl=None) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(a)
        assert cluster.group(a).get(key) == OLD
        reply = cluster.network.gate(Peek, stage="reply", source=b.address, target=a.address)
        get = in_thread(cluster.group(b).get, key)
        reply.wait()
        cluster.source.value = NEW
        assert cluster.group(a).delete(key) is True
        cluster.advance(100)
        wait_until(lambda: not any(group._core.store.known(key) for group in cluster.groups))
        reply.open()
        get.result(5)
        cluster.assert_serves(key, NEW)


def test_an_owner_whose_answer_is_older_is_told() -> None:
    """Tell an owner of a write that it has missed, as its answer shows, and ask it again.

    1. A owns a key and holds it; B knows of a write that A has missed.
    2. B gets the key: A's answer is refused, A is told of the write, and loads the key again.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(a)
        assert cluster.group(a).get(key) == OLD
        cluster.source.value = NEW
        cluster.group(b)._core.store.note(key, b._runtime.hlc.next())
        assert cluster.group(b).get(key) == NEW
        asked = [p for p in cluster.network.sent if isinstance(p.message, LoadRequest) and p.stage == "request"]
        assert len(asked) == 2
        assert cluster.source.loads[key] == 2
        assert [cluster.group(node).get(key) for node in (a, c)] == [NEW, NEW]


@pytest.mark.parametrize("kind", ["client", "without a loader", "member"])
def test_writes_that_overtake_every_load(kind: str) -> None:
    """Give a caller on another node what the owner loaded after the call began, however many writes come meanwhile.

    1. A node that cannot load, or could, gets a key; A, its owner, loads it.
    2. The source changes; A deletes the key: True. The load ends with the old value.
    3. The caller gets it, as one on A would. It is not kept: the next caller gets the new one.
    """
    with Cluster(2) as cluster:
        a, reader = cluster.nodes
        if kind != "member":
            reader = cluster.add(client=True) if kind == "client" else cluster.add(loader=False)
            cluster.settle()
        key = cluster.key_of(a)
        assert reader is not a
        for turn in range(3):
            hold = cluster.source.hold(key)
            get = in_thread(cluster.group(reader).get, key)
            hold.wait()
            cluster.source.value = NEW + str(turn).encode()
            assert cluster.group(a).delete(key) is True
            hold.open()
            assert get.result(5) == (OLD if turn == 0 else NEW + str(turn - 1).encode())
            assert cluster.group(reader).peek(key) is None
        assert cluster.source.loads[key] == 3
        cluster.assert_serves(key, NEW + b"2")


@pytest.mark.parametrize("how", ["frozen", "killed"])
def test_owner_that_does_not_answer_a_write(how: str) -> None:
    """Let the next candidate take the write; the result says whether a member was left out.

    1. The owner of a key is frozen, or its port is closed.
    2. Another node sets the key: False if the owner may still hold the old value.
    3. All others serve the new value.
    """
    with Cluster(3) as cluster:
        key = "key"
        owner, first, second = cluster.line(key)
        cluster.assert_serves(key, OLD)
        assert owner.address is not None
        if how == "frozen":
            cluster.network.freeze(owner.address)
        else:
            cluster.network.kill(owner.address)
        cluster.source.value = NEW
        done = cluster.group(second).set(key, b"newer")
        assert done is False or (how == "killed" and cluster.peer(second, owner).refused)  # nothing is served there
        for node in (first, second):
            assert cluster.group(node).get(key) == b"newer"
            assert cluster.group(node).get_many([key]) == {key: b"newer"}
        assert cluster.group(first).peek(key) == b"newer"


def test_revival_of_an_owner_that_was_frozen_during_a_delete() -> None:
    """Revive an owner that was silent during a write only once it has learned of the write.

    1. C owns a key and holds it; C is frozen.
    2. The source changes; A deletes the key: first False; once C is not listed and was silent for long, True.
    3. C answers again, and says hello to A by itself; A's answer to it is held.
    4. A and B get the key: C, whose memory has the old value, does not count as alive.
    5. The answer comes through; C is alive; no node serves the old value.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(c)
        cluster.assert_serves(key, OLD)
        assert c.address is not None
        cluster.network.freeze(c.address)
        cluster.source.value = NEW
        assert cluster.group(a).delete(key) is False
        wait_until(lambda: cluster.peer(a, c).dead and cluster.peer(b, c).dead)
        cluster.fall_silent(c)
        assert cluster.group(a).delete(key) is True
        answer = cluster.network.gate(Hello, stage="reply", source=c.address)
        ours = cluster.network.gate(Hello, target=c.address)
        cluster.network.thaw(c.address)
        c._membership.announce(groups=("g",), loads=("g",))
        answer.wait()
        for node in (a, b):
            assert cluster.group(node).get(key) == NEW
        ours.open()
        answer.open()
        wait_until(lambda: cluster.is_up(a, c) and cluster.is_up(b, c))
        cluster.assert_serves(key, NEW)


def test_revival_after_the_write_is_forgotten() -> None:
    """Empty the memory of a member that was away for longer than writes are remembered.

    1. C owns a key and holds it; C is cut off: it and the others consider each other dead.
    2. The source changes; A deletes the key: True once C is not listed and was silent for long; then no node remembers
       it any more.
    3. C answers again.
    """
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        key = cluster.key_of(c)
        cluster.assert_serves(key, OLD)
        assert c.address is not None
        cluster.network.freeze(c.address)
        cluster.source.value = NEW
        for node in (a, b):
            assert cluster.group(node).delete(key) is False
        wait_until(lambda: cluster.peer(a, c).dead and cluster.peer(b, c).dead)
        wait_until(lambda: cluster.peer(c, a).dead and cluster.peer(c, b).dead)
        cluster.fall_silent(c)
        assert cluster.group(a).delete(key) is True
        cluster.advance(100)
        wait_until(lambda: not any(cluster.group(node)._core.store.known(key) for node in (a, b)))
        cluster.network.thaw(c.address)
        c._membership.announce(groups=("g",), loads=("g",))
        wait_until(lambda: cluster.is_up(a, c) and cluster.is_up(b, c))
        cluster.assert_serves(key, NEW)


def test_flight_that_begins_while_a_write_is_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """End every flight with an old load inside before the write returns.

    1. B considers A, the owner, dead and loads the key itself; the load has read the old value.
    2. The source changes; A deletes the key. When B knows of it, and has not confirmed, a caller at B asks.
    3. The delete returned True: another caller at B asks, and must not wait for the old load.
    """
    with Cluster(3) as cluster:
        key = "key"
        a, b, _ = cluster.line(key)
        probes = cluster.consider_dead(b, a)
        group = cluster.group(b)
        hold = cluster.source.hold(key)
        first = in_thread(group.get, key)
        hold.wait()
        cluster.source.value = NEW
        told = Writes.told
        between: list[Future[Any]] = []

        def tell_and_ask(self: Writes, request: TellRequest) -> TellReply:
            reply = told(self, request)
            if self is group._core.writes:
                between.append(in_thread(group.get, key))
                assert between[0].result(5) == NEW
            return reply

        monkeypatch.setattr(Writes, "told", tell_and_ask)
        assert cluster.group(a).delete(key) is True
        assert between
        later = in_thread(group.get, key)
        assert later.result(5) == NEW
        hold.open()
        first.result(5)
        probes.open()
        cluster.assert_serves(key, NEW)


def test_caller_between_a_write_and_its_telling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a caller that asks when the write is known from joining an older load.

    1. A, the owner, loads a key for B; the load has read the old value.
    2. The source changes; A deletes the key: the version is known, no listener is notified yet. A caller at A asks.
    3. The delete returned True: another caller at A asks, and must not wait for the old load.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(a)
        hold = cluster.source.hold(key)
        first = in_thread(cluster.group(b).get, key)
        hold.wait()
        cluster.source.value = NEW
        order = Writes.order
        between: list[Future[Any]] = []

        def order_and_ask(self: Writes, items: Sequence[WriteItem]) -> list[int]:
            versions = order(self, items)
            between.append(in_thread(cluster.group(a).get, key))
            assert between[0].result(5) == NEW
            return versions

        monkeypatch.setattr(Writes, "order", order_and_ask)
        assert cluster.group(a).delete(key) is True
        later = in_thread(cluster.group(a).get, key)
        assert later.result(5) == NEW
        hold.open()
        first.result(5)
        cluster.assert_serves(key, NEW)


def test_node_that_is_closing_serves_nothing_old() -> None:
    """Serve nothing from memory after the goodbye, as the node is notified no more.

    1. A closes; its goodbye has arrived, but its answer is held.
    2. B deletes a key that A holds: True, and A was not notified.
    3. A caller in A's process asks.
    """
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(b)
        cluster.assert_serves(key, OLD)
        goodbye = cluster.network.gate(Hello, stage="reply", source=a.address)
        closing = in_thread(a.close)
        goodbye.wait()
        cluster.source.value = NEW
        assert cluster.group(b).delete(key) is True
        try:
            value = cluster.group(a).get(key)
        except NodeClosed:
            value = NEW
        assert value == NEW
        goodbye.open()
        closing.result(5)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_clock_that_is_days_ahead(caplog: pytest.LogCaptureFixture, wrong: int) -> None:
    """Take in no version of a node whose clock is days ahead, and say so.

    1. One node's clock is three days ahead of the others'.
    2. Every node sets every key: only writes that every node took in return True.
    3. The clocks of the others stay right, they see all members, and no node serves a value from before a True.
    """
    unix = [1000.0] * 3
    unix[wrong] += 3 * 86_400
    with Cluster(3, unix=tuple(unix)) as cluster:
        for number in range(20):
            for writer in cluster.groups:
                key = str(number)
                value = f"{number} by {cluster.groups.index(writer)}".encode()
                cluster.source.value = value
                if writer.set(key, value):
                    cluster.assert_serves(key, value)
        right = [node for at, node in enumerate(cluster.nodes) if at != wrong]
        for node in right:
            assert node._runtime.hlc.latest() >> 80 < (1000 + 86_400) * 1000
        wait_until(lambda: all(len(node.members()) == 3 for node in cluster.nodes))
        assert f"the clock of {cluster.nodes[wrong].address} is wrong" in caplog.text


def test_a_batch_that_fills_several_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again for the values that a full message left out, and that their owner has kept: each is loaded once."""
    monkeypatch.setattr(outcome, "_MESSAGE", 10)
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        keys = [key for key in (f"key{n}" for n in range(60)) if b.owner("g", key).id == b.id][:20]
        assert cluster.group(a).get_many(keys) == dict.fromkeys(keys, OLD)
        assert cluster.source.loads == dict.fromkeys(keys, 1)
