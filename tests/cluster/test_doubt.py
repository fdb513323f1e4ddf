"""A get that is not answered in time makes a member doubted, not dead: the next one answers, and a ping decides."""

from __future__ import annotations

import signal
import time

import pytest

from kamacache.net.messages import Hello
from kamacache.testing import Ping
from tests.cluster.cluster import Cluster, in_thread, wait_until
from tests.cluster.conftest import Processes

LONGEST = 0.6  # seconds of silence after which two pings in a row may be unanswered


def test_a_get_that_was_not_answered_leaves_a_member_among_the_listeners() -> None:
    """Order a write while it is not known whether the owner lives.

    1. B, the owner, stands still. A get at A is not answered; the next candidate answers it.
    2. B goes on; A's ping is held. Gets at A skip B. A write at A is told to B: True, and no node serves an old value.
    3. The ping comes through: A asks B again, without a hello, and the contact was never broken.
    """
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        key, peer, contacts = cluster.key_of(b), cluster.peer(a, b), a._runtime.lane.contacts
        begun, hellos = contacts.shown(b.id).begun, cluster.network.gate(Hello, source=a.address, target=b.address)
        pings = cluster.network.gate(Ping, source=a.address, target=b.address)
        pings.wait()
        cluster.network.freeze(b.address or "")
        assert cluster.group(a).get(key) == b"old"
        assert (peer.doubted, peer.skipped, peer.dead) == (True, True, False)
        cluster.network.thaw(b.address or "")
        assert cluster.group(a).get(cluster.key_of(b, "other")) == b"old"
        cluster.source.value = b"new"
        assert cluster.group(a).set(key, b"new") is True
        cluster.assert_serves(key, b"new")
        assert b.id in {member.id for member in a.members()}
        pings.open()
        wait_until(lambda: not peer.skipped)
        assert hellos.parcels == []
        assert contacts.shown(b.id).begun == begun
        cluster.assert_serves(key, b"new")


def test_a_member_that_answers_no_ping_either_is_dead() -> None:
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        peer = cluster.peer(a, b)
        cluster.network.freeze(b.address or "")
        assert cluster.group(a).get(cluster.key_of(b)) == b"old"
        wait_until(lambda: peer.dead)
        cluster.network.thaw(b.address or "")
        wait_until(lambda: not peer.skipped)


def test_a_refused_connection_needs_no_ping() -> None:
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        pings = cluster.network.gate(Ping, source=a.address, target=b.address)
        pings.wait()
        cluster.network.kill(b.address or "")
        assert cluster.group(a).get(cluster.key_of(b)) == b"old"
        assert cluster.peer(a, b).dead
        pings.open()


def test_a_process_that_stands_still_for_a_moment_stays_a_member(processes: Processes) -> None:
    """Stop the owner for less than two pings take. Its asker waits for less than a second, and then writes: True."""
    asker, owner = processes.make(2)
    keys = processes.keys_of(owner)
    for turn in range(5):
        owner.kill(signal.SIGSTOP)
        began = time.monotonic()
        asking = in_thread(asker.do, "aget", keys[turn])
        time.sleep(0.4)
        owner.kill(signal.SIGCONT)
        stood = time.monotonic() - began
        value, took = asking.result(10)
        assert value == f"value of {keys[turn]}"
        if stood < LONGEST:
            assert took < 1.0
            assert asker.do("set", keys[-1], "new")[0] is True
            return
    pytest.skip("this machine is too busy to stop a process for 400 ms")
