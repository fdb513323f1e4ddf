"""The budget of a node: the groups together never have more, and it goes to those whose evicted keys come back."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Group, Node
from kamacache._engine import POLICIES

MIB = 1 << 20
VALUE = bytes(1000)


@pytest.fixture
def node() -> Iterator[Node]:
    """Return a node with 4 MiB, whose sweeps the test calls."""
    node = Node(max_bytes="4 MiB")
    node.start()
    node._sweeper.close()
    yield node
    node.close()


def load(_: str) -> bytes:
    return VALUE


def shares(*groups: Group[Any]) -> list[int]:
    return [group.stats().max_bytes for group in groups]


def used(node: Node) -> int:
    total: int = sum(group.stats().bytes for group in node.groups.values())
    return total


def test_groups_begin_with_equal_shares_within_their_own_limits(node: Node) -> None:
    one = node.group("one", load)
    assert shares(one) == [4 * MIB]
    two = node.group("two", load, max_bytes="512 KiB")
    three = node.group("three", load)
    assert shares(one, two, three) == [7 * MIB // 4, MIB // 2, 7 * MIB // 4]
    three.close()
    assert shares(one, two) == [7 * MIB // 2, MIB // 2]
    two.close()
    assert shares(one) == [4 * MIB]


def test_without_a_budget_each_group_has_its_own() -> None:
    with Node() as node:
        assert shares(node.group("one", load), node.group("two", load, max_bytes="1 MiB")) == [64 * MIB, MIB]


def test_a_full_group_gives_room_to_a_new_one_at_once(node: Node) -> None:
    one = node.group("one", load)
    one.get_many(map(str, range(8_000)))
    assert 3 * MIB < one.stats().bytes <= 4 * MIB
    node.group("two", load)
    assert MIB < one.stats().bytes <= 2 * MIB
    assert one.stats().evictions > 0


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_goes_to_the_group_whose_evicted_keys_come_back(node: Node, policy: Any) -> None:
    """Let one group ask again and again for keys that fill 3 MiB, while another asks for each key once."""
    warm = node.group("warm", load, policy=policy)
    cold = node.group("cold", load, policy=policy)
    rng, number = random.Random(1), 0
    keys = [str(key) for key in range(2_500)]
    for _ in range(60):
        warm.get_many(rng.choices(keys, k=500))
        cold.get_many([str(number + each) for each in range(500)])
        number += 500
        node._sweeper.sweep()
        assert used(node) <= 4 * MIB
    assert warm.stats().max_bytes > 2.7 * MIB
    assert cold.stats().max_bytes >= MIB // 4
    before = warm.stats()
    warm.get_many(keys)
    assert warm.stats().loads - before.loads < 250

    # Now the other way round.
    for _ in range(60):
        cold.get_many(rng.choices(keys, k=500))
        warm.get_many([str(number + each) for each in range(500)])
        number += 500
        node._sweeper.sweep()
        assert used(node) <= 4 * MIB
    assert cold.stats().max_bytes > 2.5 * MIB


def test_a_group_never_has_more_than_its_own_limit(node: Node) -> None:
    small = node.group("small", load, max_bytes="1 MiB")
    other = node.group("other", load)
    rng = random.Random(1)
    for _ in range(20):
        small.get_many({str(rng.randrange(2_000)) for _ in range(500)})
        node._sweeper.sweep()
        assert small.stats().bytes <= small.stats().max_bytes <= MIB
        assert sum(shares(small, other)) <= 4 * MIB


def test_the_sum_holds_under_writes_loads_and_sweeps_from_many_threads(node: Node) -> None:
    groups: list[Group[bytes]] = [node.group(str(number), load) for number in range(3)]
    done = threading.Event()
    seen: list[int] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(150):
            group = rng.choice(groups)
            keys = [str(rng.randrange(3_000)) for _ in range(30)]
            if rng.random() < 0.3:
                group.set_many(dict.fromkeys(keys, bytes(rng.randrange(5_000))))
            else:
                group.get_many(keys)

    def sweep() -> None:
        while True:
            over = done.wait(0.002)
            node._sweeper.sweep()
            seen.append(sum(shares(*groups)))
            if over:
                return

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    sweeper = threading.Thread(target=sweep)
    for thread in (*threads, sweeper):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    sweeper.join()
    node._sweeper.sweep()
    assert used(node) <= sum(shares(*groups)) <= 4 * MIB
    assert max(seen) <= 4 * MIB


def test_recent_writes_are_not_squeezed(node: Node) -> None:
    """Writes are remembered for seconds and not evicted, so a share never falls below twice what they take."""
    written = node.group("written", load)
    for start in range(0, 8_000, 1_000):
        written.set_many({f"{number:0100}": b"" for number in range(start, start + 1_000)})
    remembered = written.stats().remembered_bytes
    assert remembered > MIB // 2
    wanted = node.group("wanted", load)
    for turn in range(40):
        wanted.get_many([str(number) for number in range(turn % 2 * 2_000, turn % 2 * 2_000 + 2_000)])
        node._sweeper.sweep()
        assert used(node) <= sum(shares(written, wanted)) <= 4 * MIB
    assert written.stats().max_bytes >= 2 * remembered
    assert written.stats().unremembered == 0


def test_a_forked_child_has_the_same_shares(node: Node) -> None:
    one, two = node.group("one", load), node.group("two", load)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, repr([*shares(one, two), one.get("k") == VALUE]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == repr([2 * MIB, 2 * MIB, True]).encode()
    os.close(reading)
    os.close(writing)
