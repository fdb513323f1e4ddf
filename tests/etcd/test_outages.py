"""etcd goes away and comes back, with its data or without: the cluster goes on, and every node is registered again."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kamacache import Node
from kamacache.registry.etcd import EtcdRegistry
from tests.cluster.cluster import wait_until
from tests.contract.actor import Actor
from tests.etcd.conftest import Registered
from tests.etcd.server import Etcd

MakeNode = Callable[..., Node]
Register = Callable[..., Registered]
LEASE = EtcdRegistry.lease
BACK = LEASE + 5.0  # seconds within which all are registered again, by the guarantee
SLACK = 10.0  # additional time for a busy machine
grpc = importlib.import_module("grpc")  # it has no types of its own

LONG = 60.0 if "KAMACACHE_SOAK" in os.environ else LEASE + 2.0


@contextmanager
def asked_meanwhile(nodes: list[Node]) -> Iterator[None]:
    """Ask every node for old and new keys all the time: no get fails, none waits long."""
    stop = threading.Event()
    errors: list[str] = []
    longest = [0.0]

    def ask(node: Node) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            key = f"{node.id}-{count}" if count % 2 else f"key{count % 50}"
            began = time.monotonic()
            try:
                if node.groups["g"].get(key) != f"value of {key}".encode():
                    errors.append(f"{key}: wrong value")
            except Exception as error:  # noqa: BLE001 - the test tells
                errors.append(repr(error))
            longest[0] = max(longest[0], time.monotonic() - began)
            stop.wait(0.002)

    threads = [threading.Thread(target=ask, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert longest[0] < 5.0


def see_each_other(nodes: list[Node]) -> bool:
    addresses = {str(node.address) for node in nodes}
    return all({str(member) for member in node.members()} == addresses for node in nodes)


def registered_in(etcd: Etcd, service: str) -> set[str]:
    prefix = f"/services/{service}/"
    return {key.removeprefix(prefix) for key in etcd.entries(prefix)}


def kill(etcd: Etcd) -> None:
    etcd.kill()
    etcd.start()


def restart(etcd: Etcd) -> None:
    etcd.stop()
    etcd.start()


def lose_all_data(etcd: Etcd) -> None:
    etcd.kill()
    etcd.wipe()
    etcd.start()


def delete_all_keys(etcd: Etcd) -> None:
    etcd.empty()


def be_down_for_long(etcd: Etcd) -> None:
    etcd.stop()
    time.sleep(LONG)
    etcd.start()


def freeze(etcd: Etcd) -> None:
    etcd.freeze()
    time.sleep(LONG / 3)  # longer than an answer is waited for
    etcd.thaw()
    etcd.wait()


@pytest.mark.parametrize(
    "outage",
    [
        kill,
        restart,
        lose_all_data,
        delete_all_keys,
        pytest.param(
            be_down_for_long,
            marks=pytest.mark.skipif(
                "KAMACACHE_SOAK" not in os.environ, reason="KAMACACHE_SOAK is not set: this takes 15 s"
            ),
        ),
        freeze,
    ],
)
def test_every_node_is_back_and_no_get_fails(
    etcd: Etcd, service: str, node_at: MakeNode, outage: Callable[[Etcd], None]
) -> None:
    nodes = [node_at(etcd.url) for _ in range(3)]
    addresses = {str(node.address) for node in nodes}
    wait_until(lambda: see_each_other(nodes))
    with asked_meanwhile(nodes):
        outage(etcd)
        wait_until(lambda: registered_in(etcd, service) == addresses, BACK + SLACK)
        wait_until(lambda: see_each_other(nodes), SLACK)
        late = node_at(etcd.url)  # the watches work as before
        nodes.append(late)
        wait_until(lambda: see_each_other(nodes), SLACK)
        wait_until(lambda: registered_in(etcd, service) == {str(node.address) for node in nodes})


def test_the_cluster_goes_on_with_the_members_it_knows(
    own_etcd: Etcd, service: str, node_at: MakeNode, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [node_at(own_etcd.url) for _ in range(2)]
    wait_until(lambda: see_each_other(nodes))
    own_etcd.kill()
    with asked_meanwhile(nodes):
        wait_until(lambda: "the registry does not answer" in caplog.text)
        time.sleep(2.5)  # longer than a member takes to be considered dead
        assert see_each_other(nodes)
        assert nodes[0].groups["g"].set("k", b"v") is True
        assert nodes[1].groups["g"].get("k") == b"v"
    assert caplog.text.count("the registry does not answer") == len(nodes)
    began = time.monotonic()
    for node in nodes:
        node.close(drain=0)  # with etcd away, too
    assert time.monotonic() - began < 2 * (2.0 + 3.0)


def test_a_node_starts_while_etcd_is_away(own_etcd: Etcd, node_at: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kamacache.start.JOIN_TIMEOUT", 1.0)
    own_etcd.kill()
    node = node_at(own_etcd.url, start=False)
    began = time.monotonic()
    assert node.groups["g"].get("k") == b"value of k"  # it starts by itself, and costs a second at most
    assert time.monotonic() - began < 1.0 + 4.0
    began = time.monotonic()
    node.start()
    assert time.monotonic() - began < 1.0 + 4.0
    assert node.groups["g"].set("k", b"v") is False  # it has not joined
    own_etcd.start()
    wait_until(lambda: node.groups["g"].set("k", b"v") is True, BACK)
    assert registered_in(own_etcd, node._options.service) == {str(node.address)}


def test_a_watch_that_slept_over_a_compaction(etcd: Etcd, service: str, actor: Actor, registered: Register) -> None:
    """Stop a process while etcd changes much and is compacted, so that its watch is cancelled."""
    actor.do("register", service, "sleeper")
    assert actor.do("members", service) == ["sleeper"]
    actor.freeze()
    with grpc.insecure_channel(f"127.0.0.1:{etcd.port}") as channel:
        put = channel.unary_unary("/etcdserverpb.KV/Put")
        for number in range(400):  # more than the buffers of a watch hold
            put(put_request(f"/kamacache/{service}/nodes/churn{number % 5}", bytes(64 << 10)), timeout=10)
    registered(etcd.url, 1)
    etcd.ctl("compact", str(etcd.revision()))
    actor.thaw()
    wait_until(lambda: actor.do("members", service) == ["id1", "sleeper"])
    wait_until(lambda: actor.do("is_calm"))
    seen = actor.do("changes")
    registered(etcd.url, 2)
    wait_until(lambda: actor.do("changes") > seen)  # notified by the watch: no call has asked for a list
    wait_until(lambda: actor.do("members", service) == ["id1", "id2", "sleeper"])


def put_request(key: str, value: bytes) -> bytes:
    """Return a PutRequest of etcd: fields 1 and 2, both bytes."""
    return field(1, key.encode()) + field(2, value)


def field(number: int, data: bytes) -> bytes:
    length, encoded = len(data), b""
    while length > 0x7F:
        encoded += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + encoded + bytes([length]) + data
