"""The hand-over, under schedules decided by the test: while keys change their owner, no write is lost."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from kamacache import Node
from kamacache.net.messages import Hello
from kamacache.testing import HandOver, Network
from tests.cluster.cluster import in_thread, wait_until

KEYS = [f"key{number}" for number in range(300)]


class Source:
    def __init__(self, network: Network) -> None:
        self.network = network
        self.loads: Counter[str] = Counter()
        self.nodes: list[Node] = []

    def load(self, key: str) -> bytes | None:
        self.loads[key] += 1
        return None if key.endswith("0") else b"value of " + key.encode()

    def add(self, loader: bool = True) -> Any:
        node = Node(registry=self.network.registry(), lane=self.network.lane())
        self.nodes.append(node)
        group = node.group("g", self.load if loader else None, ttl="1h")
        node.start()
        return group


@pytest.fixture
def source() -> Any:
    source = Source(Network(hot=False))
    yield source
    for node in source.nodes:
        node.close(drain=0)


def entries(group: Any) -> int:
    return int(group._core.store.stats()["entries"])


def held(group: Any, key: str) -> Any:
    return group._core.store.find(key)


def owned(source: Source, node: Node) -> list[str]:
    return [key for key in KEYS if source.nodes[0].owner("g", key).id == node.id]


def carries(message: HandOver) -> bool:
    return len(message.encoded) > 100  # the first has no entries


def test_keys_that_change_their_owner_are_not_loaded_again(source: Source) -> None:
    first = source.add()
    expected = {key: b"value of " + key.encode() for key in KEYS if not key.endswith("0")}
    assert first.get_many(KEYS) == expected
    second = source.add()  # what it owns comes without a question
    wait_until(lambda: entries(second) == len(owned(source, source.nodes[1])) > 50)
    third = source.add()
    wait_until(lambda: entries(third) == len(owned(source, source.nodes[2])) > 50)
    versions = {key: first._core.store.known(key) for key in KEYS}
    for closing in source.nodes[:2]:
        closing.close()
    assert {key: held(third, key)[0] for key in KEYS} == dict.fromkeys(KEYS) | expected
    assert {key: third._core.store.known(key) for key in KEYS} == versions
    assert all(3000 < held(third, key)[2] <= 3600 for key in KEYS if not key.endswith("0"))
    assert third.get_many(KEYS) == expected
    assert set(source.loads.values()) == {1}


def test_a_write_at_the_next_owner_is_not_replaced_by_what_is_handed_over(source: Source) -> None:
    """Refuse an entry that was under way while its key was written.

    1. The leaver has said that it leaves, and sends entries that are held.
    2. Keys are set, deleted and counted at their next owner, which asks the leaver for those on terms.
    3. The entries arrive.
    """
    stays, leaves = source.add(loader=False), source.add(loader=False)
    mine = owned(source, source.nodes[1])
    setting, deleting, counting, adding, untouched = mine[:5]
    for key in (setting, deleting, adding, untouched):
        stays.set(key, b"old")
    assert [stays.incr(counting, initial=40) for _ in range(2)] == [41, 42]
    gate = source.network.gate(HandOver)
    matches = gate.matches
    gate.matches = lambda parcel: matches(parcel) and carries(parcel.message)  # type: ignore[arg-type]
    closing = in_thread(source.nodes[1].close)
    gate.wait()
    assert stays.set(setting, b"new") is True
    assert stays.delete(deleting) is True
    assert stays.incr(counting) == 43
    assert stays.add(adding, b"not applied") is False
    gate.open()
    closing.result(10)
    assert (stays.get(setting), stays.get(deleting), stays.get(counting)) == (b"new", None, 43)
    assert (stays.get(adding), stays.get(untouched)) == (b"old", b"old")
    assert leaves._core.store.closed


def test_a_write_on_the_way_to_a_leaver_reaches_the_next_owner(source: Source) -> None:
    """Refuse what comes after the own table has changed; the writer, which does not know yet, asks the next owner."""
    stays, _ = source.add(loader=False), source.add(loader=False)
    key, other = owned(source, source.nodes[1])[:2]
    stays.set(key, b"old")
    hello = source.network.gate(Hello, source=source.nodes[1].address)
    closing = in_thread(source.nodes[1].close)
    hello.wait()  # it has given up its keys, and nobody knows
    writing = in_thread(stays.set, key, b"new")
    counting = in_thread(lambda: stays.incr(other, initial=0))
    time.sleep(0.05)
    hello.open()
    closing.result(10)
    assert writing.result(10) in (True, False)
    assert (stays.get(key), counting.result(10)) == (b"new", 1)


def test_a_newcomer_asks_every_member_that_leaves(source: Source) -> None:
    """Keep counters while all members are replaced at once, as a server does that reloads.

    1. The first leaves: the second takes over what it has. Then the second leaves, and has no heir.
    2. Before the first has said goodbye, a third joins. By the table of the two, some of its keys were the first's.
    3. The third counts on before anything was handed over.
    """
    first, second = source.add(loader=False), source.add(loader=False)
    for key in KEYS[:50]:
        first.incr(key, initial=0)
    for node in source.nodes:
        node._membership._retiring = True
        node._membership.refresh()
        node._membership._retired.wait(_deadline())
        node._membership._handing.finish(_deadline())
    assert entries(second) == 50
    gate = source.network.gate(HandOver)
    third = source.add(loader=False)
    assert [third.incr(key, initial=0) for key in KEYS[:50]] == [2] * 50
    gate.open()
    source.nodes[1]._membership._handing.finish(_deadline())
    assert [third.incr(key, initial=0) for key in KEYS[:50]] == [3] * 50


def _deadline() -> Any:
    from kamacache.deadline import Deadline  # noqa: PLC0415 - for this alone

    return Deadline.after(5.0)


def test_a_member_that_is_alone_closes_at_once(source: Source) -> None:
    source.add().get_many(KEYS)
    began = time.monotonic()
    source.nodes[0].close(drain="30s")
    assert time.monotonic() - began < 5


def test_no_time_to_hand_over(source: Source) -> None:
    stays, leaves = source.add(), source.add()
    leaves.get_many(KEYS)
    sent = len(source.network.sent)
    source.nodes[1].close(drain=0)
    assert not any(isinstance(parcel.message, HandOver) for parcel in source.network.sent[sent:])
    assert stays.get("key1") == b"value of key1"


def test_a_member_that_closes_hands_over_to_members_that_stand_in_for_others(source: Source) -> None:
    """Pass over a member that was killed and is still on the list, as gets do. What is here of its keys stays."""
    killed, leaves, stays = (source.add(loader=False) for _ in range(3))
    address = str(source.nodes[0].address)
    assert killed is not None
    source.network.kill(address)
    for node in source.nodes[1:]:
        node._membership._exchange.again()
        node._membership.refresh()
        peers = node._membership.peers
        wait_until(lambda peers=peers: [peer.address for peer in peers.registered() if peer.dead] == [address])  # type: ignore[misc]
    for key in KEYS:
        stays.set(key, key.encode())
    assert 0 < entries(leaves) < len(KEYS)
    source.nodes[1].close()
    assert {key for key in KEYS if held(stays, key)[3] != stays._core.store.MAIN} == set()
    assert stays.get_many(KEYS) == {key: key.encode() for key in KEYS}
    assert all(key in stays for key in KEYS)


def test_an_owner_that_is_silent_is_not_waited_for(source: Source) -> None:
    stays, leaves, silent = (source.add() for _ in range(3))
    leaves.get_many(KEYS)
    moving = owned(source, source.nodes[1])
    source.network.freeze(str(source.nodes[2].address))
    began = time.monotonic()
    source.nodes[1].close(drain="30s")
    assert time.monotonic() - began < 15
    source.network.thaw(str(source.nodes[2].address))
    assert all(held(stays, key) for key in moving)  # it stands in for the silent one
    assert silent is not None
