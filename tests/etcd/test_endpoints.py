"""Several endpoints: if one is gone, silent or no etcd at all, the client uses another."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kamacache import Node
from tests.cluster.cluster import wait_until
from tests.etcd.conftest import Registered
from tests.etcd.server import Etcd, free_port
from tests.http.client import request

MakeNode = Callable[..., Node]
Register = Callable[..., Registered]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Etcd]]:
    """Start a cluster of three."""
    made = Etcd.cluster(tmp_path_factory.mktemp("cluster"), 3)
    yield made
    for member in made:
        member.kill()


def watches(member: Etcd) -> int:
    """Return the number of watches at a member."""
    page = request(f"127.0.0.1:{member.port}", "/metrics").body
    name = "etcd_debugging_mvcc_watcher_total "
    return next(int(float(line.split()[1])) for line in page.splitlines() if line.startswith(name))


def url(*ports: int) -> str:
    return "etcd://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@pytest.mark.parametrize("how", [Etcd.kill, Etcd.freeze])
def test_the_lease_lives_on_when_any_member_stops(
    members: list[Etcd], service: str, registered: Register, how: Callable[[Etcd], None]
) -> None:
    """Stop each of the three in turn: the session moves on, with its lease and its watch.

    A frozen member is noticed after seconds, so without KAMACACHE_SOAK only the one that the session uses is frozen.
    """
    one = registered(url(*(member.port for member in members)))
    lease = members[0].leases(f"/services/{service}/")
    assert len(lease) == 1
    stopped = members
    if how is Etcd.freeze and "KAMACACHE_SOAK" not in os.environ:
        stopped = [member for member in members if watches(member)]
        assert len(stopped) == 1
    for number, member in enumerate(stopped):
        other = members[members.index(member) - 1]
        how(member)
        seen = one.changes
        foreign = f"/services/{service}/foreign{number}", "x"
        wait_until(lambda other=other, foreign=foreign: other.try_ctl("put", *foreign), 30.0)  # type: ignore[misc]
        wait_until(lambda seen=seen: one.changes > seen, 20.0)  # type: ignore[misc]
        wait_until(lambda: one.registry.registered)
        if how is Etcd.kill:
            member.start()
        else:
            member.thaw()
            member.wait()
    assert {key: value for key, value in members[0].leases(f"/services/{service}/").items() if value} == lease
    foreigners = [f"foreign{number}" for number in range(len(stopped))]
    wait_until(lambda: one.ids() == ["id1"] and one.registry.clients(service) == foreigners)


def test_one_that_is_closed_and_one_that_is_silent(etcd: Etcd, node_at: MakeNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        place = url(free_port(), silent.getsockname()[1], etcd.port)
        with ThreadPoolExecutor(4) as threads:
            nodes = list(threads.map(node_at, [place] * 4))  # each begins with another
        wait_until(lambda: all(len(node.members()) == len(nodes) for node in nodes), 20.0)


def test_a_server_other_than_etcd_is_out_of_reach(tmp_path: Path) -> None:
    with Node("127.0.0.1:0") as node:  # it speaks gRPC, and knows no etcd
        assert node.address is not None
        one = Registered(f"etcd://{node.address}", "app")
        with pytest.raises(ConnectionError, match=node.address):
            one.register()
        one.registry.close()
