"""The holder of a lease brings a value to the owner, late or more than once: see test_leases.py.

A is the owner of the key, B the holder of its lease; each docstring is the schedule.
"""

from __future__ import annotations

import pytest

from kamacache import Group
from kamacache.net.messages import FillRequest
from kamacache.testing import Network
from tests.cluster.cluster import PATIENCE, in_thread, wait_until
from tests.cluster.test_leases import Function, leases, members, requests, taken, value, wait_for_joins


def fills(network: Network) -> int:
    return sum(isinstance(parcel.message, FillRequest) for parcel in requests(network))


def unanswered(group: Group[bytes]) -> int:
    return len(group._core.misses._remote._fills._sent)


@pytest.mark.parametrize("stage", ["request", "reply"])
def test_a_value_that_is_lost_on_its_way_is_brought_again(stage: str) -> None:
    """Have those who wait get the value long before load_timeout is over.

    1. B's value is lost, or the reply to it. B's caller has it all the same, and waits for nothing.
    2. C waits for the load of B. It gets that value as soon as the network is well.
    3. A has it once. To what came again it says that the lease is over, so that B brings it no more.
    """
    with members() as (cluster, key, a, b, c):
        function = Function(b"b's")
        fault = cluster.network.drop(FillRequest, stage=stage)
        first = function.begin(b.get_or_load, key)
        second = in_thread(c.get_or_load, key, value(b"c's"))
        wait_for_joins(cluster, 2)
        function.go()
        assert first.result(PATIENCE) == b"b's"
        assert fault.parcels
        fault.end()
        assert second.result(PATIENCE) == b"b's"
        wait_until(lambda: unanswered(b) == 0)
        said = taken(cluster.network)
        assert said[0]
        assert not any(said[1:])
        assert bool(said[1:]) == (stage == "reply")
        assert a.peek(key) == b"b's"


def test_a_lease_that_is_given_back_in_vain_is_given_back_again() -> None:
    """Free the key for others, although the first message that does so is lost."""
    with members() as (cluster, key, a, b, c):
        fault = cluster.network.drop(FillRequest)
        function = Function(KeyboardInterrupt())
        first = function.begin(b.get_or_load, key)
        function.go()
        with pytest.raises(KeyboardInterrupt):
            first.result(PATIENCE)
        assert leases(a) == 1
        fault.end()
        assert c.get_or_load(key, value(b"c's")) == b"c's"


def test_nothing_is_brought_to_an_owner_that_is_considered_dead_until_it_is_back() -> None:
    with members() as (cluster, key, a, b, _):
        owner, holder = cluster.nodes[:2]
        fault = cluster.network.drop(FillRequest)
        assert b.get_or_load(key, value(b"b's")) == b"b's"
        gate = cluster.consider_dead(holder, owner)
        fault.end()
        before = fills(cluster.network)
        holder._sweeper.sweep()
        assert (fills(cluster.network), unanswered(b)) == (before, 1)
        gate.open()
        wait_until(lambda: unanswered(b) == 0)  # its store may be shut, as it fetches the writes that it has missed
        assert fills(cluster.network) > before
        assert leases(a) == 0


def test_nothing_is_brought_to_an_owner_that_has_gone() -> None:
    with members() as (cluster, key, _, b, _):
        cluster.network.drop(FillRequest)
        assert b.get_or_load(key, value(b"b's")) == b"b's"
        assert unanswered(b) == 1
        cluster.nodes.pop(0).close(drain=0)
        cluster.nodes[0]._sweeper.sweep()
        assert unanswered(b) == 0


def test_the_time_of_a_late_value_counts_from_the_end_of_its_load() -> None:
    """Keep no value longer than its ttl, however long it travels, and no shorter because its load took long.

    1. B's function takes 20 s.
    2. Its value travels for 15 s to A, which keeps it for the rest of its minute.
    """
    with members(ttl="60s") as (cluster, key, a, b, _):
        function = Function(b"b's")
        first = function.begin(b.get_or_load, key)
        gate = cluster.network.gate(FillRequest)
        cluster.advance(20)
        function.go()
        gate.wait()
        cluster.advance(15)
        gate.open()
        assert first.result(PATIENCE) == b"b's"
        assert a.ttl(key) == pytest.approx(45, abs=0.1)


def test_a_value_that_has_expired_on_its_way_is_given_to_nobody() -> None:
    """Have those who wait load the key anew."""
    with members(ttl="60s") as (cluster, key, a, b, c):
        function = Function(b"b's")
        first = function.begin(b.get_or_load, key)
        gate = cluster.network.gate(FillRequest)
        function.go()
        gate.wait()
        second = in_thread(c.get_or_load, key, value(b"c's"))
        wait_for_joins(cluster, 2)
        cluster.advance(60)
        gate.open()
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (b"b's", b"c's")
        assert a.peek(key) == b"c's"


def test_a_value_that_is_never_kept_reaches_those_who_wait_for_it() -> None:
    """Do so also if it travels for some time: it has no time that could be over."""
    with members(ttl=None, negative_ttl=0) as (cluster, key, a, b, c):
        function = Function(None)
        first = function.begin(b.get_or_load, key)
        gate = cluster.network.gate(FillRequest)
        function.go()
        gate.wait()
        second = in_thread(c.get_or_load, key, value(b"c's"))
        wait_for_joins(cluster, 2)
        cluster.advance(1)
        gate.open()
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (None, None)
        assert not a.contains(key)
