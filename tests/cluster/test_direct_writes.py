"""Writes and batches of threads over real sockets: what goes well without Python, and what Python goes on with."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Iterator

import pytest

from kamacache import Group, Member, Node, NodeClosed
from kamacache.cluster.routes import NO_PLACE
from kamacache.net.messages import Hello
from kamacache.write.cut import AT_ONCE
from tests.cluster.cluster import PATIENCE, wait_until
from tests.support.table import Table

VALUES = {str(number): str(number).encode() for number in range(300)}


class Three:
    """Three nodes that see no near copies, so that every get goes to the owner."""

    def __init__(self) -> None:
        self.table: dict[str | None, Member] = {}
        self.loads = itertools.count()
        self.source: dict[str, bytes] = {}
        self.nodes = [Node("127.0.0.1:0", registry=Table(self.table)) for _ in range(3)]
        self.groups: list[Group[bytes]] = [node.group("g", self.load, near_ttl=0) for node in self.nodes]
        for node in self.nodes:
            node.start()
        wait_until(lambda: all(len(node.members()) == 3 for node in self.nodes))
        wait_until(lambda: self.groups[0].set("settled", b"") is True)

    def load(self, key: str) -> bytes | None:
        next(self.loads)
        return self.source.get(key)

    def owned_by(self, owner: Node) -> str:
        return next(key for key in VALUES if self.nodes[0].owner("g", key).address == owner.address)


@pytest.fixture
def three() -> Iterator[Three]:
    three = Three()
    yield three
    for node in three.nodes:
        node.close(drain=0)


@pytest.mark.parametrize("way", ["thread", "task"])
def test_every_node_serves_what_one_wrote(three: Three, way: str) -> None:
    first, second, third = three.groups

    async def in_a_task() -> list[bool]:
        done = [await first.aset_many(VALUES), await second.adelete("7"), await third.aset("8", b"new")]
        assert [await group.aget("8") for group in three.groups] == [b"new"] * 3
        assert [await group.aget("9") for group in three.groups] == [b"9"] * 3
        return done

    if way == "task":
        assert asyncio.run(in_a_task()) == [True] * 3
    else:
        assert [first.set_many(VALUES), second.delete("7"), third.set("8", b"new")] == [True] * 3
    expected = {**VALUES, "8": b"new"}
    del expected["7"]
    before = next(three.loads)
    for group in three.groups:
        assert list(group.get_many(VALUES).items()) == list(expected.items())
        assert [group.get("7"), group.get("8")] == [None, b"new"]
    assert next(three.loads) - before <= 2  # of the deleted key alone: once, then its absence is known
    assert [group.stats().writes for group in three.groups] == [len(VALUES) + 1, 1, 1]


def test_a_write_above_what_a_listener_knows(three: Three) -> None:
    key = three.owned_by(three.nodes[0])

    def write() -> bool:
        """Set the key while a listener alone knows a version that is a second ahead."""
        far = three.groups[2]._core.runtime.hlc.latest() + (1000 << 80)
        three.groups[2]._core.store.note(key, far)
        return three.groups[1].set(key, b"new") and all(group._core.store.known(key) > far for group in three.groups)

    three.source[key] = b"new"  # loaded again if this process stands still: it may forget then
    # Not so at times just after the start, while hellos are under way: the owner may read of that version in one, as if
    # it were a later write, and the listener may forget it.
    wait_until(write)
    assert [group.get(key) for group in three.groups] == [b"new"] * 3


def test_a_batch_with_repeated_and_absent_keys(three: Three) -> None:
    assert three.groups[0].set_many({"1": b"1", "2": b"2", "3": b"3"}) is True
    asked = ["3", "none", "1", "3", "2", "none"]
    for group in three.groups:
        assert list(group.get_many(asked)) == ["3", "1", "2"]
        stats = group.stats()
        outcomes = stats.hits + stats.near_hits + stats.peer_hits + stats.absent + stats.loads + stats.peer_loads
        assert outcomes + stats.joined == stats.gets


@pytest.mark.parametrize("way", ["thread", "task"])
def test_a_member_that_accepts_and_never_answers(three: Three, way: str) -> None:
    """It costs the first write a second, is considered dead then, and makes the result False."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        three.table[address] = Member("ab" * 8, address, 1.0, ("g",))
        wait_until(lambda: any(peer.address == address for peer in three.nodes[0]._membership.peers.all()))
        for limit in (2.5, 0.5):
            begun = time.monotonic()
            write = three.groups[0].set_many
            done = write(VALUES) if way == "thread" else asyncio.run(three.groups[0].aset_many(VALUES))
            assert done is False
            assert time.monotonic() - begun < limit
        del three.table[address]
    assert three.groups[1].get_many(VALUES) == VALUES


def test_a_member_that_ends_between_two_writes(three: Three) -> None:
    key = three.owned_by(three.nodes[2])
    assert three.groups[0].set(key, b"1") is True
    three.nodes[2].close(drain=0)
    wait_until(lambda: three.groups[0].set(key, b"2") is True)
    assert [group.get(key) for group in three.groups[:2]] == [b"2", b"2"]


@pytest.mark.parametrize("way", ["thread", "task"])
def test_a_large_batch_goes_in_parts(three: Three, way: str) -> None:
    many = {f"many {number}": b"v" for number in range(2 * AT_ONCE + 1)}
    group = three.groups[0]
    assert (group.set_many(many) if way == "thread" else asyncio.run(group.aset_many(many))) is True
    assert [len(each.get_many(many)) for each in three.groups] == [len(many)] * 3
    assert group.stats().writes == len(many) + 1
    assert (group.delete_many(many) if way == "thread" else asyncio.run(group.adelete_many(many))) is True
    assert [each.get_many(many) for each in three.groups] == [{}] * 3


def test_a_write_finds_the_lane_closed(three: Three) -> None:
    """The node is being closed: the write says so, as other members are not to blame."""
    three.nodes[0]._runtime.lane.close()
    with pytest.raises(NodeClosed):
        three.groups[0].set_many({"1": b"1", "2": b"2"})
    with pytest.raises(NodeClosed):
        asyncio.run(three.groups[0].aset_many({"1": b"1", "2": b"2"}))


@pytest.mark.parametrize("way", ["thread", "task"])
def test_a_refused_write_is_tried_again_on_the_list_of_the_refusal(three: Three, way: str) -> None:
    """Learn of a member from the owner that gave way to it, while the registry does not show it to the writer.

    1. A fourth node joins; the first one, which writes, cannot read the list and has not been greeted by it.
    2. The first one sets a key that the fourth one owns now. The owner before is no candidate any more, as it would be
       among many members: it refuses, and names the members.
    """
    writer, other, _ = three.nodes

    def away(_: str) -> list[Member]:
        raise ConnectionError("the list is away")

    known = {peer.id for peer in writer._membership.peers.all()}

    def unheard(hello: Hello) -> Hello:
        """Answer the hello of a new member, and take no note of it."""
        new = hello.member.id not in known
        return writer._membership._exchange.hello(hello.member.id) if new else greeted(hello)

    writer._membership._registry.members = away  # type: ignore[method-assign,union-attr]
    greeted = writer._membership.greeted_by
    writer._membership.greeted_by = unheard  # type: ignore[method-assign]
    fourth = Node("127.0.0.1:0", registry=Table(three.table))
    fourth.group("g", three.load, near_ttl=0)
    with fourth:
        store = three.groups[1]._core.store
        wait_until(lambda: len(other.members()) == 4)
        for node in (writer, other):  # neither greets the fourth one any more: the writer would find that it is behind
            node._membership.stop()
            assert node._membership._thread is not None
            node._membership._thread.join(PATIENCE)
            assert not node._membership._thread.is_alive()
        owned = [key for key in map(str, range(200)) if other.owner("g", key) == fourth._membership.me]
        moved = [key for key in owned if writer.owner("g", key) == other._membership.me]
        group = three.groups[0]
        for key in moved:  # a late hello may renew the tables of the engine once more
            store.place(other._membership.route("g").placement, NO_PLACE)
            assert len(writer.members()) == 3
            assert (group.set(key, b"new") if way == "thread" else asyncio.run(group.aset(key, b"new"))) is True
            if len(writer.members()) == 4:
                break
        wait_until(lambda: fourth.groups["g"].peek(key) == b"new")  # its store is shut while it catches up
        assert [group.get(key) for group in three.groups[1:]] == [b"new"] * 2
