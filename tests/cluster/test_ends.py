"""A write while a process ends: a connection breaks first, and what has become of the process shows a moment later."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from kamacache import Node
from kamacache.errors import PeerError
from kamacache.net.messages import TellRequest, WriteRequest
from kamacache.steps import drive
from kamacache.testing import Network, Parcel
from tests.cluster.cluster import PATIENCE, Cluster, in_thread


class Severed(Network):
    """A network that ends the connection under each request of these kinds, until there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: tuple[type[Any], ...] = ()
        self.broke = threading.Event()

    def _pass(self, parcel: Parcel) -> None:
        super()._pass(parcel)
        if parcel.stage == "request" and isinstance(parcel.message, self.kinds):
            self.broke.set()
            raise broken()


def broken() -> PeerError:
    error = PeerError("closed the connection")
    error.broken = True
    return error


@pytest.mark.parametrize("owner", [0, 1])
def test_a_write_is_confirmed_if_a_member_ends_in_the_middle_of_it(owner: int) -> None:
    """End the connection to a listener, or to the owner, and have its address refuse afterwards."""
    network = Severed()
    with Cluster(2, network=network) as cluster:
        a, b = cluster.nodes
        network.kinds = TellRequest, WriteRequest
        write = in_thread(cluster.group(a).set, cluster.key_of(cluster.nodes[owner]), b"new")
        assert network.broke.wait(PATIENCE)
        network.kill(b.address or "")
        network.kinds = ()
        assert write.result(PATIENCE) is True


def test_a_write_is_confirmed_if_the_member_answers_after_all() -> None:
    network = Severed()
    with Cluster(2, network=network) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(a)
        assert cluster.group(b).get(key) == b"old"
        network.kinds = (TellRequest,)
        write = in_thread(cluster.group(a).set, key, b"new")
        assert network.broke.wait(PATIENCE)
        network.kinds = ()
        assert write.result(PATIENCE) is True
        cluster.source.value = b"new"
        cluster.assert_serves(key, b"new")


def test_a_write_is_false_after_a_second_of_broken_connections() -> None:
    network = Severed()
    with Cluster(2, network=network) as cluster:
        a, _ = cluster.nodes
        network.kinds = (TellRequest,)
        begun = time.monotonic()
        assert cluster.group(a).set(cluster.key_of(a), b"new") is False
        assert 0.9 < time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("ended", [False, True])
def test_a_write_after_another_request_found_the_connection_broken(*, ended: bool) -> None:
    """Notify a member that is considered dead since a moment for this reason alone."""
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        hold_back(a)
        peer = cluster.peer(a, b)
        a._membership.suspect(peer, broken())
        if ended:
            cluster.network.kill(b.address or "")
        assert cluster.group(a).set(cluster.key_of(a), b"new") is True
        assert peer.dead


def test_a_write_that_is_superseded_is_not_confirmed_before_a_broken_member_has_ended() -> None:
    """Have a later write supersede one that was ordered, and that a member whose connection broke has not heard of."""
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        hold_back(a)
        core, key = cluster.group(a)._core, cluster.key_of(a)
        item = core.set_one(key, b"first", 60.0)[0]
        (first,) = core.writes.order([item])
        (second,) = core.writes.order(core.set_one(key, b"second", 60.0))
        a._membership.suspect(cluster.peer(a, b), broken())
        cluster.network.sent.clear()
        assert drive(core.writes.write([item._replace(above=first, ordered=first)])) is True
        told = [parcel.message for parcel in cluster.network.sent if isinstance(parcel.message, TellRequest)]
        assert told[0].writes == [(key, second)]


def hold_back(node: Node) -> None:
    """Stop the thread of the membership, so that requests alone find out what has become of a member."""
    node._membership.stop()
    thread = node._membership._thread
    assert thread is not None
    thread.join(PATIENCE)
