"""Real nodes on TCP ports of this machine, that know each other from the start, and a peer by hand."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kamacache import Node
from kamacache._engine import Incoming, Pipeline, Transport
from kamacache.errors import PeerError
from kamacache.net.messages import Hello, Member
from tests.cluster.cluster import PATIENCE, wait_until
from tests.unit.wire import connected

HELLO = Hello(Member("stranger", None), 1, [])


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def nodes(*options: dict[str, Any]) -> Iterator[list[Node]]:
    """Make one node for each, all on one list, not started."""
    ports = free_ports(len(options))
    registry = "static://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    made: list[Node] = []
    try:
        for port, given in zip(ports, options, strict=True):
            made.append(Node(f"127.0.0.1:{port}", registry=registry, **given))
        yield made
    finally:
        for node in made:
            node.close(drain=0)


def start_all(*members: Node) -> None:
    """Start all nodes at once, and wait until each knows all others."""
    threads = [threading.Thread(target=node.start) for node in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: all(len(node.members()) == len(members) for node in members))


def owned_by(node: Node, group: str, owner: Node) -> str:
    """Return a key of the group that `owner` owns, as `node` sees it."""
    return next(f"key{n}" for n in range(10_000) if node.owner(group, f"key{n}").address == owner.address)


def drive(pipeline: Pipeline, answers: int = 1) -> list[tuple[Any, list[Any]]]:
    """Write and read, as an event loop does, until that many answers are there, or PeerError."""
    found: list[tuple[Any, list[Any]]] = []
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        selector.register(pipeline.fileno(), selectors.EVENT_READ)
        while len(found) < answers:
            assert time.monotonic() < deadline, "no answer"
            done = pipeline.flush()
            events = selectors.EVENT_READ | (0 if done else selectors.EVENT_WRITE)
            selector.modify(pipeline.fileno(), events)
            selector.select(0.1)
            found += pipeline.receive()
            pipeline.resume()
    return found


def hello_from(server: Transport, client: Transport, address: str) -> Any:
    """Return the answer to a hello over gRPC: the server's own, or an error."""
    client.call("hello", address, HELLO, 5.0)
    event = server.next_event(0.2)
    while not isinstance(event, Incoming):
        ended = client.next_event(0.05)
        if ended is not None:
            assert isinstance(ended, tuple)
            return ended[1]
        event = server.next_event(0.2)
    assert isinstance(event.message, Hello)
    event.reply(event.message)
    ended = client.next_event(PATIENCE)
    assert isinstance(ended, tuple)
    return ended[1]


def all_ways(server: Transport, client: Transport, at: str) -> list[PeerError]:
    """Return how each way to a peer fails: PeerErrors in the order ping, peek, peek_many, pipeline, hello."""
    errors: list[Any] = []
    with pytest.raises(PeerError) as caught:
        client.ping(at, 5.0)
    errors.append(caught.value)
    with pytest.raises(PeerError) as caught:
        client.peek(at, "users", "k", False, 5.0)
    errors.append(caught.value)
    errors.append(client.peek_many([(at, ["k"])], "users", False, 5.0)[0])
    pipeline = connected(client, at)
    pipeline.ask("token", "users", ["k"], False)
    with pytest.raises(PeerError) as caught:
        drive(pipeline)
    errors.append(caught.value)
    pipeline.close()
    errors.append(hello_from(server, client, at))
    assert all(isinstance(error, PeerError) for error in errors), errors
    return errors
