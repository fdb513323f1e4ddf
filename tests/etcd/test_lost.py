"""Nodes that etcd has forgotten, although they live, or that have ended without a goodbye."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from kamacache import Node
from kamacache.registry.etcd import EtcdRegistry
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import Processes
from tests.etcd.conftest import Registered
from tests.etcd.server import Etcd
from tests.proof.proxy import Proxies, Proxy

MakeNode = Callable[..., Node]
Register = Callable[..., Registered]
LEASE = EtcdRegistry.lease
SHORT = 2.0  # seconds of a lease that a test waits for


@pytest.fixture
def way(etcd: Etcd) -> Iterator[Proxy]:
    """Yield a way to etcd that can be cut."""
    with Proxies() as proxies:
        yield proxies.make(etcd.port)


def known(etcd: Etcd, service: str = "test") -> set[str]:
    prefix = f"/kamacache/@known/{service}/"
    return {key.removeprefix(prefix) for key in etcd.entries(prefix)}


def forget(etcd: Etcd, service: str) -> None:
    """End the leases of all that is listed, as etcd does when they have run out."""
    for lease in set(etcd.leases(f"/kamacache/{service}/nodes/").values()):
        etcd.revoke(lease)


def test_a_node_starts_while_etcd_has_forgotten_members_that_live(
    etcd: Etcd, service: str, way: Proxy, node_at: MakeNode
) -> None:
    """Have neither side confirm a write of which the other one is not told.

    1. Two members cannot reach etcd, and their leases end.
    2. A node starts, and etcd lists nobody.
    3. Each side writes. The members can reach etcd again.
    """
    source = {f"key{number}": b"" for number in range(50)}

    def make(url: str) -> Node:
        node = node_at(url, start=False)
        node.group("sourced", source.__getitem__)
        node.start()
        return node

    members = [make(f"etcd://127.0.0.1:{way.port}") for _ in range(2)]
    addresses = {str(node.address) for node in members}
    wait_until(lambda: known(etcd, service) == addresses)
    for both in ("to", "back"):
        way.cut(both, cut=True)
    forget(etcd, service)
    assert etcd.entries(f"/kamacache/{service}/nodes/") == {}
    late = make(etcd.url)
    nodes = [*members, late]
    assert {str(node.address) for node in late.members()} == {*addresses, str(late.address)}
    for writer in nodes:
        for node in nodes:
            node.groups["sourced"].get_many(source)
        for key in source:
            source[key] = value = writer.id.encode()
            assert writer.groups["sourced"].delete(key), (key, writer)
            assert [node.groups["sourced"].get(key) for node in nodes] == [value] * 3, key
    for both in ("to", "back"):
        way.cut(both, cut=False)
    way.reset()
    wait_until(lambda: len(etcd.entries(f"/kamacache/{service}/nodes/")) == len(nodes), LEASE)
    wait_until(lambda: all(len(node.members()) == len(nodes) for node in nodes))


def test_a_member_that_others_have_dropped_is_known_again(etcd: Etcd, service: str, registered: Register) -> None:
    one, other = registered(etcd.url, 1), registered(etcd.url, 2)
    assert other.ids() == ["id1", "id2"]
    assert other.registry.lost(service) == []
    etcd.ctl("del", f"/kamacache/{service}/nodes/{one.me.address}")  # it writes that again, in a moment
    wait_until(lambda: other.ids() == ["id1", "id2"])
    before = etcd.leases(f"/kamacache/@known/{service}/")
    other.registry.drop(one.me)
    wait_until(lambda: set(before.values()) - set(etcd.leases(f"/kamacache/@known/{service}/").values()))
    wait_until(lambda: known(etcd, service) == {one.me.address, other.me.address})
    wait_until(lambda: one.registry.registered)


def test_those_that_crash_are_dropped(etcd: Etcd, processes: Processes) -> None:
    """Drop one by those that stay, and all by the next one that starts."""
    made = processes.make(3, registry=etcd.url, lease=SHORT)
    assert len(known(etcd)) == 3
    made[0].kill()
    wait_until(lambda: len(known(etcd)) == 2, SHORT + 15.0)
    for process in made[1:]:
        process.kill()
    wait_until(lambda: etcd.entries("/kamacache/test/nodes/") == {}, SHORT + 15.0)
    assert len(known(etcd)) == 2
    (late,) = processes.make(1, start=False, registry=etcd.url, lease=SHORT)
    began = time.monotonic()
    late.start()
    wait_until(lambda: known(etcd) == {late.address})
    assert time.monotonic() - began < 5.0
    assert late.do("registered") == []


def test_a_node_of_another_service_has_the_address_of_one_that_crashed(
    etcd: Etcd, service: str, node_at: MakeNode, processes: Processes
) -> None:
    """Drop the one that crashed, and take the other one for no member."""
    (crashes,) = processes.make(1, registry=etcd.url, lease=SHORT)
    wait_until(lambda: known(etcd) == {crashes.address})
    crashes.kill()
    wait_until(lambda: etcd.entries("/kamacache/test/nodes/") == {}, SHORT + 15.0)
    foreign = node_at(etcd.url, listen=crashes.address)
    assert known(etcd, service) == known(etcd) == {crashes.address}
    (late,) = processes.make(1, start=False, registry=etcd.url, lease=SHORT)
    late.start()
    wait_until(lambda: known(etcd) == {late.address})
    assert late.do("registered") == []
    assert [str(member) for member in foreign.members()] == [crashes.address]
    assert known(etcd, service) == {crashes.address}
