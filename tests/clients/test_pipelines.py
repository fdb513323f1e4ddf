"""Commands that a client sends without waiting for answers: some run together, and their number is limited."""

from __future__ import annotations

import socket

from tests.clients.nodes import PATIENCE, Trio, bulk, command, connect, expect, until_closed, waiting
from tests.cluster.cluster import wait_until

TOGETHER = 16  # keys of one connection
SLOW = [b"slow%d" % number for number in range(TOGETHER)]


def value(key: bytes) -> bytes:
    return bulk(b"value of " + key)


def get(*keys: bytes) -> bytes:
    return b"".join(command(b"GET", b"users:" + key) for key in keys)


def begun(trio: Trio, loads: int) -> None:
    """Wait until so many slow loads run at once, and the engine can do no more before one of them ends."""
    for _ in range(loads):
        assert trio.source.slow.acquire(timeout=PATIENCE)
    with connect(trio.nodes[0]) as other:
        other.sendall(command(b"PING"))
        expect(other, b"+PONG\r\n")


def test_reads_run_together_and_are_answered_in_order(trio: Trio) -> None:
    big = b"x" * (300 << 10)
    trio.nodes[0].groups["plain"].set("big", big)
    with connect(trio.nodes[0]) as wire:
        wire.sendall(
            get(*SLOW[:3], b"bad", b"none")
            + command(b"GET", b"plain:big") * 5  # found in memory, mostly, and more than may be held
            + command(b"GET", b"strangers:k")
            + command(b"MGET", b"users:slow3", b"users:none", b"users:slow4")
            + get(SLOW[0], SLOW[5])
        )
        begun(trio, 3)
        trio.source.go_on.set()
        expect(wire, b"".join(map(value, SLOW[:3])) + b"-LOADERR SecretError\r\n$-1\r\n")
        expect(wire, bulk(big) * 5 + b"-NOGROUP no group 'strangers' here\r\n")
        expect(wire, b"*3\r\n" + value(b"slow3") + b"$-1\r\n" + value(b"slow4") + value(SLOW[0]) + value(SLOW[5]))
    assert trio.source.loads["slow0"] == 1


def test_later_commands_join_loads_under_way(trio: Trio) -> None:
    with connect(trio.nodes[0]) as wire:
        for key in SLOW:
            wire.sendall(get(key))
            begun(trio, 1)
        trio.source.go_on.set()
        expect(wire, b"".join(map(value, SLOW)))


def test_a_write_waits_for_all_before_it_and_holds_back_all_after_it(trio: Trio) -> None:
    node = trio.nodes[0]
    with connect(node) as wire:
        wire.sendall(
            get(SLOW[0], SLOW[1])
            + command(b"SET", b"plain:k", b"v")
            + command(b"GET", b"plain:k")
            + command(b"DEL", b"plain:k")
            + command(b"GET", b"plain:k")
            + command(b"PING")
        )
        begun(trio, 2)
        assert waiting(node) == 2
        assert node.groups["plain"].get("k") is None
        trio.source.go_on.set()
        expect(wire, value(SLOW[0]) + value(SLOW[1]) + b"+OK\r\n" + bulk(b"v") + b":1\r\n$-1\r\n+PONG\r\n")


def test_a_command_that_reads_memory_sees_earlier_loads(trio: Trio) -> None:
    key = b"users:" + SLOW[0]
    look = command(b"TTL", key) + command(b"EXISTS", key, key) + command(b"PTTL", key)
    with connect(trio.nodes[0]) as wire:
        wire.sendall(look + get(SLOW[0]) + look)
        begun(trio, 1)
        trio.source.go_on.set()
        expect(wire, b":-2\r\n:0\r\n:-2\r\n" + value(SLOW[0]) + b":-1\r\n:2\r\n:-1\r\n")


def test_hello_changes_later_replies_alone(trio: Trio) -> None:
    with connect(trio.nodes[0]) as wire:
        wire.sendall(get(SLOW[0], b"none") + command(b"HELLO", b"3") + get(b"none") + command(b"QUIT"))
        begun(trio, 1)
        trio.source.go_on.set()
        expect(wire, value(SLOW[0]) + b"$-1\r\n%7\r\n")
        assert until_closed(wire).endswith(b"\r\n_\r\n+OK\r\n")


def test_an_error_of_the_protocol_comes_last(trio: Trio) -> None:
    with connect(trio.nodes[0]) as wire:
        wire.sendall(get(*SLOW[:2]) + b"GET users:k\r\n" + get(b"k"))
        begun(trio, 2)
        trio.source.go_on.set()
        expect(wire, value(SLOW[0]) + value(SLOW[1]) + b"-ERR Protocol error: ")
        until_closed(wire)
    assert "k" not in trio.source.loads


def test_only_so_many_are_under_way(trio: Trio) -> None:
    node, keys = trio.nodes[0], [b"slow%d" % number for number in range(100)]
    many = [b"slow%d" % number for number in range(100, 130)]
    with connect(node) as wire:
        wire.sendall(get(*keys) + command(b"MGET", *(b"users:" + key for key in many)))
        begun(trio, TOGETHER)
        assert waiting(node) == TOGETHER
        assert len(trio.source.loads) == TOGETHER
        trio.source.go_on.set()
        expect(wire, b"".join(map(value, keys)) + b"*30\r\n" + b"".join(map(value, many)))


def test_excess_bytes_stay_in_the_socket(trio: Trio) -> None:
    """Read 64 KiB ahead in the engine; the system holds the rest."""
    asked = get(SLOW[0]) * 1000
    accepted = 0
    with connect(trio.nodes[0]) as wire:
        wire.settimeout(1)
        while accepted < 64 << 20:
            try:
                accepted += wire.send(asked)
            except TimeoutError:
                break
    assert accepted < 32 << 20


def test_a_client_that_leaves_cancels_all_its_questions(trio: Trio) -> None:
    node = trio.nodes[0]
    with connect(node) as wire:
        wire.sendall(get(*SLOW) + command(b"SET", b"plain:k", b"v"))
        begun(trio, TOGETHER)
        assert waiting(node) == TOGETHER
        wire.shutdown(socket.SHUT_WR)
        wait_until(lambda: not waiting(node), PATIENCE)
    trio.source.go_on.set()
    assert node.groups["users"].get("slow0") == b"value of slow0"
    assert node.groups["plain"].get("k") is None
    assert max(trio.source.loads.values()) == 1
