"""Deletes of tags and prefixes in a cluster, under schedules that the test decides.

A owns the key, B and C are other members, and the last node is a client node. Every value of the source has the tag
"user:7". `old` is what the source had before the delete, `new` what it has from then on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]
import pytest
import redis

from kamacache import Group, LoadError, Node, Value
from kamacache.deadline import Deadline
from kamacache.net.messages import LoadRequest, TellRequest, WriteRequest
from kamacache.testing import Network, Peek, override_loader
from tests.cli.conftest import Program
from tests.clients.nodes import bulk, command, connect, expect
from tests.cluster.cluster import PATIENCE, Cluster, Source, in_thread, wait_until
from tests.cluster.conftest import Processes
from tests.cluster.test_leases import Function

OLD, NEW, SET = b"old", b"new", b"set"
TAG = "user:7"
DELETES = ["tag", "prefix"]
LARGE = "many of the same words, " * 1000


class Tagged(Source):
    """A source whose values have tags."""

    def __init__(self) -> None:
        super().__init__()
        self.tags = [TAG, "all"]

    def load(self, key: str) -> Any:
        value = super().load(key)
        return None if value is None else Value(value, tags=self.tags)

    async def aload(self, key: str) -> Any:
        value = await super().aload(key)
        return None if value is None else Value(value, tags=self.tags)


def delete(group: Group[Any], how: str) -> Any:
    """Delete what is tagged, or all keys by their beginning."""
    return group.delete_tag(TAG) if how == "tag" else group.delete_prefix("k")


def make(count: int = 3, client: bool = False, **options: Any) -> Cluster:
    cluster = Cluster(count, source=Tagged(), **options)
    if client:
        cluster.add(loader=False, client=True)
        cluster.settle()
    return cluster


def is_kept(cluster: Cluster, key: str) -> bool:
    """Return whether the owner keeps the value: it is loaded no more."""
    before = cluster.source.loads[key]
    for group in cluster.groups:
        group.get(key)
    return cluster.source.loads[key] == before


# Loads under way.


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize(
    ("asker", "deleter", "use_async"),
    [(0, 1, False), (0, 3, True), (1, 0, True), (1, 2, False), (3, 1, False), (3, 3, True)],
)
def test_a_load_at_the_owner_that_read_the_source_before(asker: int, deleter: int, how: str, use_async: bool) -> None:
    """Drop the old value that a slow load brings after the delete.

    1. A node asks for the key: A loads it, and has read the source.
    2. The source changes; another node deletes: True, while the load goes on.
    3. Every node serves the new value.
    4. The load ends with the old one: its own caller may get it, no other.
    """
    with make(client=True, use_async=use_async) as cluster:
        key = cluster.key_of(cluster.nodes[0])
        hold = cluster.source.hold(key)
        first = in_thread(cluster.groups[asker].get, key)
        hold.wait()
        cluster.source.value = NEW
        assert delete(cluster.groups[deleter], how) is True
        later = [in_thread(group.get, key) for group in cluster.groups]
        assert {one.result(PATIENCE) for one in later} == {NEW}
        cluster.assert_serves(key, NEW)
        hold.open()
        assert first.result(PATIENCE) in {OLD, NEW}
        cluster.assert_serves(key, NEW)
        assert is_kept(cluster, key)


@pytest.mark.parametrize(("how", "deleter"), [("tag", 0), ("tag", 1), ("prefix", 2)])
def test_a_load_at_an_asker_that_considers_the_owner_dead(deleter: int, how: str) -> None:
    with make() as cluster:
        a, b, _ = cluster.line("key")
        probes = cluster.consider_dead(b, a)
        hold = cluster.source.hold("key")
        first = in_thread(cluster.group(b).get, "key")
        hold.wait()
        cluster.source.value = NEW
        done = delete(cluster.groups[deleter], how)
        assert done is True or cluster.nodes[deleter] is b
        assert in_thread(cluster.group(b).get, "key").result(PATIENCE) == NEW
        cluster.assert_serves("key", NEW)
        hold.open()
        assert first.result(PATIENCE) in {OLD, NEW}
        cluster.assert_serves("key", NEW)
        probes.open()
        wait_until(lambda: cluster.is_up(b, a))
        cluster.assert_serves("key", NEW)


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize(
    ("holder", "deleter", "many"), [(0, 1, False), (0, 0, True), (1, 0, False), (1, 1, True), (1, 2, False)]
)
def test_a_function_under_a_lease(many: bool, holder: int, deleter: int, how: str) -> None:
    """Keep nothing that a holder of a lease has read before the delete, though it sends it after.

    1. A node reads the source under its lease of A; another one deletes: True.
    2. A caller that asks now does not wait for it. The holder brings what it read: it is not kept.
    """
    with Cluster(0) as cluster:
        for _ in range(3):
            cluster.add(loader=False)
        cluster.settle()
        key = cluster.key_of(cluster.nodes[0])
        function = Function(Value(OLD, tags=TAG))
        group = cluster.groups[holder]
        first = function.begin(group.get_many_or_load if many else group.get_or_load, [key] if many else key)
        assert delete(cluster.groups[deleter], how) is True
        fresh = Function(Value(NEW, tags=TAG))
        fresh.go()
        answers = [in_thread(group.get_or_load, key, fresh) for group in reversed(cluster.groups)]
        assert {answer.result(PATIENCE) for answer in answers} == {NEW}
        function.go()
        assert first.result(PATIENCE) in (OLD, {key: OLD}, NEW, {key: NEW})
        assert [group.get(key) for group in cluster.groups] == [NEW] * 3
        assert len(fresh.calls) == 1
        assert delete(cluster.groups[deleter], how) is True
        assert [group.get(key) for group in cluster.groups] == [None] * 3


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize(
    ("message", "asker", "way"),
    [
        (Peek, 1, "get"),
        (Peek, 3, "get_many"),
        (Peek, 1, "aget"),
        (LoadRequest, 3, "get"),
        (LoadRequest, 1, "get_many"),
        (LoadRequest, 1, "aget"),
    ],
)
def test_a_copy_on_the_wire_while_the_delete_returns(message: Any, asker: int, way: str, how: str) -> None:
    """Hold A's answer with the old value, from its memory or from a load; delete: True. Then let it arrive."""
    with make(client=True) as cluster:
        a, c = cluster.nodes[0], cluster.nodes[2]
        key = cluster.key_of(a)
        if message is Peek:
            assert cluster.group(a).get(key) == OLD
        group = cluster.groups[asker]
        ask: Callable[[], Any] = {
            "get": lambda: group.get(key),
            "get_many": lambda: group.get_many([key])[key],
            "aget": lambda: asyncio.run(group.aget(key)),
        }[way]
        gate = cluster.network.gate(message, stage="reply", source=cluster.nodes[asker].address, target=a.address)
        gate_matches, gate.matches = gate.matches, lambda parcel: gate_matches(parcel) and not gate.parcels
        first = in_thread(ask)
        gate.wait()
        cluster.source.value = NEW
        assert delete(cluster.group(c), how) is True
        assert in_thread(ask).result(PATIENCE) == NEW
        cluster.assert_serves(key, NEW)
        gate.open()
        assert first.result(PATIENCE) in {OLD, NEW}
        cluster.assert_serves(key, NEW)


# Copies.


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize("deleter", [0, 1, 3])
def test_near_copies(deleter: int, how: str) -> None:
    """Keep copies everywhere; let the notice reach one node late; the delete waits for it, the others need not."""
    with make(client=True) as cluster:
        keys = [cluster.key_of(node) for node in cluster.nodes[:3]]
        for key in keys:
            cluster.assert_serves(key, OLD)
        assert all(group.peek(key) == OLD for group in cluster.groups for key in keys)
        cluster.source.value = NEW
        late = (deleter + 1) % 4
        tell = cluster.network.gate(TellRequest, target=cluster.nodes[late].address)
        write = cluster.network.gate(WriteRequest, target=cluster.nodes[late].address)
        call = in_thread(delete, cluster.groups[deleter], how)
        wait_until(lambda: tell.arrived.is_set() or write.arrived.is_set())
        assert not call.done()
        write.open()
        tell.open()
        assert call.result(PATIENCE) is True
        assert all(group.peek(key) in {None, NEW} for group in cluster.groups for key in keys)
        for key in keys:
            cluster.assert_serves(key, NEW)
            assert is_kept(cluster, key)


def test_only_what_has_the_tag_is_loaded_anew() -> None:
    with make(client=True) as cluster:
        keys = [f"key{number}" for number in range(30)]
        cluster.groups[0].get_many(keys[:15])
        tags = cluster.source.tags  # type: ignore[attr-defined]
        tags[:] = ["user:8"]
        cluster.groups[1].get_many(keys[15:])
        cluster.groups[2].set("bare", SET)
        cluster.source.loads.clear()
        assert cluster.groups[3].delete_tag(TAG) is True
        for group in cluster.groups:
            group.get_many(keys)
            assert group.get("bare") == SET
        assert cluster.source.loads == dict.fromkeys(keys[:15], 1)


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize("held", ["notice", "peek", "both"])
def test_a_former_owner(held: str, how: str) -> None:
    """Delete while a former owner still holds the value.

    1. A loads keys; C joins and takes some over: A holds them as a former owner.
    2. The source changes; B deletes. A is not notified yet, or its answer to C's peek is on the wire.
    3. C gets the key: it refuses what A shows.
    """
    with make(2) as cluster:
        a, b = cluster.nodes
        c, key = cluster.move()
        peek = cluster.network.gate(Peek, stage="reply", source=c.address, target=a.address)
        tell = cluster.network.gate((TellRequest, WriteRequest), target=a.address)
        if held == "notice":
            peek.open()
        if held == "peek":
            tell.open()
        first = in_thread(cluster.group(c).get, key) if held != "notice" else None
        if first is not None:
            peek.wait()
            peek.matches = lambda _: False
        cluster.source.value = NEW
        call = in_thread(delete, cluster.group(b), how)
        if held == "peek":
            assert call.result(PATIENCE) is True
            assert in_thread(cluster.group(c).get, key).result(PATIENCE) == NEW
        else:
            tell.wait()
        if held == "notice" and cluster.group(c).get(key) == OLD:  # the notice may not have been sent to C yet
            assert not call.done()
        peek.open()
        tell.open()
        assert call.result(PATIENCE) is True
        if first is not None:
            assert first.result(PATIENCE) in {OLD, NEW}
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("hot", [False, True])
@pytest.mark.parametrize("way", ["get", "aget", "get_many", "aget_many"])
def test_an_owner_that_has_not_heard_of_the_delete(way: str, hot: bool) -> None:
    """Refuse what is older than a delete that the asker knows, and tell the owner, which loads it then.

    1. A holds a value with many tags. B deletes one of which A is not the first to hear; the notice to A is held.
    2. B gets the key: it knows of the delete, A does not.
    """
    with make(network=Network(hot=hot)) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(a)
        tags = cluster.source.tags  # type: ignore[attr-defined]
        tags[:] = [f"tag{number}" for number in range(20)]
        assert cluster.group(b).get(key) == OLD
        tell = cluster.network.gate(TellRequest, source=b.address, target=a.address)
        for tag in tags:
            call = in_thread(cluster.group(b).delete_tag, tag)
            wait_until(lambda call=call: call.done() or tell.arrived.is_set())  # type: ignore[misc]
            if tell.arrived.is_set():
                break
            cluster.group(b).get(key)
        cluster.source.value = NEW
        tell.matches = lambda _: False  # it is told by other ways
        group = cluster.group(b)
        assert not call.done()
        match way:
            case "get":
                assert group.get(key) == NEW
            case "aget":
                assert asyncio.run(group.aget(key)) == NEW
            case "get_many":
                assert group.get_many([key]) == {key: NEW}
            case "aget_many":
                assert asyncio.run(group.aget_many([key])) == {key: NEW}
        tell.open()
        assert call.result(PATIENCE) is True
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("how", DELETES)
def test_a_member_that_joins_during_the_delete(how: str) -> None:
    """Hold the notice to A; D joins and takes the old value over from A; the delete waits for D as well."""
    with make(3) as cluster:
        a, b, _ = cluster.nodes
        keys = [f"key{number}" for number in range(60)]
        owned = [key for key in keys if a.owner("g", key).id == a.id]
        cluster.group(b).get_many(keys)
        tell = cluster.network.gate((TellRequest, WriteRequest), target=a.address)
        cluster.source.value = NEW
        call = in_thread(delete, cluster.group(b), how)
        tell.wait()
        d = cluster.add()
        cluster.settle()
        key = next(key for key in owned if a.owner("g", key).id == d.id)
        assert cluster.group(d).get(key) in {OLD, NEW}
        tell.open()
        assert call.result(PATIENCE) is True
        cluster.assert_serves(key, NEW)


# Members out of reach.


@pytest.mark.parametrize(("how", "forgotten"), [("tag", False), ("tag", True), ("prefix", False)])
def test_a_member_that_was_frozen_during_the_delete(forgotten: bool, how: str) -> None:
    """Return False; the member answers again only when it has fetched what it missed, or emptied its memory."""
    with make(3) as cluster:
        a, b, c = cluster.nodes
        keys = [cluster.key_of(node) for node in cluster.nodes]
        for key in keys:
            cluster.assert_serves(key, OLD)
        assert c.address is not None
        cluster.network.freeze(c.address)
        cluster.source.value = NEW
        assert delete(cluster.group(a), how) is False
        for key in keys:
            assert [cluster.group(node).get(key) for node in (a, b)] == [NEW] * 2
        wait_until(lambda: cluster.peer(a, c).dead and cluster.peer(b, c).dead)
        wait_until(lambda: cluster.peer(c, a).dead and cluster.peer(c, b).dead)
        cluster.fall_silent(c)
        assert delete(cluster.group(a), how) is True
        if forgotten:
            cluster.advance(100)
            wait_until(lambda: not any(cluster.group(node).stats().remembered for node in (a, b)))
        cluster.network.thaw(c.address)

        def is_back() -> bool:
            # again, as its thread may have taken it in before the thaw
            c._membership.announce(groups=("g",), loads=("g",))
            return cluster.is_up(a, c) and cluster.is_up(b, c)

        wait_until(is_back)
        for key in keys:
            cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("how", DELETES)
def test_a_member_that_others_could_not_reach_during_the_delete(how: str) -> None:
    with make(3) as cluster:
        a, b, c = cluster.nodes
        keys = [cluster.key_of(node) for node in cluster.nodes]
        for key in keys:
            cluster.assert_serves(key, OLD)
        gates = [cluster.consider_dead(node, c) for node in (a, b)]
        cluster.source.value = NEW
        assert delete(cluster.group(a), how) is False
        for key in keys:
            assert [cluster.group(node).get(key) for node in (a, b)] == [NEW] * 2
        for gate in gates:
            gate.open()
        wait_until(lambda: cluster.is_up(a, c) and cluster.is_up(b, c))
        for key in keys:
            cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("dead", [0, 1, 2])
@pytest.mark.parametrize("held", [False, True])
def test_the_death_of_a_member(dead: int, held: bool) -> None:
    """Kill a member before the delete, or while the load of its key is under way elsewhere; whoever orders the tag."""
    with make(3) as cluster:
        victim = cluster.nodes[dead]
        others = [node for node in cluster.nodes if node is not victim]
        keys = [cluster.key_of(node) for node in cluster.nodes]
        cluster.network.hot = False
        for key in keys:
            cluster.group(others[0]).get(key)
        assert victim.address is not None
        cluster.network.kill(victim.address)
        cluster.network.unregister(victim.address)
        hold = cluster.source.hold(keys[dead]) if held else None
        first = in_thread(cluster.group(others[0]).get, keys[dead])
        if hold is not None:
            wait_until(lambda: hold.arrived.is_set() or first.done())
        cluster.source.value = NEW
        deletes = [delete(cluster.group(node), "tag") for node in others]
        for key in keys:
            assert {in_thread(cluster.group(node).get, key).result(PATIENCE) for node in others} == {NEW}, deletes
        if hold is not None:
            hold.open()
        assert first.result(PATIENCE) in {OLD, NEW}
        victim.close(drain=0)
        cluster.nodes.remove(victim)
        wait_until(lambda: all(len(node.members()) == 2 for node in others))
        cluster.settle()
        assert delete(cluster.group(others[1]), "tag") is True
        for key in keys:
            cluster.assert_serves(key, NEW)


# Clocks.


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize(
    ("unix", "deleter"), [((50_000.0, 10.0, 1000.0), 1), ((10.0, 50_000.0, 1000.0), 0), ((1000.0, 10.0, 50_000.0), 2)]
)
def test_clocks_that_differ(deleter: int, unix: tuple[float, ...], how: str) -> None:
    """Load, delete and set by turns; each drops what was before, and keeps what comes after."""
    with make(3, unix=unix) as cluster:
        keys = [cluster.key_of(node) for node in cluster.nodes]
        holds = [cluster.source.hold(key) for key in keys]
        calls = [in_thread(cluster.groups[1].get, key) for key in keys]
        for hold in holds:
            hold.wait()
        cluster.source.value = NEW
        assert delete(cluster.groups[deleter], how) is True
        for key in keys:
            cluster.assert_serves(key, NEW)
            assert is_kept(cluster, key)
        for hold in holds:
            hold.open()
        assert {call.result(PATIENCE) for call in calls} <= {OLD, NEW}
        for writer in cluster.groups:
            for key in keys:
                cluster.assert_serves(key, NEW)
                assert writer.set(key, SET, tags=TAG) is True
                cluster.assert_serves(key, SET)
            assert delete(cluster.groups[deleter], how) is True
            for key in keys:
                cluster.assert_serves(key, NEW)


@pytest.mark.parametrize(("how", "tag"), [("tag", "a"), ("tag", "b"), ("tag", "c"), ("prefix", "a")])
def test_a_delete_covers_a_write_of_which_its_node_never_heard(tag: str, how: str) -> None:
    """Cover an earlier write, although the deleting node never saw the version of that write.

    1. A, its clock far ahead, sets a key with a tag; the notice to C is lost.
    2. The source changes; C, its clock behind, deletes: if that is True, no node serves what was set.
    """
    with make(3, unix=(50_000.0, 10.0, 10.0)) as cluster:
        a, _, c = cluster.nodes
        key = cluster.key_of(a)
        probes = cluster.consider_dead(a, c)
        assert cluster.group(a).set(key, OLD, tags=tag) is False
        cluster.source.value = NEW
        group = cluster.group(c)
        assert (group.delete_tag(tag) if how == "tag" else group.delete_prefix("k")) is True
        cluster.assert_serves(key, NEW)
        probes.open()
        wait_until(lambda: cluster.is_up(a, c))
        cluster.assert_serves(key, NEW)


# Beside other writes.


def test_wait_false_and_a_get_on_the_same_node() -> None:
    """Let this node see its own delete at once, though no message of it has left."""
    with make(client=True) as cluster:
        keys = [cluster.key_of(node) for node in cluster.nodes[:3]]
        for key in keys:
            cluster.assert_serves(key, OLD)
        for group in cluster.groups:
            cluster.source.value = NEW
            assert group.delete_tag(TAG, wait=False) is None
            calls = [in_thread(group.get, key) for key in keys]
            assert {call.result(PATIENCE) for call in calls} == {NEW}
            assert set(asyncio.run(group.aget_many(keys)).values()) == {NEW}
            assert group._core.behind.flush(Deadline.after(PATIENCE))
            for key in keys:
                cluster.assert_serves(key, NEW)
            cluster.source.value = OLD
            assert group.delete_tag("all") is True
            for key in keys:
                cluster.assert_serves(key, OLD)


def test_a_set_and_a_delete_of_its_tag_that_are_both_pending() -> None:
    """Let A set a key of its own and delete the tag with wait=False; hold the delete, which another node orders."""
    with make() as cluster:
        a = cluster.nodes[0]
        group, key = cluster.group(a), cluster.key_of(a)
        held = 0
        for number in range(10):
            gate = cluster.network.gate(WriteRequest, source=a.address)
            group.set(key, SET, tags=f"tag{number}", wait=False)
            group.delete_tag(f"tag{number}", wait=False)
            wait_until(lambda gate=gate: gate.arrived.is_set() or not group._core.store.pending)  # type: ignore[misc]
            held += gate.arrived.is_set()
            assert group.peek(key) != SET
            call = in_thread(group.get, key)
            gate.open()
            assert call.result(PATIENCE) == OLD
            cluster.assert_serves(key, OLD)
        assert held


def test_a_load_under_way_at_a_delete_with_wait_false() -> None:
    with make(client=True) as cluster:
        key = cluster.key_of(cluster.nodes[0])
        for group in cluster.groups:
            cluster.source.value = OLD
            group.delete_tag(TAG)
            hold = cluster.source.hold(key)
            first = in_thread(group.get, key)
            hold.wait()
            cluster.source.value = NEW
            assert group.delete_tag(TAG, wait=False) is None
            assert in_thread(group.get, key).result(PATIENCE) == NEW
            hold.open()
            assert first.result(PATIENCE) in {OLD, NEW}
            assert group._core.behind.flush(Deadline.after(PATIENCE))
            cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("other", ["tag", "prefix", "clear"])
@pytest.mark.parametrize("nodes", [(0, 1), (2, 0), (1, 1)])
def test_two_deletes_at_once(nodes: tuple[int, int], other: str) -> None:
    """Hold the notices of two deletes until both are under way; what is tagged after them is kept."""
    with make() as cluster:
        keys = [cluster.key_of(node) for node in cluster.nodes]
        for key in keys:
            cluster.assert_serves(key, OLD)
        cluster.source.value = NEW
        tells = cluster.network.gate((TellRequest, WriteRequest))
        first, second = (cluster.groups[number] for number in nodes)
        calls: list[Future[Any]] = [in_thread(first.delete_tag, TAG)]
        tells.wait()
        begun = len(tells.parcels)
        calls.append(in_thread(second.clear) if other == "clear" else in_thread(delete, second, other))
        wait_until(lambda: len(tells.parcels) > begun)
        tells.open()
        results = [call.result(PATIENCE) for call in calls]
        assert results == [True, True] or (other == "clear" and results[1]), "which came later may not be known"
        for key in keys:
            cluster.assert_serves(key, NEW)
            assert is_kept(cluster, key)
            for group in cluster.groups:
                assert group.set(key, SET, tags=[TAG, "other"]) is True
                cluster.assert_serves(key, SET)
        assert second.delete_tag("other") is True
        for key in keys:
            cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("writer", [0, 1, 3])
@pytest.mark.parametrize("again", ["clear", "tag", "prefix"])
def test_what_is_tagged_after_a_clear(writer: int, again: str) -> None:
    """Set and load values with tags after every kind of delete: they are kept, and can be deleted."""
    with make(client=True) as cluster:
        keys = [cluster.key_of(node) for node in cluster.nodes[:3]]
        for group in cluster.groups:
            group.get_many(keys)
        group = cluster.groups[writer]
        for _ in range(2):
            assert (group.clear() if again == "clear" else delete(group, again)) is True
            for key in keys:
                cluster.assert_serves(key, OLD)
                assert is_kept(cluster, key)
                assert cluster.groups[0].set(key, SET, tags=TAG) is True
                cluster.assert_serves(key, SET)
        assert cluster.groups[2].delete_tag(TAG) is True
        for key in keys:
            cluster.assert_serves(key, OLD)


@pytest.mark.parametrize("setter", [0, 1, 2, 3])
@pytest.mark.parametrize("how", DELETES)
def test_a_set_that_is_under_way(setter: int, how: str) -> None:
    """Hold the messages of a set with the tag; delete: it is before or after, and the same everywhere."""
    with make(client=True) as cluster:
        key = cluster.key_of(cluster.nodes[0])
        tells = cluster.network.gate((TellRequest, WriteRequest), source=cluster.nodes[setter].address)
        call = in_thread(lambda: cluster.groups[setter].set(key, SET, tags=TAG))
        tells.wait()
        tells.matches = lambda _: False
        assert delete(cluster.groups[(setter + 1) % 3], how) is True
        tells.open()
        assert call.result(PATIENCE) in {True, False}  # False: which of the two came later is not known
        values = {cluster.groups[number].get(key) for number in range(4)}
        assert len(values) == 1
        assert values <= {OLD, SET}
        cluster.assert_serves(key, *values)
        assert delete(cluster.groups[setter], how) is True
        cluster.assert_serves(key, OLD)


@pytest.mark.parametrize("actor", [0, 1, 2, 3])
def test_primitives_at_other_nodes_keep_the_tags(actor: int) -> None:
    with make(client=True, codec="json") as cluster:
        cluster.source.value = None
        group: Any = cluster.groups[actor]
        key, other = cluster.key_of(cluster.nodes[0]), cluster.key_of(cluster.nodes[1])
        group.set_many({key: 1, other: 5}, tags=["n", TAG])
        assert [group.incr(key), group.incr(key)] == [2, 3]
        assert group.touch(other, 100) is True
        groups: list[Group[Any]] = list(cluster.groups)
        assert {one.get(key) for one in groups for _ in range(2)} == {3}
        assert {one.get(other) for one in groups for _ in range(2)} == {5}
        entry = group.get_entry(other)
        assert (entry.value, entry.stale) == (5, False)
        assert cluster.groups[(actor + 1) % 3].delete_tag("n") is True
        assert {one.get(at) for one in cluster.groups for at in (key, other)} == {None}
        assert group.get_entry(other) is None
        with pytest.raises(KeyError):
            group.incr(key)
        assert group.touch(other, 100) is False
        assert group.pop(key, "none") == "none"
        assert group.add(other, 7) is True
        assert {one.get(other) for one in groups} == {7}


@pytest.mark.parametrize("asker", [0, 1, 3])
@pytest.mark.parametrize("options", [{"stale_while_revalidate": 1000}, {"stale_if_error": 1000}], ids=["swr", "error"])
@pytest.mark.parametrize("how", DELETES)
def test_an_old_value_is_not_answered_after_the_delete(how: str, options: Any, asker: int) -> None:
    """Let copies be past their ttl everywhere; hold the load that one of them began; delete; fail the next load."""
    with make(client=True, ttl=10, **options) as cluster:
        key = cluster.key_of(cluster.nodes[0])
        cluster.assert_serves(key, OLD)
        cluster.advance(11)
        hold = cluster.source.hold(key)
        first = in_thread(cluster.groups[asker].get, key)
        hold.wait()
        cluster.source.value = NEW
        assert delete(cluster.groups[2], how) is True
        assert {in_thread(group.get, key).result(PATIENCE) for group in cluster.groups} == {NEW}
        hold.open()
        assert first.result(PATIENCE) in {OLD, NEW}
        cluster.assert_serves(key, NEW)
        cluster.advance(6)
        cluster.assert_serves(key, NEW)


@pytest.mark.parametrize("how", DELETES)
@pytest.mark.parametrize("loader", [True, False])
@pytest.mark.parametrize("asker", [0, 1])
def test_an_old_value_is_no_answer_for_a_load_that_failed_after_the_delete(asker: int, loader: bool, how: str) -> None:
    """Hold a load in the place of which an old value would be answered; delete its tag; let the load fail."""
    with Cluster(0, source=Tagged(), ttl=10, stale_if_error=1000) as cluster:
        for _ in range(3):
            cluster.add(loader=loader)
        cluster.settle()
        key, source, group = cluster.key_of(cluster.nodes[0]), cluster.source, cluster.groups[asker]
        down = False

        def load(key: str) -> Any:
            value = source.load(key)
            if down:
                raise ConnectionError("the database is down")
            return value

        def ask() -> Any:
            return group.get(key) if loader else group.get_or_load(key, load)

        with ExitStack() as overridden:
            for one in cluster.groups if loader else ():
                overridden.enter_context(override_loader(one, load))
            assert ask() == OLD
            cluster.advance(11)
            hold = source.hold(key)
            call = in_thread(ask)
            hold.wait()
            assert delete(cluster.groups[2], how) is True
            down = True
            hold.open()
            with pytest.raises(LoadError):
                call.result(PATIENCE)
            for other in cluster.groups:
                assert other.peek(key) is None


def test_cached_functions() -> None:
    """Delete the tag of a result everywhere, from any node, also while the function runs."""
    runs: list[str] = []
    value = "old"
    with Cluster(0) as cluster:
        functions: list[Any] = []
        for _ in range(3):
            node = cluster.make(group=False)

            def by_result(result: str, user_id: int) -> list[str]:
                return [f"user:{user_id}", result]

            @node.cached(name="plain", tags=by_result)
            def plain(user_id: int) -> str:
                runs.append(value)
                return value

            @node.cached(name="coroutine", tags="user:{user_id}")
            async def coroutine(user_id: int) -> str:
                runs.append(value)
                return value

            functions += [plain, lambda user_id, ask=coroutine: asyncio.run(ask(user_id))]
            node.start()
            cluster.nodes.append(node)
        cluster_of = cluster.nodes
        wait_until(lambda: all(len(node.members()) == 3 for node in cluster_of))
        wait_until(lambda: all(peer.greeted for node in cluster_of for peer in node._membership.peers.all()))
        for number, node in enumerate(cluster_of):
            assert {function(user) for function in functions for user in range(5)} == {value}
            value = f"new {number}"
            assert node.delete_tag("user:1") is True
            assert {function(1) for function in functions} == {value}
            assert asyncio.run(node.adelete_tag("user:2")) is True
            assert {function(2) for function in functions} == {value}
            for user in (0, 3, 4):
                assert node.delete_tag(f"user:{user}") is True


# Others that read.


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[list[Node]]:
    """Make two nodes over real sockets, whose groups have tagged values of every form."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(registry=f"local://{tmp_path}/reg", service="tags")) for _ in range(2)]
        for node in nodes:
            node.group("g", lambda key: Value(key.encode(), tags=[TAG, "all"]))
            node.group("packed", lambda _: Value(LARGE, tags=TAG), codec="text", compress_above=100)
            node.group("docs", lambda _: Value({"a": 1}, tags=TAG), codec="json")
        keys = [f"key{number}" for number in range(50)]
        wait_until(lambda: all({node.owner("g", key).id for key in keys} == {n.id for n in nodes} for node in nodes))
        yield nodes


def test_clients_see_the_bare_value(pair: list[Node]) -> None:
    """Read tagged values by RESP and gRPC, loaded and set, in memory of the node that is asked and not."""
    own, other = (next(f"key{n}" for n in range(99) if pair[0].owner("g", f"key{n}").id == node.id) for node in pair)
    pair[1].groups["g"].set("n", b"41", tags=TAG)
    pair[0].groups["g"].set("\xc1", b"\xc1t", tags=TAG)
    for _ in range(2):
        for node in pair:
            with connect(node) as wire:
                for key in (own, other):
                    wire.sendall(command(b"GET", b"g:" + key.encode()))
                    expect(wire, bulk(key.encode()))
            with connect(node) as wire:
                wire.sendall(command(b"MGET", b"g:" + own.encode(), b"g:" + other.encode(), "g:\xc1".encode()))
                expect(wire, b"*3\r\n" + bulk(own.encode()) + bulk(other.encode()) + bulk(b"\xc1t"))
                wire.sendall(command(b"GET", b"packed:" + own.encode()))
                expect(wire, bulk(LARGE.encode()))
                wire.sendall(command(b"GET", b"docs:" + own.encode()))
                expect(wire, bulk(b'{"a":1}'))
                wire.sendall(command(b"EXISTS", b"g:n"))
                expect(wire, b":1\r\n")
            with grpc.insecure_channel(str(node.address), options=[("grpc.default_authority", "localhost")]) as channel:
                get = channel.unary_unary("/pb.KamaCache/Get")
                for group, key, value in (
                    ("g", own, own.encode()),
                    ("g", other, other.encode()),
                    ("g", "n", b"41"),
                    ("docs", own, b'{"a":1}'),
                ):
                    message = b"\n%c%s\x12%c%s" % (len(group), group.encode(), len(key), key.encode())
                    assert get(message, timeout=PATIENCE) == b"\n%c%s" % (len(value), value)
                message = b"\n\x06packed\x12%c%s" % (len(own), own.encode())
                assert get(message, timeout=PATIENCE)[3:].endswith(LARGE.encode()[-1000:])
                assert len(get(message, timeout=PATIENCE)) == len(LARGE) + 4
    client = redis.Redis(unix_socket_path=str(pair[0].address).removeprefix("unix:"))
    assert client.incr("g:n") == 42
    assert client.get("g:n") == b"42"
    assert client.set("g:own", "xx", xx=True, get=True) is None
    assert client.getdel(f"g:{other}") == other.encode()
    assert client.getex(f"g:{own}", ex=100) == own.encode()
    assert pair[1].delete_tag(TAG) is True
    assert client.exists("g:n", f"g:{own}", "packed:x") == 0
    assert client.get(f"g:{own}") == own.encode()
    client.close()


def test_answers_of_memory_that_are_older_than_a_delete_known_here(pair: list[Node]) -> None:
    """Refuse what the owner's memory answers, over real sockets, as long as the owner has not heard of the delete."""
    values = [b"old"] * 2
    groups = [
        node.group("late", lambda _, at=at: Value(values[at], tags=TAG), near_ttl=0)  # type: ignore[misc]
        for at, node in enumerate(pair)
    ]
    keys = [f"key{number}" for number in range(60)]
    wait_until(lambda: len({str([node.owner("late", key) for key in keys]) for node in pair}) == 1)
    owned = [key for key in keys if pair[1].owner("late", key).id == pair[0].id][:8]
    group = groups[1]
    store = group._core.store

    async def tasks(ways: list[list[str]]) -> list[Any]:
        (one,), many = ways
        await group.aget("another")  # the loop has its own connection by now
        return [await group.aget(one), *(await group.aget_many(many)).values()]

    for by_task in (False, True):
        values[:] = [b"old"] * 2
        assert groups[0].delete_tag(TAG) is True
        assert set(groups[0].get_many(owned).values()) == {b"old"}
        assert set(group.get_many(owned).values()) == {b"old"}
        values[:] = [b"new"] * 2
        store.note(f"\0tag\0{TAG}", store.known(f"\0tag\0{TAG}") + (1 << 64))
        if by_task:
            assert set(asyncio.run(tasks([owned[:1], owned[1:]]))) == {b"new"}
        else:
            assert group.get(owned[0]) == b"new"
            assert set(group.get_many(owned[1:]).values()) == {b"new"}


def test_the_command_line_prints_the_bare_value(pair: list[Node], tmp_path: Path) -> None:
    program = Program(tmp_path)
    node = str(pair[0].address)
    assert program.out("get", "packed", "k", "--node", node, "--service", "tags") == LARGE


# Real processes.


def test_tagged_values_of_three_processes(local_processes: Processes) -> None:
    """Keep tagged values everywhere, near copies included; delete their tag while all read; none is read after that."""
    workers = local_processes.make(3)
    keys = [f"key{number}" for number in range(9)]
    for turn in range(3):
        writer, deleter = workers[turn % 3], workers[(turn + 1) % 3]
        old, tag = f"turn {turn}", f"turn{turn % 2}"
        assert writer.do("set_tagged", keys, old, [tag, "all"]) is True
        for worker in workers:
            worker.do("watch", keys)
        for _ in range(5):
            assert all(set(worker.do("get_many", keys)[0].values()) == {old} for worker in workers)
        done, confirmed = deleter.do("delete_tag", "all" if turn else tag)
        assert done is True
        reads = [worker.do("get_many", keys)[0] for worker in workers]
        assert reads == [{key: f"value of {key}" for key in keys}] * 3
        time.sleep(0.1)
        for worker in workers:
            begun = worker.do("seen")
            assert begun.get(old, 0.0) <= confirmed
            assert set(begun) <= {old, *(f"value of {key}" for key in keys)}
