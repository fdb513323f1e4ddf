"""The fixtures for pytest, as this session itself has found them, and the cost of the plugin for others."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from kamacache import Clock, Node
from kamacache.net.messages import TellRequest
from kamacache.testing import MakeCluster
from tests.cluster.cluster import in_thread

_nodes: list[Node] = []


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_a_node_of_its_own_which_is_alone(
    kamacache_node: Node, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAMACACHE_REGISTRY", "local://")
    group = kamacache_node.group("g", str.encode)
    assert group.get("k") == b"k"
    assert group.stats().loads == 1
    assert (kamacache_node.address, len(kamacache_node.members())) == (None, 1)
    assert all("closed" in repr(node) for node in _nodes)
    _nodes.append(kamacache_node)


def test_the_clock_is_that_of_the_node(kamacache_node: Node, kamacache_clock: Clock) -> None:
    group = kamacache_node.group("g", str.encode, ttl="1m", jitter=0)
    group.get("k")
    kamacache_clock.advance(59)
    assert group.peek("k") == b"k"
    kamacache_clock.advance(1)
    assert group.peek("k") is None


@pytest.fixture
def warm(kamacache_node: Node) -> Node:
    kamacache_node.group("g", str.encode, ttl="1m").get("k")
    return kamacache_node


def test_the_clock_may_be_asked_for_after_the_node(warm: Node, kamacache_clock: Clock) -> None:
    kamacache_clock.advance(61)
    assert warm.groups["g"].peek("k") is None


def test_a_cluster_loads_each_key_once(kamacache_cluster: MakeCluster) -> None:
    loads: Counter[str] = Counter()

    def load(key: str) -> bytes:
        loads[key] += 1
        return key.encode()

    def make_groups(node: Node) -> None:
        node.group("g", load)

    nodes = kamacache_cluster(3, make_groups)
    assert [len(node.members()) for node in nodes] == [3, 3, 3]
    keys = [str(number) for number in range(20)]
    for node in nodes:
        assert node.groups["g"].get_many(keys) == {key: key.encode() for key in keys}
    assert loads == Counter(keys)
    assert {nodes[0].owner("g", key).id for key in keys} <= {node.id for node in nodes}

    (fourth,) = kamacache_cluster(1, make_groups)
    assert len(fourth.members()) == 4


def test_a_cluster_has_a_network_with_gates_and_one_clock(
    kamacache_cluster: MakeCluster, kamacache_clock: Clock
) -> None:
    first, second = kamacache_cluster(2, lambda node: node.group("g", str.encode, ttl="1m", jitter=0))
    own = next(key for key in map(str, range(1000)) if first.owner("g", key).id == first.id)
    gate = kamacache_cluster.network.gate(TellRequest, target=second.address)
    writing = in_thread(first.groups["g"].set, own, b"v")
    gate.wait()
    assert not writing.done()
    gate.open()
    assert writing.result(10) is True
    kamacache_clock.advance(61)
    assert first.groups["g"].peek(own) is None


def test_the_plugin_imports_nothing_of_the_library() -> None:
    program = "import sys, pytest, kamacache_pytest; print([name for name in sys.modules if 'kama' in name])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['kamacache_pytest']\n"
