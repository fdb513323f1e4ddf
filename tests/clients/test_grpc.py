"""pb.KamaCache and grpc.health.v1 by grpcio, an independent client, with the bytes written by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped,unused-ignore]
import pytest

from kamacache import Node
from tests.clients.nodes import PATIENCE, Source, Trio, address, waiting
from tests.cluster.cluster import in_thread, wait_until

STATUS = grpc.StatusCode
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
Channel = Callable[[Node], Any]


@pytest.fixture
def channel() -> Iterator[Channel]:
    made: list[Any] = []

    def make(node: Node) -> Any:
        # Over a Unix socket grpcio calls the host by the socket's path, which HTTP/2 does not allow.
        made.append(grpc.insecure_channel(address(node), options=[("grpc.default_authority", "localhost")]))
        return made[-1]

    yield make
    for one in made:
        one.close()


def field(number: int, value: bytes) -> bytes:
    """Return a length-delimited field of protobuf."""
    head, length = bytes([number << 3 | 2]), len(value)
    while length > 127:
        head += bytes([length & 127 | 128])
        length >>= 7
    return head + bytes([length]) + value


def request(group: bytes, key: bytes, value: bytes = b"") -> bytes:
    return field(1, group) + field(2, key) + (field(3, value) if value else b"")


def call(channel: Any, method: str, message: bytes, timeout: float = PATIENCE) -> bytes:
    answer: bytes = channel.unary_unary(f"/pb.KamaCache/{method}")(message, timeout=timeout)
    return answer


def refusal(channel: Any, method: str, message: bytes, timeout: float = PATIENCE) -> tuple[Any, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, method, message, timeout)
    return raised.value.code(), raised.value.details()


def test_known_bytes(trio: Trio, channel: Channel) -> None:
    channels = [channel(node) for node in trio.nodes]
    for one in channels:
        assert call(one, "Get", b"\n\x05users\x12\x01k") == b"\n\x0avalue of k"
        assert call(one, "Set", b"\n\x05plain\x12\x01k\x1a\x02\xff\x00") == b"\n\x02\xff\x00"
        assert [call(other, "Get", b"\n\x05plain\x12\x01k") for other in channels] == [b"\n\x02\xff\x00"] * 3
        assert call(one, "Delete", b"\n\x05plain\x12\x01k") == b"\x08\x01"
        assert call(one, "Delete", b"\n\x05plain\x12\x01k") == b"\x08\x01"
        assert refusal(one, "Get", b"\n\x05plain\x12\x01k") == (STATUS.NOT_FOUND, "no such key")
        assert call(one, "Get", b"\n\x05users\x12\x05empty") == b""
    assert trio.source.loads == {"k": 1, "empty": 1}


def test_a_node_that_forwards_is_answered_by_any_node(trio: Trio, channel: Channel) -> None:
    """Answer like an owner, as a Go node considers any node the owner; its Delete ends at this node."""
    owner, other = trio.nodes[0], trio.nodes[1]
    for prefix, where in (("a", owner), ("b", other)):
        key = trio.key_of(owner, prefix)
        message, value = request(b"users", key.encode()), field(1, b"value of " + key.encode())
        assert call(channel(where), "Get", message) == value
        assert owner.groups["users"].peek(key) is not None
        for node in trio.nodes:
            assert call(channel(node), "Get", message) == value
        assert call(channel(where), "Delete", message) == b"\x08\x01"
        assert [node.groups["users"].peek(key) for node in trio.nodes] == [None] * 3
        assert call(channel(where), "Get", message) == value
        assert trio.source.loads[key] == 2


def test_statuses(tcp_trio: Trio, channel: Channel) -> None:
    for node in tcp_trio.nodes:
        one = channel(node)
        for method in ("Get", "Set", "Delete"):
            assert refusal(one, method, request(b"", b"k"))[0] is STATUS.INVALID_ARGUMENT
            assert refusal(one, method, request(b"users", b""))[0] is STATUS.INVALID_ARGUMENT
            assert refusal(one, method, request(b"users", b"k" * 65_537))[0] is STATUS.INVALID_ARGUMENT
            assert refusal(one, method, request(b"strangers", b"k"))[0] is STATUS.NOT_FOUND
        assert refusal(one, "Get", request(b"users", b"none"))[0] is STATUS.NOT_FOUND
        assert refusal(one, "Get", request(b"users", b"bad")) == (STATUS.INTERNAL, "SecretError")
        assert refusal(one, "Set", request(b"docs", b"k", b"{"))[0] is STATUS.INVALID_ARGUMENT
        assert refusal(one, "Set", request(b"plain", b"k", bytes((1 << 20) + 1)))[0] is STATUS.INVALID_ARGUMENT
        assert refusal(one, "Set", request(b"plain", b"k", bytes(2 << 20)))[0] is STATUS.RESOURCE_EXHAUSTED
        assert refusal(one, "Fly", request(b"users", b"k"))[0] is STATUS.UNIMPLEMENTED
        for unknown in ("/kamacache.v1.Peer/HandOver", "/pb.Fly/Get", "/Get"):
            with pytest.raises(grpc.RpcError) as raised:
                one.unary_unary(unknown)(b"", timeout=PATIENCE)
            assert raised.value.code() is STATUS.UNIMPLEMENTED
        assert refusal(one, "Get", b"\xff\xff\xff")[0] is STATUS.INTERNAL  # no message of protobuf
        assert call(one, "Set", request(b"plain", b"k", bytes(1 << 20))) == field(1, bytes(1 << 20))
        assert call(one, "Get", request(b"plain", b"k")) == field(1, bytes(1 << 20))


def test_a_client_that_gives_up_is_dropped(trio: Trio, channel: Channel) -> None:
    """Drop a client at its deadline, or when it cancels; the load goes on for others."""
    node = trio.nodes[0]
    one = channel(node)
    message = request(b"users", b"slow")
    assert refusal(one, "Get", message, 0.2)[0] is STATUS.DEADLINE_EXCEEDED
    assert trio.source.slow.acquire(timeout=PATIENCE)
    wait_until(lambda: not waiting(node), PATIENCE)
    future = one.unary_unary("/pb.KamaCache/Get").future(message, timeout=PATIENCE)
    wait_until(lambda: waiting(node) == 1, PATIENCE)
    future.cancel()
    wait_until(lambda: not waiting(node), PATIENCE)
    got = in_thread(call, one, "Get", message)
    wait_until(lambda: waiting(node) == 1, PATIENCE)
    trio.source.go_on.set()
    assert got.result(PATIENCE) == b"\n\x0dvalue of slow"
    assert trio.source.loads == {"slow": 1}


def test_many_calls_on_one_connection(trio: Trio, channel: Channel) -> None:
    channels = [channel(node) for node in trio.nodes]
    names = [f"k{number}".encode() for number in range(100)]

    def get(number: int) -> bytes:
        return call(channels[number % 3], "Get", request(b"users", names[number % 100]))

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(get, range(600)))
    assert answers == [field(1, b"value of " + names[number % 100]) for number in range(600)]
    assert trio.source.loads == {name.decode(): 1 for name in names}


def check(channel: Any, service: bytes = b"") -> bytes:
    message = field(1, service) if service else b""
    answer: bytes = channel.unary_unary("/grpc.health.v1.Health/Check")(message, timeout=PATIENCE)
    return answer


def test_health(trio: Trio, channel: Channel) -> None:
    for node in trio.nodes:
        one = channel(node)
        cluster = node._options.service.encode()
        assert [check(one, name) for name in (b"", b"pb.KamaCache", b"kamacache.v1.Peer", cluster)] == [SERVING] * 4
        with pytest.raises(grpc.RpcError) as raised:
            check(one, b"strange.Service")
        assert raised.value.code() is STATUS.NOT_FOUND


def test_health_while_draining(tmp_path: Path, channel: Channel) -> None:
    source = Source()
    node = Node(f"unix:{tmp_path}/node.sock")
    node.group("users", source.load)
    node.start()
    one = channel(node)
    watched = one.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=PATIENCE)
    assert next(watched) == SERVING
    got = in_thread(call, one, "Get", request(b"users", b"slow"))
    assert source.slow.acquire(timeout=PATIENCE)
    closing = threading.Thread(target=node.close, args=(PATIENCE,))
    closing.start()
    assert next(watched) == NOT_SERVING
    assert check(one) == NOT_SERVING
    watched.cancel()
    source.go_on.set()
    assert got.result(PATIENCE) == b"\n\x0dvalue of slow"
    closing.join(PATIENCE)


def test_health_before_the_node_has_joined(tmp_path: Path, channel: Channel) -> None:
    """Report health while a member that accepts but never answers delays the joining of the others."""
    node = Node(registry=f"local://{tmp_path}/reg")
    node.group("users", Source().load)
    node._membership.peers.settled = lambda: False  # type: ignore[method-assign]
    starting = threading.Thread(target=node.start)
    starting.start()
    wait_until(lambda: node.address is not None, PATIENCE)
    one = channel(node)
    assert check(one) == NOT_SERVING
    del node._membership.peers.settled
    wait_until(lambda: check(one) == SERVING, PATIENCE)
    starting.join(PATIENCE)
    node.close()
