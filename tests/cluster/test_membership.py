"""The members, the owners of keys, and the effect of their changes on memory."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kamacache import Node, start
from kamacache._engine import Clock, Placement, Store
from kamacache.cluster import routes
from kamacache.cluster.membership import AWAY
from kamacache.errors import NodeClosed, PeerError, RegistryError
from kamacache.net.messages import Hello, LoadRequest, Member, TellRequest
from kamacache.serve.metrics import render
from kamacache.testing import HandOver, MemoryRegistry, Network, Peek
from tests.cluster.cluster import Cluster, in_thread, wait_until

KEYS = [f"key{number}" for number in range(100)]


class AwayRegistry(MemoryRegistry):
    """A registry that can be out of reach."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.away = True
        self.error: Exception = ConnectionRefusedError("the registry is away")
        self.takes = 0.0

    def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
        self._check()
        super().register(service, me, changed)

    def members(self, service: str) -> list[Member]:
        self._check()
        return super().members(service)

    def deregister(self) -> None:
        self._check()
        super().deregister()

    def _check(self) -> None:
        if self.away:
            time.sleep(self.takes)
            raise self.error


# -- joined ----------------------------------------------------------------------------------------------------------


def test_start_takes_five_seconds_however_long_the_registry_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network()
    registry = AwayRegistry(network)
    registry.takes = 0.3
    node = Node(registry=registry, lane=network.lane())
    waited: list[float] = []
    monkeypatch.setattr(node._membership._settled, "wait", lambda deadline: waited.append(deadline.left()))
    node.start()
    assert waited[0] <= 5.0 - 2 * registry.takes  # it was asked for the list, and to register
    node.close()


def test_start_returns_when_joined() -> None:
    """Wait in start until every member has answered a hello; then writes of the new node count."""
    with Cluster(2) as cluster:
        a, _ = cluster.nodes
        node = cluster.make()
        hello = cluster.network.gate(Hello, stage="reply", target=a.address)
        starting = in_thread(node.start)
        hello.wait()
        assert not starting.done()
        assert not node._membership.joined
        assert node.groups["g"].set("key", b"early") is False
        hello.open()
        starting.result(5)
        cluster.nodes.append(node)
        cluster.settle()
        assert node._membership.joined
        assert node.groups["g"].set("key", b"value") is True


def test_values_loaded_before_joining_live_near_ttl() -> None:
    with Cluster(2, near_ttl="5s", ttl="1h") as cluster:
        node = cluster.make()
        hello = cluster.network.gate(Hello, stage="reply")
        starting = in_thread(node.start)
        hello.wait()
        assert node.groups["g"].get("key") == b"old"
        found = node.groups["g"]._core.store.find("key")
        assert found is None or (found[2] is not None and found[2] <= 5)
        hello.open()
        starting.result(5)
        cluster.nodes.append(node)


def test_values_taken_over_before_joining_are_not_loaded_again() -> None:
    """Keep a copy for near_ttl at the new owner; the former owner keeps its own copy, and is asked once more."""
    with Cluster(2, near_ttl="5s", ttl=None) as cluster:
        a, b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        mine = [key for key in KEYS if a.owner("g", key).id == a.id]
        c = cluster.make()
        hello = cluster.network.gate(Hello, stage="reply")
        starting = in_thread(c.start)
        hello.wait()

        def taken() -> list[str]:
            return [key for key in mine if a.owner("g", key).id == b.owner("g", key).id == c.id]

        wait_until(taken)
        key = taken()[0]
        assert b.groups["g"].get(key) == b"old"  # c takes it from a
        cluster.advance(5.5)  # a asks c from now on
        assert a.groups["g"].get(key) == b"old"
        hello.open()
        starting.result(5)
        cluster.nodes.append(c)
        cluster.settle()
        cluster.advance(5.5)
        for group in cluster.groups:
            assert group.get(key) == b"old"
        assert cluster.source.loads[key] == 1
        found = c.groups["g"]._core.store.find(key)
        assert found is not None
        assert found[2:] == (None, Store.MAIN)


def test_unreachable_member_holds_up_a_start_for_two_probes(caplog: pytest.LogCaptureFixture) -> None:
    """Skip a member that cannot be reached; wait for one whose hellos alone are lost, 5 s at the most."""
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        assert b.address is not None
        cluster.network.freeze(b.address)
        began = time.monotonic()
        node = cluster.add()
        assert time.monotonic() - began < 4
        assert node._membership.joined
        assert [str(member) for member in node.members()] == [node.address, a.address]
        assert not [record for record in caplog.records if "has not joined" in record.message]


def test_start_without_a_registry_returns_unjoined_after_five_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log one warning and go on trying; the node joins once the registry is back."""
    assert start.JOIN_TIMEOUT == 5.0
    monkeypatch.setattr(start, "JOIN_TIMEOUT", 0.5)
    network = Network()
    registry = AwayRegistry(network)
    node = Node(registry=registry, lane=network.lane())
    group = node.group("g", lambda key: key.encode())
    try:
        with caplog.at_level(logging.WARNING, "kamacache"):
            began = time.monotonic()
            node.start()
            assert 0.4 < time.monotonic() - began < 4
        assert len([record for record in caplog.records if "has not joined" in record.message]) == 1
        assert not node._membership.joined
        assert group.get("key") == b"key"
        assert group.set("key", b"value") is False
        assert "kamacache_registry_up 0\n" in render(node._groups.cores, node._runtime)
        registry.away = False
        wait_until(lambda: node._membership.joined)
        assert "kamacache_registry_up 1\n" in render(node._groups.cores, node._runtime)
        assert group.set("key", b"value") is True
    finally:
        node.close(drain=0)


def test_registry_that_refuses_is_raised_by_start() -> None:
    class Unsafe(MemoryRegistry):
        def register(self, service: str, me: Member, changed: Callable[[], None]) -> None:
            raise RegistryError("not safe to use")

    network = Network()
    node = Node(registry=Unsafe(network), lane=network.lane())
    group = node.group("g", lambda key: key.encode())
    with pytest.raises(RegistryError, match="not safe"):
        node.start()
    assert group.get("key") == b"key"
    node.close(drain=0)


def test_registry_away_later_changes_nothing() -> None:
    """Go on with the known members (guarantee 5)."""
    network = Network()
    registries = [AwayRegistry(network) for _ in range(2)]
    nodes = []
    for registry in registries:
        registry.away = False
        node = Node(registry=registry, lane=network.lane())
        node.group("g", lambda key: key.encode())
        node.start()
        nodes.append(node)
    try:
        wait_until(lambda: all(len(node.members()) == 2 for node in nodes))
        for registry in registries:
            registry.away = True
        network.changed()
        time.sleep(0.2)  # the threads have tried to read the list
        assert all(len(node.members()) == 2 for node in nodes)
        assert nodes[0].groups["g"].set("key", b"value") is True
        assert nodes[1].groups["g"].get("key") == b"value"
    finally:
        for node in nodes:
            node.close(drain=0)


# -- views -----------------------------------------------------------------------------------------------------------


def test_all_agree_on_members_and_owners() -> None:
    with Cluster(4) as cluster:
        for node in cluster.nodes:
            assert node.members()[0].id == node.id
            assert {member.id for member in node.members()} == {other.id for other in cluster.nodes}
            assert {str(member) for member in node.members()} == {other.address for other in cluster.nodes}
            assert all(member.groups == ("g",) and member.weight == 1.0 for member in node.members())
        owners = [[node.owner("g", key).id for key in KEYS] for node in cluster.nodes]
        assert all(one == owners[0] for one in owners)
        assert set(owners[0]) == {node.id for node in cluster.nodes}


def test_members_considered_dead_are_not_shown() -> None:
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        probes = cluster.consider_dead(a, b)
        assert {member.id for member in a.members()} == {a.id, c.id}
        assert len(c.members()) == 3
        assert b.id not in {a.owner("g", key).id for key in KEYS}
        probes.open()
        wait_until(lambda: len(a.members()) == 3)
        assert [a.owner("g", key).id for key in KEYS] == [c.owner("g", key).id for key in KEYS]


def test_weights_share_the_keys() -> None:
    with Cluster(1) as cluster:
        a = cluster.nodes[0]
        b = cluster.add(weight=3.0)
        cluster.settle()
        shares = Counter(a.owner("g", f"key{number}").id for number in range(4000))
        assert shares[b.id] / 4000 == pytest.approx(0.75, abs=0.05)
        assert next(member for member in a.members() if member.id == b.id).weight == 3.0


def test_only_members_with_the_group_own_its_keys() -> None:
    """Ask a member without the group for nothing; it confirms writes, and owns keys once it has the group."""
    with Cluster(2) as cluster:
        a, b = cluster.nodes
        c = cluster.make(group=False)
        c.group("other", lambda key: key.encode())
        c.start()
        cluster.nodes.append(c)
        wait_until(lambda: len(a.members()) == len(b.members()) == 3)
        assert {a.owner("g", key).id for key in KEYS} == {a.id, b.id}
        a.groups["g"].get_many(KEYS)
        assert a.groups["g"].set("key0", b"value") is True
        to_c = [p for p in cluster.network.sent if p.target == c.address and isinstance(p.message, LoadRequest | Peek)]
        assert not [p for p in to_c if not isinstance(p.message, Peek) or p.message.keys]
        c.group("g", cluster.source.load, **cluster.options)
        wait_until(lambda: c.id in {a.owner("g", key).id for key in KEYS})
        cluster.settle()
        assert {c.owner("g", key).id for key in KEYS} == {a.id, b.id, c.id}
        assert c.owner("other", "key").id == c.id


def test_member_that_does_not_know_a_group_is_not_considered_dead() -> None:
    """Skip a member that answers "unknown group" for this key alone, as views may differ for a moment."""
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(b)
        registration = cluster.network.gate(Hello, source=b.address)
        b.groups["g"].close()
        assert a.groups["g"].get(key) == b"old"
        assert b.id in {member.id for member in a.members()}
        registration.open()
        wait_until(lambda: b.id not in {a.owner("g", key).id for key in KEYS})


def test_goodbye_is_noticed_at_once() -> None:
    with Cluster(3) as cluster:
        a, b, c = cluster.nodes
        c.close(drain=0)
        cluster.nodes.remove(c)
        assert {member.id for member in a.members()} == {member.id for member in b.members()} == {a.id, b.id}
        assert a.groups["g"].set("key", b"value") is True
        assert c.address not in {
            p.target for p in cluster.network.sent if isinstance(p.message, TellRequest) and p.stage == "request"
        }


def test_group_that_is_closed_while_its_owner_loads_fails_no_caller_elsewhere() -> None:
    """1. A asks B, the owner, to load. 2. B closes its group. 3. A goes on with the next in line, which is A itself."""
    with Cluster(2, use_async=True) as cluster:
        a, b = cluster.nodes
        key = cluster.key_of(b)
        hold = cluster.source.hold(key)
        asking = in_thread(a.groups["g"].get, key)
        hold.wait()
        b.groups["g"].close()
        assert asking.result(10.0) == b"old"
        hold.open()


# -- changes ---------------------------------------------------------------------------------------------------------


def join(cluster: Cluster) -> tuple[Node, list[str]]:
    """Add a member, and return it with the keys that it owns now."""
    node = cluster.add()
    cluster.settle()
    taken = [key for key in KEYS if cluster.nodes[0].owner("g", key).id == node.id]
    assert taken
    return node, taken


def test_joining_member_takes_keys_over_without_loading_them() -> None:
    """Ask the former owner for ten minutes, so that nothing is loaded twice."""
    with Cluster(2, ttl=None) as cluster:
        a, _b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        c, taken = join(cluster)
        for group in cluster.groups:
            assert group.get_many(KEYS) == dict.fromkeys(KEYS, b"old")
        assert cluster.source.loads == dict.fromkeys(KEYS, 1)
        store = c.groups["g"]._core.store
        assert all(found is not None and found[3] == Store.MAIN for key in taken for found in [store.find(key)])


def test_changes_in_a_row_make_no_member_load_again() -> None:
    """Find values that the former owner still holds, as the next owner was not asked for them before another change."""
    with Cluster(2, ttl=None) as cluster:
        a, _b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        c, _ = join(cluster)
        d, _ = join(cluster)
        taken = [key for key in KEYS if a.owner("g", key).id == c.id]
        assert c.groups["g"].get_many(taken) == dict.fromkeys(taken, b"old")
        d.close(drain=0)
        cluster.nodes.remove(d)
        cluster.settle()
        given_back = [key for key in KEYS if a.owner("g", key).id == c.id and key not in taken]
        assert given_back
        assert c.groups["g"].get_many(given_back) == dict.fromkeys(given_back, b"old")
        assert cluster.source.loads == dict.fromkeys(KEYS, 1)


def test_leaving_member_returns_the_keys_of_the_others() -> None:
    """Turn the former copies of a member into main copies again when the member that took its keys leaves."""
    with Cluster(2, ttl=None) as cluster:
        a, b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        c, taken = join(cluster)
        kinds = [
            found[3]
            for node in (a, b)
            for key in taken
            if (found := node.groups["g"]._core.store.find(key)) is not None
        ]
        assert set(kinds) <= {Store.FORMER, Store.NEAR}
        assert Store.FORMER in kinds
        c.close(drain=0)
        cluster.nodes.remove(c)
        cluster.settle()
        for group in cluster.groups:
            assert group.get_many(KEYS) == dict.fromkeys(KEYS, b"old")
        assert cluster.source.loads == dict.fromkeys(KEYS, 1)


def test_former_copies_are_served_here_for_near_ttl_and_kept_for_peeks() -> None:
    with Cluster(2, ttl=None, near_ttl="5s") as cluster:
        a, _b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        mine = [key for key in KEYS if a.owner("g", key).id == a.id]
        c, taken = join(cluster)
        key = next(key for key in mine if key in taken)
        assert a.groups["g"].peek(key) == b"old"
        cluster.advance(5)
        assert a.groups["g"].peek(key) is None
        assert c.groups["g"].get(key) == b"old"
        assert cluster.source.loads[key] == 1


def test_after_ten_minutes_the_former_owner_is_not_asked() -> None:
    """Hold the hand-over, so that the newcomer can only ask."""
    with Cluster(2, ttl=None) as cluster:
        cluster.network.gate(HandOver)
        a, _b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        mine = [key for key in KEYS if a.owner("g", key).id == a.id]
        c, taken = join(cluster)
        key, other = [key for key in mine if key in taken][:2]
        cluster.advance(599)
        assert c.groups["g"].get(key) == b"old"
        assert cluster.source.loads[key] == 1
        cluster.advance(2)
        assert c.groups["g"].get(other) == b"old"
        assert cluster.source.loads[other] == 2


def test_a_former_owner_too_slow_for_a_peek_is_not_considered_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """End a peek after a tenth of a second, as a busy machine may stand still for longer. The hand-over is held."""
    with Cluster(2, ttl=None) as cluster:
        cluster.network.gate(HandOver)
        a, _b = cluster.nodes
        a.groups["g"].get_many(KEYS)
        c, taken = join(cluster)
        key = next(key for key in taken if a.groups["g"]._core.store.find(key))
        lane = c._runtime.lane
        ask = lane.peek_many

        def ask_in_vain(asks: Any, group: str, *, former: bool = False) -> Any:
            return [PeerError("did not answer") for _ in asks] if former else ask(asks, group)

        monkeypatch.setattr(lane, "peek_many", ask_in_vain)
        assert c.groups["g"].get(key) == b"old"
        assert cluster.source.loads[key] == 2
        assert not [peer for peer in c._membership.peers.known() if peer.dead]


def test_stand_in_gives_way_when_the_owner_is_back() -> None:
    """Keep main copies for a dead owner at the next candidate; they are demoted when the owner answers again."""
    with Cluster(3, ttl=None) as cluster:
        key = "key"
        owner, first, second = cluster.line(key)
        gates = [cluster.consider_dead(node, owner) for node in (first, second)]
        assert cluster.group(second).get(key) == b"old"
        found = cluster.group(first)._core.store.find(key)
        assert found is not None
        assert found[3] == Store.MAIN
        for gate in gates:
            gate.open()

        def demoted() -> bool:
            found = cluster.group(first)._core.store.find(key)
            return found is not None and found[3] == Store.FORMER

        wait_until(demoted)
        assert cluster.source.loads[key] == 1


def test_restarted_process_at_the_same_address_is_another_member() -> None:
    """Greet the new process: its memory is empty."""
    network = Network()

    def make() -> Node:
        node = Node("unix:/memory/fixed", registry=network.registry(), lane=network.lane(), clock=Clock(manual=True))
        node.group("g", lambda key: key.encode(), ttl=None)
        return node

    other = Node(registry=network.registry(), lane=network.lane(), clock=Clock(manual=True))
    other.group("g", lambda key: key.encode(), ttl=None)
    other.start()
    first = make()
    try:
        first.start()
        wait_until(lambda: len(other.members()) == 2)
        network.kill("unix:/memory/fixed")
        second = make()
        second.start()
        wait_until(lambda: {member.id for member in other.members()} == {other.id, second.id})
        assert other.groups["g"].set("key", b"value") is True
        assert second.groups["g"].get("key") == b"value"
        second.close(drain=0)
    finally:
        other.close(drain=0)
        first.close(drain=0)  # what was killed is its place in the network: its thread logs to the tests that follow


def test_peers_are_suspected_once_and_probed_back_to_life() -> None:
    """Consider a member dead after a failed request; a probe and a hello revive it, with the writes that it missed."""
    with Cluster(3) as cluster:
        a, b, _ = cluster.nodes
        key = cluster.key_of(b)
        probes = cluster.consider_dead(a, b)
        hellos = cluster.network.gate(Hello, source=a.address, target=b.address)
        cluster.assert_serves(key, b"old")
        cluster.source.value = b"new"
        assert a.groups["g"].set(key, b"new") is False
        probes.open()
        hellos.wait()
        assert cluster.peer(a, b).dead
        hellos.open()
        wait_until(lambda: not cluster.peer(a, b).skipped)
        assert b.groups["g"].get(key) == b"new"


# -- a registry in trouble -------------------------------------------------------------------------------------------


class StrangeError(Exception):
    """The error of a database's client."""


@pytest.mark.parametrize("error", [RegistryError("unsafe"), OSError("away"), StrangeError("locked")], ids=repr)
def test_a_registry_in_trouble_is_logged_once(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Go on without filling the log, and log the end of the trouble, too."""
    network = Network()
    registry = AwayRegistry(network)
    registry.away, registry.error, registry.poll = False, error, 0.01
    node = Node(registry=registry, lane=network.lane())
    group = node.group("g", str.encode)
    with caplog.at_level(logging.INFO, "kamacache"):
        node.start()
        for _ in range(2):
            caplog.clear()
            registry.away = True
            wait_until(lambda: "the registry does not answer" in caplog.text)
            time.sleep(0.3)
            assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
            assert group.get("key") == b"key"
            registry.error = OSError("for another reason")
            wait_until(lambda: node._membership.troubles.all() == {AWAY: "for another reason"})
            registry.away, registry.error = False, error
            wait_until(lambda: "the registry answers again" in caplog.text)
            assert node._membership.troubles.all() == {}
        registry.away = True
        node.close()
    assert not node._membership._thread or not node._membership._thread.is_alive()
    with pytest.raises(NodeClosed):
        group.get("key")


@pytest.mark.parametrize("by_itself", [False, True])
def test_any_error_of_a_registry_at_the_start_is_tried_again(*, by_itself: bool) -> None:
    """Try again, in start and in a call that starts the node."""
    network = Network()
    registry = AwayRegistry(network)
    registry.error = StrangeError("locked")
    with_registry = Node(registry=registry, lane=network.lane())
    group = with_registry.group("g", str.encode)
    starting = in_thread((lambda: group.get("key")) if by_itself else with_registry.start)
    time.sleep(0.1)
    registry.away = False
    starting.result(10)
    wait_until(lambda: with_registry._membership.joined)
    with_registry.close()


# -- what the log says of members ------------------------------------------------------------------------------------


def test_joins_goodbyes_and_returns_are_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """Log one line for each, with the id and the address, and none for hellos in between."""

    def said(node: Node) -> list[str]:
        lines = (record.getMessage() for record in caplog.records if record.levelno == logging.INFO)
        return [line.replace(who, "") for line in lines if (who := f"node {node.id} at {node.address} ") in line]

    with caplog.at_level(logging.INFO, "kamacache"), Cluster(2) as cluster:
        a, b = cluster.nodes
        assert "this node, " in caplog.text
        assert f"{a.id} at {a.address}, has joined the service 'kamacache' with 0 other members" in caplog.text
        assert f"{b.id} at {b.address}, has joined the service 'kamacache' with 1 other members" in caplog.text
        assert (said(a), said(b)) == ([], ["has joined"])
        b.group("another", str.encode)  # every member is greeted anew
        wait_until(lambda: a._membership.peers.all()[0].member.groups == ("g", "another"))
        cluster.settle()
        assert (said(a), said(b)) == ([], ["has joined"])
        cluster.consider_dead(a, b).open()
        wait_until(lambda: cluster.is_up(a, b))
        assert (said(a), said(b)) == ([], ["has joined", "is back"])
        client = cluster.add(client=True)
        wait_until(lambda: len(said(client)) == 2)
        assert f"client node {client.id}" in caplog.text
        before = b
        b.close(drain=0)
        wait_until(lambda: len(said(before)) >= 3)
        assert said(before)[2:] == ["said goodbye"] * 2  # as A and the client have heard


def test_a_process_that_was_killed_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Log the end of a member that the registry knows to have ended, and that nobody had to find dead."""
    program = "import sys, time, kamacache; kamacache.Node(registry=sys.argv[1]).start(); time.sleep(60)"
    place = f"local://{tmp_path}"
    with caplog.at_level(logging.INFO, "kamacache"), Node(registry=place):
        other = subprocess.Popen([sys.executable, "-c", program, place])
        try:
            wait_until(lambda: "has joined\n" in caplog.text)
        finally:
            other.kill()
            other.wait(10)
        wait_until(lambda: re.search("has ended|is considered dead", caplog.text))


def test_groups_with_the_same_owners_share_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table takes milliseconds to make, at each change of the members; a group that others own has its own."""
    monkeypatch.setattr(routes, "Placement", Placement)  # which other tests share: see share_tables
    with Cluster(0) as cluster:
        for loads in (True, True, False):
            node = cluster.make(group=False)
            for name in ("a", "b", "c"):
                node.group(name, cluster.source.load if loads or name == "c" else None)
            node.start()
            cluster.nodes.append(node)
        cluster.settle()
        wait_until(lambda: all(len(node._runtime.route("c").peers) == 3 for node in cluster.nodes))
        for node in cluster.nodes:
            a, b, c = (node._runtime.route(name) for name in ("a", "b", "c"))
            assert a.placement is b.placement is not None
            assert c.placement is not a.placement
            assert (len(a.peers), len(c.peers)) == (2, 3)
