"""The entries in etcd, their return when they are lost, and the list of members."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from kamacache import Node
from kamacache.registry.etcd import EtcdRegistry
from tests.cluster.cluster import wait_until
from tests.cluster.conftest import Processes
from tests.cluster.test_fork import Child
from tests.contract.actor import Actor
from tests.etcd.conftest import Registered
from tests.etcd.server import Etcd
from tests.http.client import request

Register = Callable[..., Registered]
MakeNode = Callable[..., Node]
LEASE = EtcdRegistry.lease
SHORT = 3.0  # seconds of a lease that a test waits for


def test_a_client_is_not_listed_where_others_look_for_nodes(etcd: Etcd, service: str, registered: Register) -> None:
    one = registered(etcd.url, groups=("users",), client=True)
    node = f"/kamacache/{service}/nodes/10.0.0.1:8001"
    entries = etcd.entries(f"/kamacache/{service}") | etcd.entries(f"/services/{service}")
    assert set(entries) == {node}
    assert json.loads(entries[node])["client"] is True
    assert one.registry.members(service) == [one.me]
    assert one.registry.clients(service) == []


def test_keys_and_values_are_the_contracts(etcd: Etcd, service: str, registered: Register) -> None:
    one = registered(etcd.url, groups=("users", "orders"), weight=2.5)
    node, client = f"/kamacache/{service}/nodes/10.0.0.1:8001", f"/services/{service}/10.0.0.1:8001"
    entries = etcd.entries(f"/kamacache/{service}") | etcd.entries(f"/services/{service}")
    assert set(entries) == {node, client}
    assert entries[client] == "10.0.0.1:8001"
    assert json.loads(entries[node]) == {"id": "id1", "weight": 2.5, "groups": ["users", "orders"], "protocol": 1}
    lease = etcd.leases(node)[node]
    assert lease
    assert etcd.leases(client)[client] == lease
    assert f"granted with TTL({LEASE:.0f}s)" in etcd.ctl("lease", "timetolive", f"{lease:x}")
    assert etcd.created(node) < etcd.created(client)
    known = etcd.entries(f"/kamacache/@known/{service}/")
    assert known == {f"/kamacache/@known/{service}/10.0.0.1:8001": entries[node]}
    assert lease not in etcd.leases("/kamacache/@known/").values()
    assert one.registry.registered


def test_a_lease_outlives_its_term(
    etcd: Etcd, service: str, registered: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep it alive by the engine: no Python runs in this process meanwhile."""
    monkeypatch.setattr(EtcdRegistry, "lease", SHORT)
    registered(etcd.url)
    before = etcd.leases(f"/services/{service}/")
    until = time.monotonic() + 1.5 * SHORT
    while time.monotonic() < until:
        ctypes.PyDLL(None).usleep(900_000)  # while this thread holds the interpreter
    assert etcd.leases(f"/services/{service}/") == before
    assert len(before) == 1


@pytest.mark.parametrize("which", ["/kamacache/{}/nodes/", "/services/{}/", "/"])
def test_deleted_keys_are_written_again(etcd: Etcd, service: str, registered: Register, which: str) -> None:
    registered(etcd.url)
    node, client = f"/kamacache/{service}/nodes/", f"/services/{service}/"
    before = etcd.entries(node), etcd.entries(client)
    etcd.ctl("del", "--prefix", which.format(service))
    wait_until(lambda: (etcd.entries(node), etcd.entries(client)) == before)


def test_a_lease_revoked_from_outside(etcd: Etcd, service: str, registered: Register) -> None:
    one, other = registered(etcd.url, 1), registered(etcd.url, 2)
    key = f"/services/{service}/{one.me.address}"
    lease = etcd.leases(key)[key]
    etcd.revoke(lease)
    wait_until(lambda: etcd.leases(key).get(key, lease) != lease)
    wait_until(lambda: one.registry.registered and other.ids() == ["id1", "id2"])
    assert len(etcd.entries(f"/kamacache/{service}/nodes/")) == 2


def test_changes_are_notified(etcd: Etcd, registered: Register) -> None:
    one = registered(etcd.url, 1)
    wait_until(lambda: one.changes)
    seen = one.changes
    other = registered(etcd.url, 2)
    wait_until(lambda: one.changes > seen)
    seen = one.changes
    other.registry.close()
    wait_until(lambda: one.changes > seen)
    wait_until(lambda: one.ids() == ["id1"])


def test_a_round_of_a_node_reads_each_list_once(etcd: Etcd, service: str, registered: Register) -> None:
    """Read each list once, as every node does each second and docs/operations.md reckons with."""

    def reads() -> float:
        page = request(f"127.0.0.1:{etcd.port}", "/metrics").body
        return next(float(line.split()[1]) for line in page.splitlines() if line.startswith("etcd_mvcc_range_total "))

    one = registered(etcd.url)
    before, rounds = reads(), 20
    for _ in range(rounds):
        assert one.ids() == ["id1"]
        assert one.registry.clients(service) == []
    assert reads() - before <= 2.5 * rounds  # a lost connection has all read afresh


def test_closing_leaves_nothing(etcd: Etcd, service: str, registered: Register) -> None:
    one = registered(etcd.url)
    keys = [f"/services/{service}/", f"/kamacache/{service}/", f"/kamacache/@known/{service}/"]
    leases = {f"{lease:x}" for key in keys for lease in etcd.leases(key).values()}
    assert len(leases & set(etcd.ctl("lease", "list").split())) == 2
    began = time.monotonic()
    one.registry.deregister()
    one.registry.close()
    assert time.monotonic() - began < 2.0
    assert not any(map(etcd.entries, keys))
    assert not leases & set(etcd.ctl("lease", "list").split())
    assert not one.registry.registered
    one.register()  # in a new life of its node
    assert one.registry.registered


def test_an_address_taken_over_stays_with_the_new_owner(etcd: Etcd, service: str, registered: Register) -> None:
    """Register a process that is started again before the lease of the one before has run out."""
    before = registered(etcd.url, 1)
    after = Registered(etcd.url, service, 1)
    after.me = after.me._replace(id="new")
    after.register()
    before.registry.close()
    assert after.ids() == ["new"]
    after.registry.close()


def test_an_entry_that_is_no_member_is_passed_over(etcd: Etcd, service: str, registered: Register) -> None:
    one = registered(etcd.url)
    prefix = f"/kamacache/{service}/nodes/"
    etcd.ctl("put", f"{prefix}10.0.0.2:8001", "not json")
    etcd.ctl("put", f"{prefix}10.0.0.3:8001", json.dumps({"id": "x"}))
    etcd.ctl("put", f"{prefix}10.0.0.4:8001", json.dumps({"id": "x", "weight": -1, "groups": [], "protocol": 1}))
    etcd.ctl("put", f"/kamacache/{service}/nodes2/10.0.0.5:8001", "{}")
    assert one.ids() == ["id1"]
    newer = {"id": "new", "weight": 1, "groups": ["g"], "protocol": 2, "more": True}
    etcd.ctl("put", f"{prefix}10.0.0.6:8001", json.dumps(newer))
    wait_until(lambda: one.ids() == ["id1", "new"])


def test_no_member_is_lost_when_ten_start_at_once(etcd: Etcd, node_at: MakeNode) -> None:
    nodes = [node_at(etcd.url, start=False) for _ in range(10)]
    with ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(Node.start, nodes))
    addresses = {str(node.address) for node in nodes}
    assert len(addresses) == 10
    wait_until(lambda: all({str(member) for member in node.members()} == addresses for node in nodes))
    keys = [f"key{number}" for number in range(100)]
    wait_until(lambda: len({tuple(str(node.owner("g", key)) for key in keys) for node in nodes}) == 1)


def test_a_crash_is_noticed_when_the_lease_has_run_out(etcd: Etcd, processes: Processes, actor: Actor) -> None:
    """Notice the crash although a child that the process has forked is still alive."""
    stays, crashes = processes.make(2, registry=etcd.url, lease=SHORT)
    actor.do("lease", str(SHORT))
    actor.do("register", "forking", "parent")
    actor.fork()
    began = time.monotonic()
    crashes.kill()
    actor.kill()
    wait_until(lambda: stays.do("registered") == [], SHORT + 15.0)
    wait_until(lambda: etcd.entries("/services/forking/") == {}, SHORT + 15.0)
    assert time.monotonic() - began < SHORT + 2.0 + 4.0  # and the delays of a busy machine; less than LEASE
    wait_until(lambda: len(etcd.entries("/kamacache/test/nodes/")) == 1)
    stays.do("close")


@pytest.mark.parametrize("how", ["close", "leave"])
def test_a_clean_end_is_noticed_at_once(etcd: Etcd, processes: Processes, how: str) -> None:
    stays, goes = processes.make(2, registry=etcd.url)
    lease = etcd.leases(f"/services/test/{goes.address}").popitem()[1]
    began = time.monotonic()
    goes.send(how)
    wait_until(lambda: stays.do("registered") == [])
    assert time.monotonic() - began < 2.0 + 3.0  # and the delays of a busy machine
    wait_until(lambda: f"{lease:x}" not in etcd.ctl("lease", "list"))
    stays.do("close")


def test_a_forked_child_leaves_the_session_to_its_parent(etcd: Etcd, service: str, actor: Actor) -> None:
    """Begin a session of the child's own, and close that; its parent stays registered as it was."""
    actor.do("register", service, "parent")
    before = etcd.leases(f"/services/{service}/")
    actor.fork(service)
    assert actor.do("members", service) == ["parent"]
    assert etcd.leases(f"/services/{service}/") == before


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_joins_as_a_member_of_its_own(etcd: Etcd, service: str, node_at: MakeNode) -> None:
    node = node_at(etcd.url)
    before = etcd.leases(f"/services/{service}/")

    def work(tell: Callable[[Any], None]) -> None:
        assert node.groups["g"].get("k") == b"value of k"
        wait_until(lambda: len(node.members()) == 2)
        tell(node.address)
        signal.pause()

    child = Child(work)
    try:
        addresses = {str(node.address), child.told()}
        assert len(addresses) == 2
        wait_until(lambda: {str(member) for member in node.members()} == addresses)
        leases = etcd.leases(f"/services/{service}/")
        assert len(set(leases.values())) == 2
        assert before.items() <= leases.items()
    finally:
        os.close(child._end)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
