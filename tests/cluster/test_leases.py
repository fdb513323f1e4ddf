"""get_or_load in a cluster whose members have no loader, under schedules that the test decides.

A is the owner of the key, B the first who asks; each docstring is the schedule.
"""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kamacache import Group, LoadError, LoadTimeout, Node, Overloaded
from kamacache.deadline import Deadline
from kamacache.errors import PeerError
from kamacache.load.grant import Leases
from kamacache.net.messages import Answer, FillReply, FillRequest, LoadRequest
from kamacache.steps import Wait
from kamacache.testing import Network, Parcel
from tests.cluster.cluster import PATIENCE, Cluster, in_thread, wait_until
from tests.cluster.conftest import Processes
from tests.cluster.shop import Shop, users

Members = tuple[Cluster, str, Group[bytes], Group[bytes], Group[bytes]]


@contextmanager
def members(network: Network | None = None, **options: Any) -> Iterator[Members]:
    """Make three members without loaders, and a key; return its owner's group first, then those of the others."""
    with Cluster(0, network=network, **options) as cluster:
        for _ in range(3):
            cluster.add(loader=False)
        cluster.settle()
        a, b, c = cluster.nodes
        yield cluster, cluster.key_of(a), cluster.group(a), cluster.group(b), cluster.group(c)


class Function:
    """A function for get_or_load that waits until it is told to go on."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.calls: list[Any] = []
        self.begun = threading.Event()
        self._go = threading.Event()

    def go(self) -> None:
        self._go.set()

    def __call__(self, argument: Any) -> Any:
        self.calls.append(argument)
        self.begun.set()
        assert self._go.wait(PATIENCE), "it was never told to go on"
        if isinstance(self.value, BaseException):
            raise self.value
        return dict.fromkeys(argument, self.value) if isinstance(argument, list) else self.value

    def begin(self, method: Callable[..., Any], key: Any) -> Future[Any]:
        """Call a method with a key and this function, and return when the function runs."""
        call = in_thread(method, key, self)
        assert self.begun.wait(PATIENCE), "it was not called"
        return call


def value(text: bytes) -> Callable[[str], bytes]:
    return lambda _: text


def owned(node: Node, keys: list[str]) -> list[str]:
    """Return those of the keys that this node owns."""
    return [key for key in keys if node._membership.route("g").first(key) is None]


def leases(group: Group[bytes]) -> int:
    return len(group._core.misses.local.loaded.leases)


def wait_for_joins(cluster: Cluster, count: int) -> None:
    """Wait until so many loads were requested. Those that join in their own process need a moment."""
    wait_until(lambda: sum(isinstance(parcel.message, LoadRequest) for parcel in requests(cluster.network)) >= count)
    time.sleep(0.05)


def requests(network: Network) -> list[Parcel]:
    return [parcel for parcel in list(network.sent) if parcel.stage == "request"]


def taken(network: Network) -> list[bool]:
    """Return what owners have said to fills, in order."""
    replies = [parcel.reply for parcel in list(network.sent) if parcel.stage == "reply"]
    return [one for reply in replies if isinstance(reply, FillReply) for one in reply.taken]


def test_one_runs_and_everyone_who_asks_meanwhile_gets_its_value() -> None:
    """Ask everywhere at once, with and without a function, in threads and tasks, on members and a client node."""
    with members() as (cluster, key, a, b, c):
        client = cluster.make(loader=False, client=True)
        client.start()
        function, other = Function(b"value"), Function(b"other")
        first = function.begin(b.get_or_load, key)
        groups = [a, b, c, client.groups["g"]]
        calls = [in_thread(group.get_or_load, key, other) for group in groups]
        calls += [in_thread(group.get, key) for group in groups]
        calls += [in_thread(asyncio.run, group.aget_or_load(key, other)) for group in groups]
        calls += [in_thread(group.get_many, [key]) for group in groups]
        wait_for_joins(cluster, 3)
        assert not any(call.done() for call in (first, *calls))
        function.go()
        assert [call.result(PATIENCE) for call in (first, *calls)] == [b"value"] * 13 + [{key: b"value"}] * 4
        assert (function.calls, other.calls) == ([key], [])
        assert a.peek(key) == b"value"
        assert client.groups["g"].get_or_load(key, other) == b"value"
        assert leases(a) == 0
        client.close(drain=0)


def test_the_owner_and_a_client_node_are_holders_as_well() -> None:
    with members() as (cluster, key, a, b, c):
        client = cluster.make(loader=False, client=True)
        client.start()
        function = Function(b"the owner's")
        first = function.begin(a.get_or_load, key)
        second = in_thread(b.get_or_load, key, value(b"b"))
        wait_for_joins(cluster, 1)
        function.go()
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (b"the owner's", b"the owner's")
        other = next(name for name in (f"other{n}" for n in range(99)) if cluster.key_of(cluster.nodes[0], name))
        assert client.groups["g"].get_or_load(other, value(b"the client's")) == b"the client's"
        assert [group.get(other) for group in (a, b, c)] == [b"the client's"] * 3
        client.close(drain=0)


def gone(cluster: Cluster, node: Node, how: str) -> None:
    assert node.address is not None
    if how == "dies":
        cluster.network.kill(node.address)
    else:
        cluster.network.freeze(node.address)


@pytest.mark.parametrize("how", ["dies", "freezes"])
def test_a_holder_that_is_gone(how: str) -> None:
    """Give the lease to the next asker, and take no late value.

    1. B gets the lease; C waits for it; B dies, or freezes.
    2. A's pings find that out, and C gets the lease. Its value is kept.
    3. B goes on after all: its caller has its value, which A refuses.
    """
    with members() as (cluster, key, a, b, c):
        function = Function(b"late")
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get_or_load, key, value(b"next"))
        plain = in_thread(asyncio.run, c.aget_many([key]))
        wait_for_joins(cluster, 2)
        assert not second.done()
        gone(cluster, cluster.nodes[1], how)
        assert second.result(PATIENCE) == b"next"
        assert plain.result(PATIENCE) == {key: b"next"}
        assert cluster.nodes[1].address is not None
        cluster.network.thaw(cluster.nodes[1].address)
        function.go()
        assert first.result(PATIENCE) == b"late"
        assert taken(cluster.network) == [True, False]
        assert (a.get(key), c.get(key)) == (b"next", b"next")


def test_a_holder_that_takes_too_long() -> None:
    """Give the lease to those who wait when its time is over, and to the next one who asks."""
    with members(load_timeout="2s") as (cluster, key, a, b, c):
        function = Function(b"late")
        began = time.monotonic()
        first = function.begin(b.get_or_load, key)
        time.sleep(1.2)  # so that a second is left for the next when this lease is over
        second = in_thread(c.get_or_load, key, value(b"next"))
        assert second.result(PATIENCE) == b"next"
        assert time.monotonic() - began >= 2
        function.go()
        assert first.result(PATIENCE) == b"late"
        said = taken(cluster.network)  # the first is given back, unless its time at the owner was over before
        assert (said.count(True), len(said) > 1) == (1, True)
        assert a.get(key) == b"next"


def test_a_holder_gives_its_lease_back_to_an_owner_that_would_wait_longer(shop: Shop) -> None:
    """Let the next load when the time of the node that loads is over, as that is the one that counts."""
    owner = users(shop.add())
    first, second = (users(shop.add(client=True, load_timeout="2s")) for _ in range(2))
    function = Function(b"late")
    late = function.begin(first.get_or_load, "key")
    time.sleep(1.2)  # so that a second is left for the next
    assert second.get_or_load("key", value(b"next")) == b"next"
    function.go()
    assert late.result(PATIENCE) == b"late"
    assert owner.get("key") == b"next"


def test_an_owner_whose_own_function_takes_too_long() -> None:
    """Give the lease to a member that waits, although no caller on the owner notices that the time is over.

    1. A, the owner, runs its function. B waits for that.
    2. The time of A's load is over: the sweeper of A sees it, and B gets the lease.
    """
    with members(load_timeout="1s") as (cluster, key, a, b, c):
        function = Function(b"late")
        first = function.begin(a.get_or_load, key)
        time.sleep(0.5)  # so that B has time left when that of A is over
        second = in_thread(b.get_or_load, key, value(b"next"))
        wait_for_joins(cluster, 1)
        flight = a._core.misses.local.flights.running(key)
        assert flight is not None
        wait_until(lambda: flight.left() == 0)
        cluster.nodes[0]._sweeper.sweep()
        assert second.result(PATIENCE) == b"next"
        function.go()
        assert first.result(PATIENCE) == b"late"
        assert [group.get(key) for group in (a, c)] == [b"next"] * 2


def test_the_time_of_a_lease_begins_with_its_grant() -> None:
    """Leave the next holder its whole time, whatever it has waited, so that no third function runs beside it."""
    with members() as (cluster, key, a, b, c):
        function, mine = Function(KeyboardInterrupt()), Function(b"c's")
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get_or_load, key, mine)
        wait_for_joins(cluster, 2)
        function.go()
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)
        assert mine.begun.wait(PATIENCE)
        flight = a._core.misses.local.flights.running(key)
        assert flight is not None
        left = flight.driver._deadline.left()
        assert left >= flight.left()
        mine.go()
        assert second.result(PATIENCE) == b"c's"


def test_a_function_that_raises() -> None:
    """Pass the failure to those who wait, with type and text, and load at the next call."""
    with members() as (cluster, key, a, b, c):
        error = ValueError("the database is down")
        function = Function(error)
        first = function.begin(b.get_or_load, key)
        waiting = [in_thread(group.get_or_load, key, value(b"no")) for group in (a, c)]
        waiting += [in_thread(b.get, key), in_thread(b.get_or_load, key, value(b"no"))]
        wait_for_joins(cluster, 2)
        function.go()
        for call in (first, *waiting):
            with pytest.raises(LoadError, match=r"g\['key[0-9]+'\]: ValueError: the database is down") as caught:
                call.result(PATIENCE)
            assert caught.value.cause_type == "ValueError"
            assert caught.value.key == key
            if call is first:
                assert caught.value.__cause__ is error
        assert c.get_or_load(key, value(b"better")) == b"better"
        assert b.get(key) == b"better"


def test_an_interrupted_holder_gives_its_lease_back() -> None:
    with members() as (cluster, key, a, b, c):
        function = Function(KeyboardInterrupt())
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get_or_load, key, value(b"next"))
        wait_for_joins(cluster, 2)
        function.go()
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)
        assert second.result(1) == b"next"
        assert a.get(key) == b"next"


@pytest.mark.parametrize("write", ["set", "delete", "clear", "set here"])
def test_a_write_during_the_lease(write: str) -> None:
    """Keep nothing that a write has replaced.

    1. B reads the source under its lease; C writes: True.
    2. Whoever asks now does not wait for B. B brings what it read before the write: it is not kept.
    """
    with members() as (_, key, a, b, c):
        function = Function(b"old")
        first = function.begin(b.get_or_load, key)
        writer = b if write == "set here" else c
        if write.startswith("set"):
            assert writer.set(key, b"new") is True
        else:
            assert (writer.delete(key) if write == "delete" else writer.clear()) is True
        assert [group.get_or_load(key, value(b"new")) for group in (c, a, b)] == [b"new"] * 3
        function.go()
        assert first.result(PATIENCE) == b"old"
        assert [group.get(key) for group in (a, b, c)] == [b"new"] * 3


def test_a_change_of_members_during_the_lease() -> None:
    """Keep what is loaded under a lease of the old owner from replacing a write at the new one.

    1. B has the lease of a key at A. D joins, and owns that key.
    2. C sets it: D orders that. B brings the old value to A.
    """
    with members() as (cluster, _, a, b, c):
        keys = [f"key{number}" for number in range(60)]
        mine = owned(cluster.nodes[0], keys)
        function = Function(b"old")
        first = function.begin(b.get_many_or_load, mine)
        d = cluster.add(loader=False)
        cluster.settle()
        written, loaded, *_ = [key for key in mine if key in owned(d, keys)]
        assert c.set(written, b"new") is True
        assert c.get_or_load(loaded, value(b"c's")) == b"c's"
        function.go()
        assert first.result(PATIENCE) == dict.fromkeys(mine, b"old")
        assert {group.get(written) for group in cluster.groups} == {b"new"}
        assert {group.get(loaded) for group in cluster.groups} <= {b"c's", b"old"}
        assert a.delete(loaded) is True
        assert {group.get_or_load(loaded, value(b"newest")) for group in cluster.groups} == {b"newest"}


def test_an_owner_that_dies_during_the_lease() -> None:
    """Go on at the next candidate: the caller of the function has its value, those who waited load theirs."""
    with members() as (cluster, key, _, b, c):
        function = Function(b"b's")
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get, key)
        wait_for_joins(cluster, 2)
        gone(cluster, cluster.nodes[0], "dies")
        assert c.get_or_load("another " + key, value(b"c's")) == b"c's"
        function.go()
        assert first.result(PATIENCE) == b"b's"
        wait_until(lambda: second.done() or cluster.peer(cluster.nodes[2], cluster.nodes[0]).dead)
        assert c.get_or_load(key, value(b"c's")) in {b"b's", b"c's"}


def test_without_an_owner_in_reach_it_loads_all_the_same() -> None:
    with members() as (cluster, key, _, b, c):
        gone(cluster, cluster.nodes[0], "freezes")
        gone(cluster, cluster.nodes[2], "freezes")
        assert b.get_or_load(key, value(b"value")) == b"value"
        assert b.get_many_or_load([key, "x", "y"], lambda keys: dict.fromkeys(keys, b"v")) is not None
        assert c is not b


class Forgetful(Network):
    """A network that loses the answers to requests for leases, once they were granted."""

    lossy = True

    def _pass(self, parcel: Parcel) -> None:
        super()._pass(parcel)
        asked = parcel.message
        if self.lossy and parcel.stage == "reply" and isinstance(asked, LoadRequest) and asked.lease:
            self.lossy = False
            raise PeerError("the test loses it")


def test_a_lost_grant_is_given_back() -> None:
    """Do not let others wait for a member that never heard of its lease."""
    with members(Forgetful()) as (_, key, a, b, c):
        assert b.get_or_load(key, value(b"b's")) == b"b's"
        wait_until(lambda: leases(a) == 0, 1)
        assert c.get_or_load(key, value(b"c's")) in {b"b's", b"c's"}


def test_a_request_that_is_overtaken_by_its_own_end_is_not_granted() -> None:
    """Grant nothing to a request that its asker has given up.

    1. B's request is held on its way until B's time is over. B gives back what it may have been granted.
    2. The request arrives: A does not wait for B.
    """
    with members(load_timeout="300ms") as (cluster, key, a, b, c):
        gate = cluster.network.gate(LoadRequest, source=cluster.nodes[1].address)
        with pytest.raises(LoadTimeout):
            b.get_or_load(key, value(b"b's"))
        wait_until(lambda: taken(cluster.network) == [False])
        gate.open()
        time.sleep(0.1)
        assert leases(a) == 0
        assert c.get_or_load(key, value(b"c's")) == b"c's"


def test_only_so_many_given_back_leases_are_remembered() -> None:
    table = Leases()
    for number in range(3_000):
        assert table.given_back(f"b/{number}") is None
        assert table.given_back(f"b/{number}") is None
    assert len(table) == 0
    assert [table.is_revoked(f"b/{number}") for number in (0, 1_999, 2_000, 2_999)] == [False, False, True, True]


@pytest.mark.parametrize("asker", ["owner", "another"])
def test_bytes_that_the_codec_cannot_read_are_loaded_again(asker: str) -> None:
    """Load under a lease what the owner has of another release, and keeps as long as nothing can load it anew."""
    with members(codec="json") as (cluster, key, a, b, c):
        group: Group[Any] = a if asker == "owner" else b
        keys = [key, cluster.key_of(cluster.nodes[0], "other")]
        store, loads = a._core.store, []

        def load(key: str) -> str:
            loads.append(key)
            return "new"

        for each in keys:
            assert store.put(each, b"{not json", 0, None, store.MAIN)
        assert group.get(key) is None
        assert store.find(key) is not None
        assert [group.get_or_load(key, load) for _ in range(2)] == ["new", "new"]
        both: list[Any] = ["new", "many"]
        many = group.get_many_or_load(keys, lambda keys: dict.fromkeys(keys, "many"))
        assert list(many.values()) == both
        assert [group.get(each) for group in (a, b, c) for each in keys] == both * 3
        assert loads == [key]


def test_a_get_that_finds_nothing_is_no_answer_for_one_that_brings_a_function() -> None:
    """Do not join the flight of a plain get, which ends without a loader.

    1. B gets a key: the answer of A, which has no loader either, is held.
    2. B calls get_or_load: it asks A by itself, and runs its function.
    3. The answer comes: there is nothing. The get has seen that a function had its turn meanwhile, and asks again.
    """
    with members() as (cluster, key, _, b, c):
        gate = cluster.network.gate(LoadRequest, stage="reply", source=cluster.nodes[1].address)
        plain = in_thread(b.get, key)
        gate.wait()
        gate.matches = lambda _: False
        assert in_thread(b.get_or_load, key, value(b"value")).result(PATIENCE) == b"value"
        assert not plain.done()
        gate.open()
        assert plain.result(PATIENCE) == b"value"
        assert c.get(key) == b"value"


def test_a_batch_over_several_owners_calls_its_function_once_for_each_side() -> None:
    with members() as (cluster, _, a, b, c):
        keys = [f"key{number}" for number in range(60)]
        calls: list[list[str]] = []

        def load_many(asked: list[str]) -> dict[str, bytes]:
            calls.append(asked)
            return {key: key.encode() for key in asked}

        expected = {key: key.encode() for key in keys}
        assert b.get_many_or_load(keys, load_many) == expected
        own = owned(cluster.nodes[1], keys)
        assert sorted(calls) == sorted([own, [key for key in keys if key not in own]])
        assert list(c.get_many_or_load(keys, load_many)) == keys
        assert len(calls) == 2
        assert a.get_many(keys) == expected


def test_batches_that_cross_do_not_wait_for_each_other_in_a_ring() -> None:
    """Ask for the same keys on all members at once, in different orders: each key is loaded once, and no call hangs."""
    with members() as (_, _key, a, b, c):
        keys = [f"key{number}" for number in range(40)]
        loaded: list[str] = []

        def load_many(asked: list[str]) -> dict[str, bytes]:
            loaded.extend(asked)
            time.sleep(0.02)
            return dict.fromkeys(asked, b"value")

        async def aload_many(asked: list[str]) -> dict[str, bytes]:
            loaded.extend(asked)
            await asyncio.sleep(0.02)
            return dict.fromkeys(asked, b"value")

        orders = [keys, keys[::-1], keys[20:] + keys[:20], keys[::2] + keys[1::2]]
        calls = [in_thread(group.get_many_or_load, order, load_many) for group in (a, b, c) for order in orders]
        calls += [
            in_thread(asyncio.run, group.aget_many_or_load(order, aload_many))
            for group in (a, b, c)
            for order in orders
        ]
        assert all(call.result(PATIENCE) == dict.fromkeys(keys, b"value") for call in calls)
        assert sorted(loaded) == sorted(keys)


def test_two_batches_that_hold_what_the_other_one_needs() -> None:
    """Let no holder wait for another one.

    1. B and C ask for the same two keys: B is granted that of A, C that of D. Their other requests are held.
    2. These arrive: B runs its function for A's key without waiting for D's, and C the other way round.
    """
    with members() as (cluster, _, _a, b, c):
        cluster.add(loader=False)
        cluster.settle()
        owner_a, node_b, node_c, owner_d = cluster.nodes
        one, two = cluster.key_of(owner_a), cluster.key_of(owner_d)
        gates = [
            cluster.network.gate(LoadRequest, source=asker.address, target=owner.address)
            for asker, owner in ((node_b, owner_d), (node_c, owner_a))
        ]
        calls = [
            in_thread(group.get_many_or_load, [one, two], lambda keys, text=text: dict.fromkeys(keys, text))
            for group, text in ((b, b"b's"), (c, b"c's"))
        ]
        for gate in gates:
            gate.wait()
        wait_until(lambda: leases(cluster.group(owner_a)) == leases(cluster.group(owner_d)) == 1)
        for gate in gates:
            gate.open()
        assert [call.result(5) for call in calls] == [{one: b"b's", two: b"c's"}] * 2


def test_a_batch_does_not_wait_for_others_while_it_holds_a_lease() -> None:
    """Run the function for what was granted before waiting for the rest.

    1. C holds the lease of one key. B asks for this and others of the same owner: its function runs for those at once.
    2. They are there for all, while C's function still runs.
    """
    with members() as (cluster, _, a, b, c):
        one, two, three = (cluster.key_of(cluster.nodes[0], prefix) for prefix in ("one", "two", "three"))
        function = Function(b"c's")
        first = function.begin(c.get_or_load, one)
        mine = Function(b"b's")
        batch = mine.begin(b.get_many_or_load, [one, two, three])
        assert mine.calls == [[two, three]]
        mine.go()
        assert in_thread(a.get, two).result(PATIENCE) == b"b's"
        assert not batch.done()
        function.go()
        assert first.result(PATIENCE) == b"c's"
        assert batch.result(PATIENCE) == {one: b"c's", two: b"b's", three: b"b's"}


def test_a_cancelled_caller_leaves_the_load_to_those_who_wait() -> None:
    with members() as (_, key, _a, b, c):
        begun, loads = threading.Event(), []

        async def load(key: str) -> bytes:
            loads.append(key)
            begun.set()
            await asyncio.sleep(0.2)
            return b"value"

        async def main() -> bytes | None:
            first = asyncio.create_task(b.aget_or_load(key, load))
            await asyncio.to_thread(begun.wait, PATIENCE)
            second = asyncio.create_task(b.aget_or_load(key, load))
            third = asyncio.create_task(asyncio.to_thread(c.get_or_load, key, value(b"c's")))
            await asyncio.sleep(0.05)
            first.cancel()
            assert await third == b"value"
            assert first.cancelled()
            return await second

        assert asyncio.run(main()) == b"value"
        assert loads == [key]


def test_a_loop_that_ends_gives_its_lease_back() -> None:
    with members() as (_, key, _a, b, c):

        async def load(_: str) -> bytes:
            second.append(in_thread(c.get_or_load, key, value(b"next")))
            await asyncio.sleep(PATIENCE)
            return b"never"

        async def main() -> None:
            task = asyncio.create_task(b.aget_or_load(key, load))
            await asyncio.to_thread(wait_until, lambda: second)
            await asyncio.sleep(0.05)
            task.cancel()

        second: list[Future[Any]] = []
        asyncio.run(main())
        assert second[0].result(2) == b"next"


def test_an_async_function_that_takes_too_long_frees_the_key() -> None:
    with members(load_timeout="100ms") as (_, key, a, b, c):

        async def load(_: str) -> bytes:
            await asyncio.sleep(PATIENCE)
            return b"never"

        with pytest.raises(LoadTimeout):
            asyncio.run(b.aget_or_load(key, load))
        wait_until(lambda: leases(a) == 0)
        assert c.get_or_load(key, value(b"next")) == b"next"


def test_functions_that_ask_for_other_keys() -> None:
    with members() as (cluster, _, _a, b, c):
        keys = [cluster.key_of(node) for node in cluster.nodes]

        def load(key: str) -> bytes:
            rest = keys[keys.index(key) + 1 :]
            return key.encode() + (b" " + (b.get_or_load(rest[0], load) or b"") if rest else b"")

        def loop(key: str) -> bytes:
            return b.get_or_load("loop", loop) or b""

        assert b.get_or_load(keys[0], load) == " ".join(keys).encode()
        assert c.get(keys[1]) == " ".join(keys[1:]).encode()
        with pytest.raises(LoadError, match="asked for inside its own loader"):
            b.get_or_load("loop", loop)


def test_a_value_that_is_too_large_to_keep_is_loaded_by_each_who_asks() -> None:
    with members(max_bytes=64_000) as (cluster, key, a, b, c):
        function = Function(b"x" * 20_000)
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get_or_load, key, value(b"y" * 20_000))
        wait_for_joins(cluster, 2)
        function.go()
        assert first.result(PATIENCE) == b"x" * 20_000
        assert second.result(PATIENCE) == b"y" * 20_000
        assert a.peek(key) is None


def test_members_with_a_loader_keep_it_for_plain_gets() -> None:
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(a)
        function = Function(b"mine")
        first = function.begin(cluster.group(b).get_or_load, key)
        others = [in_thread(cluster.group(node).get, key) for node in (a, b)]
        wait_for_joins(cluster, 1)
        function.go()
        assert [call.result(PATIENCE) for call in (first, *others)] == [b"mine"] * 3
        assert not cluster.source.loads
        other = cluster.key_of(a, "other")
        assert cluster.group(b).get(other) == b"old"
        assert cluster.group(b).get_or_load(other, value(b"no")) == b"old"


def test_a_fill_of_a_lease_that_never_was_is_refused() -> None:
    with members() as (cluster, key, a, _b, _c):
        lane = cluster.network.lane()
        lane.start(None, lambda _: None, Deadline.after(1.0))
        request = FillRequest("g", "nobody/1", [key], [Answer(b"forged")])
        reply = Wait(lane.call(cluster.nodes[0].address or "", request, Deadline.after(1)), Deadline.after(5)).run()
        assert reply.taken == [False]
        assert a.get(key) is None


class Stop(BaseException):
    """What interrupts a caller."""


def test_callers_that_are_interrupted_anywhere(tmp_path: Path) -> None:
    """Interrupt a caller at a random instruction, again and again: no other one waits, and no lease is left."""
    nodes = [Node(registry=f"local://{tmp_path}/registry") for _ in range(2)]
    a, b = (node.group("users") for node in nodes)
    random_ = random.Random(7)
    go = threading.Event()

    def call(key: str, threads: list[int]) -> None:
        threads.append(threading.get_ident())
        try:
            b.get_or_load(key, lambda _: time.sleep(0.0005) or b"b")  # type: ignore[func-returns-value]
        finally:
            go.wait(PATIENCE)  # an exception that comes too late is raised here, in the very thread

    with nodes[0], nodes[1]:
        wait_until(lambda: all(len(node.members()) == 2 for node in nodes))
        keys = (key for key in (f"key{n}" for n in range(1_000)) if owned(nodes[0], [key]))
        for key, _ in zip(keys, range(60), strict=False):
            go.clear()
            threads: list[int] = []
            first = in_thread(call, key, threads)
            wait_until(lambda threads=threads: threads)  # type: ignore[misc]
            time.sleep(random_.random() * 0.004)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threads[0]), ctypes.py_object(Stop))
            assert in_thread(a.get_or_load, key, value(b"a")).result(3) in {b"a", b"b"}
            go.set()
            assert isinstance(first.exception(PATIENCE), Stop | type(None))
        wait_until(lambda: leases(a) == 0, 2)


def test_processes_of_holders_that_die_and_freeze(local_processes: Processes) -> None:
    """Let another process load within seconds, though load_timeout is 30 s, and refuse what the frozen one brings."""
    owner, dead, frozen, other = local_processes.make(4)
    one, two, *_ = local_processes.keys_of(owner)
    dead.send("get_or_load", one, "never", 60)
    frozen.send("get_or_load", two, "late", 0.5)
    wait_until(lambda: len(local_processes.loads()) == 2)
    dead.kill()
    frozen.kill(signal.SIGSTOP)
    for key in (one, two):
        value, took = other.do("get_or_load", key, "next", 0)
        assert value == "next"
        assert took < 10
    frozen.kill(signal.SIGCONT)
    assert frozen.receive()[0] == "late"
    assert [owner.do("get", key)[0] for key in (one, two)] == ["next", "next"]
    assert local_processes.loads() == {one: 2, two: 2}


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("holder", [0, 1])
def test_a_function_that_takes_longer_than_load_timeout_leaves_its_turn_to_those_who_wait(
    holder: int, use_async: bool
) -> None:
    """A, or B, holds the key for longer than load_timeout. Half of that later, all nodes ask; one of them loads."""
    with members(load_timeout="600ms") as (_, key, *groups):
        function, runs = Function(b"late"), []

        def load(_: str) -> bytes:
            runs.append(key)
            return b"value"

        async def task() -> Any:
            return await groups[holder].aget_or_load(key, function)

        first = in_thread(asyncio.run, task()) if use_async else in_thread(groups[holder].get_or_load, key, function)
        assert function.begun.wait(PATIENCE)
        time.sleep(0.3)
        calls = [in_thread(group.get_or_load, key, load) for group in groups]
        calls += [in_thread(asyncio.run, group.aget_or_load(key, load)) for group in groups]
        assert [call.result(PATIENCE) for call in calls] == [b"value"] * 6
        assert len(runs) == 1
        function.go()
        if use_async:
            with pytest.raises(LoadTimeout):
                first.result(PATIENCE)
        else:
            assert first.result(PATIENCE) == b"late"
        assert groups[0].peek(key) == b"value"


def test_loaders_that_hang_do_not_keep_a_node_from_granting_leases() -> None:
    """Grant a lease, and answer a get for which nothing can be loaded, while all threads for loaders are taken."""
    with members() as (cluster, key, a, b, c):
        go = threading.Event()
        pool = cluster.nodes[0]._runtime.pool(0)
        with pytest.raises(Overloaded):
            [pool.submit(go.wait) for _ in itertools.count()]
        try:
            assert c.get(key) is None
            assert b.get_or_load(key, value(b"value")) == b"value"
            assert a.get(key) == b"value"
        finally:
            go.set()
